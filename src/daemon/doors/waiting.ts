import { type Entry, nameOf } from '../../gate/firewall'

/** What has become of an opening, or of an end. `ended`: closed, revoked or over before it was in force. */
export type Outcome = 'in force' | 'ended' | { readonly failed: string }

/** Somebody who waits for an entry to be in force, or to be gone. */
export interface Waiter {
  readonly entry: Entry
  readonly for: 'in force' | 'gone'
}

type Told = Waiter & { readonly resolve: (outcome: Outcome) => void }

/** Who waits for what becomes of entries: each is told once. */
export class Waiting {
  /** By {@link nameOf}: an administrator may wait for the ends of thousands. */
  readonly #waiters = new Map<string, readonly Told[]>()

  get isEmpty(): boolean {
    return this.#waiters.size === 0
  }

  /** Resolves when {@link Waiting.tell}, {@link Waiting.fail} or {@link Waiting.failOf} tells. */
  add(waiter: Waiter): Promise<Outcome> {
    const name = nameOf(waiter.entry)
    return new Promise((resolve) => this.#waiters.set(name, [...(this.#waiters.get(name) ?? []), { ...waiter, resolve }]))
  }

  /** Tells those whose outcome is known. @param outcomeOf null: it is not */
  tell(outcomeOf: (waiter: Waiter) => Outcome | null): void {
    for (const name of this.#waiters.keys()) this.#tellOf(name, outcomeOf)
  }

  /** Tells those who are meant that it could not be done. */
  fail(isMeant: (waiter: Waiter) => boolean, why: string): void {
    this.tell((waiter) => (isMeant(waiter) ? { failed: why } : null))
  }

  /** Tells those who wait for an entry that it could not be done. @returns whether there was anybody */
  failOf(entry: Entry, why: string): boolean {
    return this.#tellOf(nameOf(entry), () => ({ failed: why }))
  }

  /** @returns whether anybody was told */
  #tellOf(name: string, outcomeOf: (waiter: Waiter) => Outcome | null): boolean {
    const before = this.#waiters.get(name) ?? []
    const left = before.filter((waiter) => {
      const outcome = outcomeOf(waiter)
      if (outcome) waiter.resolve(outcome)
      return !outcome
    })
    if (left.length > 0) this.#waiters.set(name, left)
    else this.#waiters.delete(name)
    return left.length < before.length
  }
}
