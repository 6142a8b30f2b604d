import type { Entry } from '../../gate/firewall'

/** What has become of an opening, or of an end. `ended`: closed, revoked or over before it was in force. */
export type Outcome = 'in force' | 'ended' | { readonly failed: string }

/** Somebody who waits for an entry to be in force, or to be gone. */
export interface Waiter {
  readonly entry: Entry
  readonly for: 'in force' | 'gone'
}

/** Who waits for what becomes of entries: each is told once. */
export class Waiting {
  #waiters: (Waiter & { readonly resolve: (outcome: Outcome) => void })[] = []

  get isEmpty(): boolean {
    return this.#waiters.length === 0
  }

  /** Resolves when {@link Waiting.tell} or {@link Waiting.fail} tells. */
  add(waiter: Waiter): Promise<Outcome> {
    return new Promise((resolve) => this.#waiters.push({ ...waiter, resolve }))
  }

  /** Tells those whose outcome is known. @param outcomeOf null: it is not */
  tell(outcomeOf: (waiter: Waiter) => Outcome | null): void {
    this.#waiters = this.#waiters.filter((waiter) => {
      const outcome = outcomeOf(waiter)
      if (outcome) waiter.resolve(outcome)
      return !outcome
    })
  }

  /** Tells those who are meant that it could not be done. @returns whether there was anybody */
  fail(isMeant: (waiter: Waiter) => boolean, why: string): boolean {
    const before = this.#waiters.length
    this.tell((waiter) => (isMeant(waiter) ? { failed: why } : null))
    return this.#waiters.length < before
  }
}
