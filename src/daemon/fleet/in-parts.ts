/** So many have their turn before all else that waits: to read a row, and to check its code, takes up to a tenth of a millisecond. */
const PART = 256

/** Deals with many things, a part of them at a time: etcd may have all at once, and knocks are heard meanwhile. */
export class InParts {
  readonly #act: (name: string) => void
  readonly #waiting = new Set<string>()
  #next: NodeJS.Immediate | undefined

  constructor(act: (name: string) => void) {
    this.#act = act
  }

  /** Deals with the first of them now, and soon with the rest. What waits already waits once. */
  ask(names: Iterable<string>): void {
    for (const name of names) this.#waiting.add(name)
    if (this.#next === undefined) this.#part()
  }

  #part(): void {
    this.#next = undefined
    let left = PART
    for (const name of this.#waiting) {
      if (left-- === 0) break
      this.#waiting.delete(name)
      this.#act(name)
    }
    if (this.#waiting.size > 0) this.#next = setImmediate(() => this.#part())
  }

  /** Lets go of what still waits. */
  end(): void {
    clearImmediate(this.#next)
    this.#waiting.clear()
  }
}
