import { windowAt } from '../../protocol/key'
import { passcode } from '../../protocol/totp'
import type { ServerKey } from '../server-key'

/** Codes that are computed in one slice: some milliseconds, at 0.3 ms for each. */
const SLICE = 16
/** Windows behind the accepted ones whose codes are computed before their time. */
const MARGIN = 1

/** A key that has a passcode. */
type PasscodeKey = Required<Pick<ServerKey, 'key' | 'passcode'>>

/** Whose a passcode is, and of which window. */
export interface Whose {
  /** Null: of two keys, and so it opens neither. */
  readonly owner: PasscodeKey | null
  readonly window: number
}

/** The passcodes of one window of all keys of one period. */
interface Column {
  readonly period: number
  readonly window: number
  /** PIN and code → whose they are; null: of two keys */
  readonly owners: Map<string, PasscodeKey | null>
  /** Keys whose code is still to be computed. */
  readonly missing: PasscodeKey[]
}

/**
 * What passcodes there are, in the accepted windows and the next.
 *
 * A passcode is looked up, not compared digit by digit, and nothing is ever answered: all that a guesser can measure is whether a door
 * opens. So nothing here needs to take the same time for a good guess as for a bad one.
 */
export class Codes {
  readonly #skew: number
  #keys: readonly PasscodeKey[] = []
  #periods: readonly number[] = []
  #columns: Column[] = []
  #complete = true

  /** @param skew windows before and after the one of now in which a passcode is accepted */
  constructor(skew: number) {
    this.#skew = skew
  }

  /** Sets the keys. {@link Codes.prepare} does the work. */
  setKeys(keys: readonly PasscodeKey[]): void {
    this.#keys = keys
    // A period has 291 values at most.
    this.#periods = [...new Set(keys.map(({ key }) => key.period))]
    this.#columns = []
    this.#complete = keys.length === 0
  }

  /** The shortest period of a key, in seconds; null without a key. */
  get shortestPeriod(): number | null {
    return this.#periods.length === 0 ? null : Math.min(...this.#periods)
  }

  /** Whether nothing waits to be computed. */
  get isComplete(): boolean {
    return this.#complete
  }

  /** How many are held. */
  get size(): number {
    return this.#columns.reduce((sum, { owners }) => sum + owners.size, 0)
  }

  /** Computes a slice of what is missing. @param wall Unix milliseconds @returns whether all are there */
  prepare(wall: number): boolean {
    this.#turn(wall)
    let left = SLICE
    for (const { window, owners, missing } of this.#columns) {
      for (; left > 0 && missing.length > 0; left--) {
        const owner = missing.pop() as PasscodeKey
        const code = owner.passcode.pin + passcode(owner.key, window)
        owners.set(code, owners.has(code) ? null : owner)
      }
    }
    this.#complete = this.#columns.every(({ missing }) => missing.length === 0)
    return this.#complete
  }

  /** Whether the codes of all accepted windows are there: after a leap of the clock it takes a moment. @param wall Unix milliseconds */
  isReady(wall: number): boolean {
    this.#turn(wall)
    return this.#columns.every((column) => column.missing.length === 0 || !this.#accepts(column, wall))
  }

  /** Whose a passcode is, by accepted windows; null: nobody's. @param code PIN and code @param wall Unix milliseconds */
  whose(code: string, wall: number): Whose | null {
    const fitting = this.#columns
      .filter((column) => column.owners.has(code) && this.#accepts(column, wall))
      .map(({ owners, window }) => ({ owner: owners.get(code) ?? null, window }))
    if (fitting.length === 0) return null
    const [first] = fitting
    // One key may show the same code in two windows; two keys are a reason to open neither.
    return fitting.every(({ owner }) => owner === first.owner) ? first : { ...first, owner: null }
  }

  #accepts({ period, window }: Column, wall: number): boolean {
    return Math.abs(window - windowAt(wall / 1000, period)) <= this.#skew
  }

  /** Makes room for the windows of now, and lets go of those that are over. */
  #turn(wall: number): void {
    for (const period of this.#periods) {
      const now = windowAt(wall / 1000, period)
      const [first, last] = [now - this.#skew, now + this.#skew + MARGIN]
      const mine = this.#columns.filter((column) => column.period === period)
      if (mine[0]?.window === first && mine.at(-1)?.window === last) continue
      const keys = this.#keys.filter(({ key }) => key.period === period)
      const next = Array.from({ length: last - first + 1 }, (_, i) => {
        const window = first + i
        const there = mine.find((column) => column.window === window)
        return there ?? { period, window, owners: new Map(), missing: window < 0 ? [] : [...keys] }
      })
      this.#columns = [...this.#columns.filter((column) => column.period !== period), ...next]
      this.#complete = false
    }
  }
}
