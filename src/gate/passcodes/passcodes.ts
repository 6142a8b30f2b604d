import { addressBytes } from '../../protocol/address'
import { type Key, windowAt } from '../../protocol/key'
import { CODE_DIGITS, passcodeRange } from '../../protocol/passcode'
import { passcode } from '../../protocol/totp'
import type { Now } from '../clock'
import type { Tap } from '../tap'
import { MAX_FAILURES, MAX_SOURCE_FAILURES, passcodeSkew } from './guesses'

/* Specification (docs/protocol.md, "Passcode knock") */

/** A digit counts for this long, and a session is void for as long, in milliseconds. */
const DIGIT_LIFE = 60_000
/** Sessions that are held; those with the fewest digits are forgotten first, then the oldest. */
export const MAX_PASSCODE_SESSIONS = 65_536

/* Implementation */

/** Codes that are computed in one slice: some milliseconds, at 0.3 ms for each. */
const SLICE = 16
/** Windows behind the accepted ones whose codes are computed before their time. */
const MARGIN = 1
/** Sessions that have ended are looked for this often, in milliseconds, and this many of them are let go at a time. */
const SWEEP = 1_000
const MAX_SWEPT = 10_000
/** No digit has been heard at a position. */
const NONE = -1

/** Where passcodes are heard, and in how many windows. */
export interface PasscodeRules {
  /** The first passcode port. */
  readonly base: number
  readonly pinDigits: number
  readonly skew: number
}

/** A key that has a passcode. */
export interface PasscodeKey {
  readonly key: Key
  /** As many digits as the rules say. */
  readonly pin: string
}

/** A passcode that fits a key: not yet judged by ledger and policy. */
export interface Passed {
  readonly key: Key
  readonly window: number
  readonly source: string
  readonly destination: string
}

/** The codes of one window of all keys of one period. */
interface Column {
  readonly period: number
  readonly window: number
  /** PIN and code → whose they are; null: of two keys, and so of none */
  readonly keys: Map<string, Key | null>
  /** Keys whose code is still to be computed. */
  readonly missing: PasscodeKey[]
}

/** What one source has said to one destination. Sessions with as many digits stand in a row, the last heard at its end. */
interface Session {
  readonly name: string
  /** Digit and time of each position. */
  readonly digits: number[]
  readonly times: number[]
  /** Positions that have a digit. */
  count: number
  /** Its last tap that was not void: what it holds is over a digit's life later. In steady milliseconds, as the others. */
  newest: number
  /** Until when it is void. */
  voidUntil: number
  /** The last passcode that was said whole, until when its ports may come again, and the window in which it has failed, if it has. */
  last: string
  lastUntil: number
  failedIn: number | null
  before: Session | null
  after: Session | null
}

/** A row of sessions. Linked, since a Map walks over all that was ever deleted in front of its oldest entry. */
interface Row {
  first: Session | null
  last: Session | null
}

/**
 * Turns taps on the passcode ports into passcodes that fit a key (docs/protocol.md, "Passcode knock"). It does no I/O and never looks at a
 * clock; whatever strangers send, its memory and its work per tap are bounded by the constants above.
 *
 * A passcode is looked up, not compared digit by digit, and nothing is ever answered: all that a guesser can measure is whether a door
 * opens. So nothing here needs to take the same time for a good guess as for a bad one.
 */
export class Passcodes {
  readonly #base: number
  readonly #positions: number
  readonly #skew: number
  readonly #end: number
  #keys: readonly PasscodeKey[] = []
  #periods: readonly number[] = []
  /** The shortest period: by its windows failures are counted. */
  #period = 0
  #columns: Column[] = []
  #complete = true
  readonly #sessions = new Map<string, Session>()
  /** Sessions by their number of digits. */
  readonly #rows: Row[]
  #failures = 0
  readonly #failuresOf = new Map<string, number>()
  /** The window that failures are counted in. */
  #counting = NONE
  #swept = 0

  constructor({ base, pinDigits, skew }: PasscodeRules) {
    this.#base = base
    this.#positions = pinDigits + CODE_DIGITS
    this.#end = passcodeRange(base, pinDigits)[1]
    this.#skew = passcodeSkew(skew)
    this.#rows = Array.from({ length: this.#positions + 1 }, () => ({ first: null, last: null }))
  }

  /** Sets the keys that have a passcode; without one, no port is a passcode's. {@link Passcodes.prepare} does the work. */
  setKeys(keys: readonly PasscodeKey[]): void {
    this.#keys = keys
    this.#periods = [...new Set(keys.map(({ key }) => key.period))]
    // A period has 291 values at most.
    this.#period = keys.length === 0 ? 0 : Math.min(...this.#periods)
    this.#columns = []
    this.#complete = keys.length === 0
    // Limits hold on over a change of keys, but not sessions that nobody listens to.
    if (this.#complete) this.#forgetAll()
  }

  /** Whether a tap on this port belongs here. */
  hears(port: number): boolean {
    return this.#period > 0 && port >= this.#base && port <= this.#end
  }

  /** Whether so many passcodes have failed that all of them wait for the next window. */
  waits({ wall }: Now): boolean {
    this.#count(wall)
    return this.#failures >= MAX_FAILURES
  }

  /** Something waits to be computed, so that {@link Passcodes.due} is wanted soon. */
  get busy(): boolean {
    return !this.#complete
  }

  /** What is held right now, for tests of the bounds. */
  get sizes(): { sessions: number; codes: number; failing: number } {
    const codes = this.#columns.reduce((sum, { keys }) => sum + keys.size, 0)
    return { sessions: this.#sessions.size, codes, failing: this.#failuresOf.size }
  }

  /** Computes a slice of the codes of accepted windows and the next; returns whether all are there. */
  prepare({ wall }: Now): boolean {
    this.#turn(wall)
    let left = SLICE
    for (const { window, keys, missing } of this.#columns) {
      for (; left > 0 && missing.length > 0; left--) {
        const { key, pin } = missing.pop() as PasscodeKey
        const code = pin + passcode(key, window)
        keys.set(code, keys.has(code) ? null : key)
      }
    }
    this.#complete = this.#columns.every(({ missing }) => missing.length === 0)
    return this.#complete
  }

  /** What time brings: the codes of the next window; sessions that are over. Call it every few hundred milliseconds. */
  due(now: Now): void {
    if (this.#keys.length > 0) this.prepare(now)
    if (now.steady - this.#swept >= SWEEP) this.#sweep(now.steady)
  }

  /** Takes one tap on a passcode port. @returns the passcode that it completed, where it fits a key; nearly always null */
  hear({ source, destination, port }: Tap, now: Now): Passed | null {
    const name = `${source} ${destination}`
    const position = Math.floor((port - this.#base) / 10)
    const digit = (port - this.#base) % 10
    const session = this.#sessions.get(name) ?? this.#begin(name)
    if (now.steady < session.voidUntil) return null
    session.newest = now.steady
    this.#take(session, position, digit, now.steady)
    if (session.count < this.#positions) return null
    const code = session.digits.join('')
    this.#clear(session)
    return this.#try(session, code, source, destination, now)
  }

  /** Notes a digit; a second one at its position makes the session void. */
  #take(session: Session, position: number, digit: number, steady: number): void {
    const { digits, times } = session
    let count = 0
    for (let i = 0; i < digits.length; i++) {
      if (digits[i] !== NONE && times[i] < steady - DIGIT_LIFE) digits[i] = NONE
      if (digits[i] !== NONE) count++
    }
    // What has just been said whole is said again by retransmits and second passes. It neither spoils the next passcode nor stands for it.
    const said = steady < session.lastUntil ? Number(session.last[position]) : NONE
    const there = digits[position]
    if (there !== NONE && there !== digit && there !== said && digit !== said) {
      this.#clear(session)
      session.voidUntil = steady + DIGIT_LIFE
      return
    }
    if (there === NONE) count++
    if (there === NONE || there === said) digits[position] = digit
    if (digits[position] === digit) times[position] = steady
    this.#move(session, count)
  }

  #try(session: Session, code: string, source: string, destination: string, now: Now): Passed | null {
    this.#count(now.wall)
    const isAgain = code === session.last && session.failedIn === this.#counting
    session.last = code
    session.lastUntil = now.steady + DIGIT_LIFE
    if (isAgain) return null
    session.failedIn = null
    const group = groupOf(source)
    const failures = this.#failuresOf.get(group) ?? 0
    // Not tried, so that it may be said again later. While codes are still missing nobody could say whether one fits.
    if (this.#failures >= MAX_FAILURES || failures >= MAX_SOURCE_FAILURES || !this.#isReady(now.wall)) return null
    const fitting = this.#fitting(code, now.wall)
    if (fitting.length === 0) {
      this.#failures++
      this.#failuresOf.set(group, failures + 1)
      session.failedIn = this.#counting
      return null
    }
    const [{ key, window }] = fitting
    // One key may show the same code in two windows; two keys are a reason to open neither.
    if (key === null || fitting.some((other) => other.key !== key)) return null
    return { key, window, source, destination }
  }

  /** Every key and accepted window that a code fits; key null: two of one window. */
  #fitting(code: string, wall: number): { key: Key | null; window: number }[] {
    return this.#columns
      .filter((column) => column.keys.has(code) && this.#accepts(column, wall))
      .map(({ keys, window }) => ({ key: keys.get(code) as Key | null, window }))
  }

  #accepts({ period, window }: Column, wall: number): boolean {
    return Math.abs(window - windowOf(wall, period)) <= this.#skew
  }

  /** Whether the codes of all accepted windows are there: after a leap of the clock it takes a moment. */
  #isReady(wall: number): boolean {
    this.#turn(wall)
    return this.#columns.every((column) => column.missing.length === 0 || !this.#accepts(column, wall))
  }

  /** Makes room for the windows of now, and lets go of those that are over. */
  #turn(wall: number): void {
    for (const period of this.#periods) {
      const now = windowOf(wall, period)
      const [first, last] = [now - this.#skew, now + this.#skew + MARGIN]
      const mine = this.#columns.filter((column) => column.period === period)
      if (mine[0]?.window === first && mine.at(-1)?.window === last) continue
      const keys = this.#keys.filter(({ key }) => key.period === period)
      const next: Column[] = []
      for (let window = first; window <= last; window++)
        next.push(
          mine.find((column) => column.window === window) ?? {
            period,
            window,
            keys: new Map(),
            missing: window < 0 ? [] : [...keys],
          },
        )
      this.#columns = [...this.#columns.filter((column) => column.period !== period), ...next]
      this.#complete = false
    }
  }

  /** Failures are those of the window of now. */
  #count(wall: number): void {
    const window = windowOf(wall, this.#period || 1)
    if (window === this.#counting) return
    this.#counting = window
    this.#failures = 0
    this.#failuresOf.clear()
  }

  // ---- sessions

  #begin(name: string): Session {
    if (this.#sessions.size >= MAX_PASSCODE_SESSIONS) this.#forget(this.#rows.find(({ first }) => first)?.first as Session)
    const session: Session = {
      name,
      // Plain arrays: two typed ones for each session cost more than half of a tap's time.
      digits: new Array(this.#positions).fill(NONE),
      times: new Array(this.#positions).fill(0),
      count: 0,
      newest: 0,
      voidUntil: 0,
      last: '',
      lastUntil: 0,
      failedIn: null,
      before: null,
      after: null,
    }
    this.#sessions.set(name, session)
    this.#link(session)
    return session
  }

  #clear(session: Session): void {
    session.digits.fill(NONE)
    this.#move(session, 0)
  }

  /** Puts a session at the end of the row of its digits. */
  #move(session: Session, count: number): void {
    this.#unlink(session)
    session.count = count
    this.#link(session)
  }

  #link(session: Session): void {
    const row = this.#rows[session.count]
    session.before = row.last
    session.after = null
    if (row.last) row.last.after = session
    else row.first = session
    row.last = session
  }

  #unlink({ count, before, after }: Session): void {
    const row = this.#rows[count]
    if (before) before.after = after
    else row.first = after
    if (after) after.before = before
    else row.last = before
  }

  #forget(session: Session): void {
    this.#unlink(session)
    this.#sessions.delete(session.name)
  }

  /** Lets go of sessions that hold nothing any more. */
  #sweep(steady: number): void {
    this.#swept = steady
    let swept = 0
    for (const row of this.#rows) {
      for (let session = row.first; session && swept < MAX_SWEPT; session = row.first) {
        if (session.newest + DIGIT_LIFE > steady) break
        this.#forget(session)
        swept++
      }
    }
  }

  #forgetAll(): void {
    this.#sessions.clear()
    for (const row of this.#rows) row.first = row.last = null
  }
}

const windowOf = (wall: number, period: number): number => windowAt(wall / 1000, period)

/** Whose failures count together: an IPv4 address, or the /64 of an IPv6 address, which one host has whole. */
function groupOf(source: string): string {
  const bytes = addressBytes(source)
  return bytes?.length === 16 ? bytes.subarray(0, 8).join(':') : source
}
