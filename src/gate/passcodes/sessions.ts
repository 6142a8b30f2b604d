import { type Aged, ByAge } from '../by-age'

/* Who has said which digits (docs/protocol.md, "Passcode knock"). */

/** A digit counts for this long, and a session is void for as long, in milliseconds. */
const DIGIT_LIFE = 60_000
/** Sessions that are held; those with the fewest digits are forgotten first, then the oldest. */
export const MAX_PASSCODE_SESSIONS = 65_536

/* Implementation */

/** Sessions that have ended are looked for this often, in milliseconds, and this many of them are let go at a time. */
const SWEEP = 1_000
const MAX_SWEPT = 10_000
/** No digit has been heard at a position. */
const NONE = -1

/** What one source has said to one destination. */
export interface Session extends Aged<Session> {
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
}

/** Pieces passcodes together, digit by digit. */
export class Sessions {
  readonly #positions: number
  readonly #byName = new Map<string, Session>()
  /** Sessions by their number of digits, those of each by when they were last heard. */
  readonly #byCount: readonly ByAge<Session>[]
  #swept = 0

  /** @param positions digits of a passcode */
  constructor(positions: number) {
    this.#positions = positions
    this.#byCount = Array.from({ length: positions + 1 }, () => new ByAge())
  }

  get size(): number {
    return this.#byName.size
  }

  /**
   * Takes one digit.
   * @param name tells the source and the destination
   * @param steady milliseconds on a monotonic clock
   * @returns the session whose passcode it made whole, which is its `last` then; nearly always null
   */
  hear(name: string, position: number, digit: number, steady: number): Session | null {
    const session = this.#byName.get(name) ?? this.#begin(name)
    if (steady < session.voidUntil) return null
    session.newest = steady
    this.#take(session, position, digit, steady)
    if (session.count < this.#positions) return null
    const whole = session.digits.join('')
    if (whole !== session.last) session.failedIn = null
    session.last = whole
    session.lastUntil = steady + DIGIT_LIFE
    this.#clear(session)
    return session
  }

  /** Lets go of sessions that hold nothing any more. Call it every few hundred milliseconds. */
  due(steady: number): void {
    if (steady - this.#swept < SWEEP) return
    this.#swept = steady
    let swept = 0
    for (const sessions of this.#byCount) {
      for (let { oldest } = sessions; oldest && swept < MAX_SWEPT; { oldest } = sessions) {
        if (oldest.newest + DIGIT_LIFE > steady) break
        this.#forget(oldest)
        swept++
      }
    }
  }

  forgetAll(): void {
    for (const session of this.#byName.values()) this.#forget(session)
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

  #clear(session: Session): void {
    session.digits.fill(NONE)
    this.#move(session, 0)
  }

  /** Puts a session among those that have so many digits, as the one heard last. */
  #move(session: Session, count: number): void {
    this.#byCount[session.count].remove(session)
    session.count = count
    this.#byCount[count].add(session)
  }

  #begin(name: string): Session {
    const surplus = this.#byName.size < MAX_PASSCODE_SESSIONS ? undefined : this.#byCount.find(({ oldest }) => oldest)?.oldest
    if (surplus) this.#forget(surplus)
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
    this.#byName.set(name, session)
    this.#byCount[0].add(session)
    return session
  }

  #forget(session: Session): void {
    this.#byCount[session.count].remove(session)
    this.#byName.delete(session.name)
  }
}
