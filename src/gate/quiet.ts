/** Names that are remembered; beyond that, the oldest is forgotten and may be said again. */
const MAX_NAMES = 4_096

/** Keeps a log from being filled by others: each thing is said once in a while. */
export class Quiet {
  readonly #every: number
  readonly #said = new Map<string, number>()

  /** @param every milliseconds between two lines about the same thing */
  constructor(every: number) {
    this.#every = every
  }

  /** Whether to speak about it now. @param steady milliseconds on a monotonic clock */
  may(name: string, steady: number): boolean {
    const last = this.#said.get(name)
    if (last !== undefined && steady - last < this.#every) return false
    this.#said.delete(name)
    this.#said.set(name, steady)
    if (this.#said.size > MAX_NAMES) this.#said.delete(this.#said.keys().next().value as string)
    return true
  }
}
