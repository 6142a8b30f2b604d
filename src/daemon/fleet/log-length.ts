import type { Etcd } from './etcd/etcd'

/** Beats in a row at which etcd's log is shorter than it was, by which it is another one: a member that was behind is not by the second one. */
const ENOUGH = 2
/** Milliseconds for which a member may be behind at a beat: less than there is from one to the next. */
const LOOK = 1_000

/**
 * How far etcd's log has come. By it a restored etcd is told, however little it has forgotten: its log begins anew, and has to come as far as the old
 * one did in all its life before it can be taken for that.
 */
export class LogLength {
  #known: number
  #shorter = 0

  /** @param known how far it had come for an earlier run; 0: that is not known */
  constructor(known: number) {
    this.#known = known
  }

  /** The furthest that was seen. */
  get known(): number {
    return this.#known
  }

  /** Notes how far it has come. @param before what was known when that was asked for @returns whether it may still be the same log */
  note(reached: number, before: number): boolean {
    this.#known = Math.max(this.#known, reached)
    return reached >= before
  }

  /** Notes how far the log has come that has taken a beat, as {@link LogLength.note}. @returns why it is another one; null: it is not, for all that is known */
  beaten(reached: number, before: number): string | null {
    this.#shorter = this.note(reached, before) ? 0 : this.#shorter + 1
    return this.#shorter < ENOUGH ? null : `its log went back from ${before} to ${reached}`
  }

  /** Begins anew, with another log. */
  beginAnew(): void {
    this.#known = 0
    this.#shorter = 0
  }
}

/** Asks how far etcd's log has come, one question at a time, however many claims are under way. */
export class LogQuestion {
  readonly #etcd: Pick<Etcd, 'reached'>
  readonly #log: LogLength
  #asked: Promise<boolean> | null = null
  #next: Promise<boolean> | null = null

  constructor(etcd: Pick<Etcd, 'reached'>, log: LogLength) {
    this.#etcd = etcd
    this.#log = log
  }

  /** Whether the log is the one that is known, by a question that is asked from now on. It never rejects. */
  isSame(): Promise<boolean> {
    if (!this.#asked) {
      this.#asked = this.#ask()
      return this.#asked
    }
    // What is on its way already may be of before. All who come meanwhile have the next one together.
    this.#next ??= this.#asked.then(() => {
      this.#next = null
      return this.isSame()
    })
    return this.#next
  }

  /** Asks how far the log has come that has just taken a beat. @returns as {@link LogLength.beaten} @throws {Unavailable} */
  async look(): Promise<string | null> {
    const before = this.#log.known
    return this.#log.beaten(await this.#etcd.reached(before, { timeout: LOOK }), before)
  }

  async #ask(): Promise<boolean> {
    const before = this.#log.known
    try {
      return this.#log.note(await this.#etcd.reached(before), before)
    } catch {
      return false
    } finally {
      this.#asked = null
    }
  }
}
