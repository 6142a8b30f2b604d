/** The state is written anew for counters alone, and touched, so often, in milliseconds. */
const COUNTERS = 10_000
const TOUCH = 5_000
/** After a write it rests for so many times as long as that took: with 65,536 leases, it takes a tenth of a second. */
const REST = 20
/** It rests no longer than that, in milliseconds: on a busy machine, too, a list of leases is of now. */
const LONGEST_REST = 2_000

/** By what it is told that a state has changed: another number where it has. */
export interface Mark {
  /** Leases, keys, knocks, hearing. */
  readonly what: string
  readonly counters: number
}

/** Decides when a state is to be written: soon, and never so often that a daemon does little else. Times are steady milliseconds. */
export class Pace {
  #mark: Mark = { what: '', counters: -1 }
  #wrote = -Infinity
  #touched = -Infinity
  #notBefore = -Infinity

  /** What is due; null: nothing. @param steady milliseconds */
  due(mark: Mark, steady: number): 'write' | 'touch' | null {
    const isOther = mark.what !== this.#mark.what || (mark.counters !== this.#mark.counters && steady - this.#wrote >= COUNTERS)
    if (isOther && steady >= this.#notBefore) return 'write'
    return steady - this.#touched >= TOUCH ? 'touch' : null
  }

  /** Notes that it was written. @param mark what it was when that began */
  wrote(mark: Mark, began: number, ended: number): void {
    this.#mark = mark
    this.#wrote = this.#touched = ended
    this.#notBefore = ended + Math.min(REST * (ended - began), LONGEST_REST)
  }

  touched(steady: number): void {
    this.#touched = steady
  }

  /** Notes that it could not be written, or is gone: it is tried again as often as it is touched. */
  failed(steady: number): void {
    this.#mark = { what: '', counters: -1 }
    this.#touched = steady
    this.#notBefore = steady + TOUCH
  }
}
