import { CODE_DIGITS } from '../../protocol/passcode'
import { prefixOf } from '../tap'

/* How often one may guess at passcodes, and what that comes to (docs/protocol.md, "Passcode knock"). */

/** Failures in a window after which a source waits for the next one, and after which all passcodes do. */
const MAX_SOURCE_FAILURES = 3
const MAX_FAILURES = 20
/** The chance of a lucky guess a year above which passcodes are refused. */
export const MAX_CHANCE = 0.01
/** Windows before and after the one of now in which a passcode is accepted, at most, whatever the skew. */
const MAX_PASSCODE_SKEW = 1
/** Seconds of a year. */
const YEAR = 31_557_600

/** The windows before and after the one of now in which a passcode is accepted. With a skew of 0 it is good for its own window alone. */
export function passcodeSkew(skew: number): number {
  return Math.min(skew, MAX_PASSCODE_SKEW)
}

/**
 * How likely it is that in a year of guessing, as often as the limits allow, one guess fits.
 * @param keys those that have a passcode; with periods that differ, the shortest says how often one may guess
 * @param pinDigits 0 to 4
 * @param skew the server's, in windows
 */
export function chanceOfGuess(keys: readonly { readonly period: number }[], pinDigits: number, skew: number): number {
  if (keys.length === 0) return 0
  const period = keys.reduce((shortest, key) => Math.min(shortest, key.period), Infinity)
  const windows = 2 * passcodeSkew(skew) + 1
  return (MAX_FAILURES * (YEAR / period) * keys.length * windows) / 10 ** (CODE_DIGITS + pinDigits)
}

/** The failures of one window: of all sources, and of each. */
export class Failures {
  #window: number | null = null
  #count = 0
  readonly #bySource = new Map<string, number>()

  /** The window that they are counted in; null before the first. */
  get window(): number | null {
    return this.#window
  }

  /** Whether all passcodes wait for the next window. */
  get areTooMany(): boolean {
    return this.#count >= MAX_FAILURES
  }

  /** How many sources have failed. */
  get size(): number {
    return this.#bySource.size
  }

  /** Counts anew where the window of now is another one. */
  turn(window: number): void {
    if (window === this.#window) return
    this.#window = window
    this.#count = 0
    this.#bySource.clear()
  }

  /** Whether a source may have a passcode tried. */
  allow(source: string): boolean {
    return !this.areTooMany && (this.#bySource.get(groupOf(source)) ?? 0) < MAX_SOURCE_FAILURES
  }

  add(source: string): void {
    const group = groupOf(source)
    this.#count++
    this.#bySource.set(group, 1 + (this.#bySource.get(group) ?? 0))
  }
}

/** Whose failures count together: an IPv4 address, or the /64 of an IPv6 address, which one host has whole. */
function groupOf(source: string): string {
  return prefixOf(source) ?? source
}
