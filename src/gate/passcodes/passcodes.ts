import { windowAt } from '../../protocol/key'
import { CODE_DIGITS, PASSCODE_V, passcodeRange } from '../../protocol/passcode'
import { AS_SEEN, type Request } from '../../protocol/request'
import type { Now } from '../clock'
import type { Knock } from '../knock'
import type { PasscodeGrant, ServerKey } from '../server-key'
import type { Tap } from '../tap'
import { Codes, type Whose } from './codes'
import { Failures, passcodeSkew } from './guesses'
import { type Session, Sessions } from './sessions'

/** What nearly every tap opens. */
const NONE: Knock[] = []

/** Where passcodes are heard, and in how many windows. */
interface PasscodeRules {
  /** The first passcode port. */
  readonly base: number
  readonly pinDigits: number
  readonly skew: number
}

/**
 * Turns taps on the passcode ports into knocks (docs/protocol.md, "Passcode knock"). It does no I/O and never looks at a clock; whatever
 * strangers send, its memory and its work per tap are bounded by the constants of {@link Sessions}, {@link Codes} and {@link Failures}.
 */
export class Passcodes {
  readonly #base: number
  readonly #end: number
  readonly #sessions: Sessions
  readonly #codes: Codes
  readonly #failures = new Failures()
  /** The shortest period, by whose windows failures are counted; null: no key has a passcode. */
  #period: number | null = null

  constructor({ base, pinDigits, skew }: PasscodeRules) {
    this.#base = base
    this.#end = passcodeRange(base, pinDigits)[1]
    this.#sessions = new Sessions(pinDigits + CODE_DIGITS)
    this.#codes = new Codes(passcodeSkew(skew))
  }

  /** Sets the keys; where none has a passcode, no port is a passcode's. {@link Passcodes.prepare} does the work. */
  setKeys(keys: readonly Pick<ServerKey, 'key' | 'passcode'>[]): void {
    this.#codes.setKeys(keys.flatMap(({ key, passcode }) => (passcode ? [{ key, passcode }] : [])))
    this.#period = this.#codes.shortestPeriod
    // Limits hold on over a change of keys, but not sessions that nobody listens to.
    if (this.#period === null) this.#sessions.forgetAll()
  }

  /** Whether a tap on this port belongs here. */
  hears(port: number): boolean {
    return this.#period !== null && port >= this.#base && port <= this.#end
  }

  /** Whether so many passcodes have failed that all of them wait for the next window. */
  waits({ wall }: Now): boolean {
    this.#turn(wall)
    return this.#failures.areTooMany
  }

  /** Something waits to be computed, so that {@link Passcodes.due} is wanted soon. */
  get busy(): boolean {
    return !this.#codes.isComplete
  }

  /** What is held right now, for tests of the bounds. */
  get sizes(): { sessions: number; codes: number; failing: number } {
    return { sessions: this.#sessions.size, codes: this.#codes.size, failing: this.#failures.size }
  }

  /** Computes a slice of the codes of accepted windows and the next; returns whether all are there. */
  prepare({ wall }: Now): boolean {
    return this.#codes.prepare(wall)
  }

  /** What time brings: the codes of the next window; sessions that are over. Call it every few hundred milliseconds. */
  due(now: Now): void {
    this.prepare(now)
    this.#sessions.due(now.steady)
  }

  /** Takes one tap on a passcode port; returns the knock that it completed, where its passcode fits a key: nearly always none. */
  hear({ source, destination, port }: Tap, now: Now): Knock[] {
    const position = Math.floor((port - this.#base) / 10)
    const digit = (port - this.#base) % 10
    const session = this.#sessions.hear(`${source} ${destination}`, position, digit, now.steady)
    const whose = session && this.#try(session, source, now.wall)
    if (!whose?.owner) return NONE
    const { owner, window } = whose
    const [request, heard] = [requestOf(owner.passcode), now.steady]
    return [{ key: owner.key, window, request, v: PASSCODE_V, source, destination, heard, arrival: 'timely', by: 'passcode' }]
  }

  /** Whose the passcode is that a session has just said whole; null where it is nobody's, which is a failure, or is not tried. */
  #try(session: Session, source: string, wall: number): Whose | null {
    this.#turn(wall)
    if (session.failedIn === this.#failures.window) return null
    session.failedIn = null
    // Not tried, so that it may be said again later. While codes are still missing nobody could say whether one fits.
    if (!this.#failures.allow(source) || !this.#codes.isReady(wall)) return null
    const whose = this.#codes.whose(session.last, wall)
    if (whose) return whose
    this.#failures.add(source)
    session.failedIn = this.#failures.window
    return null
  }

  /** Failures are those of the window of now. */
  #turn(wall: number): void {
    this.#failures.turn(windowAt(wall / 1000, this.#period ?? 1))
  }
}

/** What a passcode asks: all that it may open, for the address that it comes from. */
function requestOf({ seconds, once }: PasscodeGrant): Request {
  return { action: 'open', protocol: 'any', once, salt: 0, port: 0, seconds, address: AS_SEEN }
}
