import { parseLogTime } from '../../system/calendar'
import { Fault } from '../../system/fault'

/** Milliseconds between two lines that have no times: lines of one burst, in their order. */
const STEP = 1

/** What syslog puts in front of a line that it sends on: a priority, and the version of RFC 5424. */
const PRIORITY = /^<\d{1,3}>(?:1 )?/
const ISO = /^\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?:Z|[+-]\d\d(?::?\d\d)?)?(?=[ ])/
const SYSLOG = /^[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d(?:\.\d{1,9})?(?= )/
const DMESG = /^\[([A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \d{4})\] /
const UNIX = /^(\d{9,11}\.\d{1,9}) /
const UPTIME = /^\[ *(\d{1,10}\.\d{1,9})\] /

/** Tells when the lines of a log were written, by what stands in front of them. */
export class LineTimes {
  readonly #at: number | null
  readonly #now: number
  /** By how much the log's clock, and the machine's uptime, is behind the time that is told. */
  #wallBehind: number | null = null
  #uptimeBehind: number | null = null
  #last: number | null = null
  #known = { text: '', at: null as number | null }

  /** @param at when the first line was written, in Unix milliseconds; null: the lines say it @param now Unix milliseconds, for a year that is not said */
  constructor(at: number | null, now: number) {
    this.#at = at
    this.#now = now
  }

  /**
   * When a line was written.
   * @param said what its log says of that beside it, in Unix milliseconds; null: nothing
   * @returns Unix milliseconds
   * @throws {Fault} where nobody can tell
   */
  of(line: string, said: number | null = null): number {
    const wall = said ?? this.#wallOf(line.replace(PRIORITY, ''))
    const start = this.#last ?? this.#at
    if (wall !== null) {
      this.#wallBehind ??= this.#at === null ? 0 : (start as number) - wall
      this.#last = wall + this.#wallBehind
      return this.#last
    }
    if (start === null)
      throw new Fault('the lines of the log do not say when they were written', {
        hint: 'say when the first of them was, such as "--at 2026-11-30T21:04:00Z"',
      })
    const uptime = UPTIME.exec(line.replace(PRIORITY, ''))
    if (uptime) {
      const milliseconds = Number(uptime[1]) * 1000
      this.#uptimeBehind ??= start - milliseconds
      this.#last = milliseconds + this.#uptimeBehind
    } else this.#last = this.#last === null ? start : this.#last + STEP
    return this.#last
  }

  #wallOf(line: string): number | null {
    const unix = UNIX.exec(line)
    if (unix) return Number(unix[1]) * 1000
    const text = ISO.exec(line)?.[0] ?? SYSLOG.exec(line)?.[0] ?? DMESG.exec(line)?.[1]
    if (text === undefined) return null
    // Luxon takes its time, and a burst has one time.
    if (text !== this.#known.text) this.#known = { text, at: parseLogTime(text, this.#now) }
    return this.#known.at
  }
}
