/** How long taps may be under way from the firewall to us, in milliseconds: a log daemon that gathers its lines takes a second. */
const GRACE = 5_000
/** How long what arrives may be nothing that can be read, in milliseconds; and the longest pause in it. Any stranger can send such a packet. */
const PATIENCE = 60_000

/** Both ends of the way from the firewall to us, by now. */
export interface Ends {
  /** Packets that the firewall has logged. */
  readonly logged: number
  /** What has arrived of them, read or not. */
  readonly arrived: number
  /** What has been read of it: taps. */
  readonly read: number
}

/**
 * Notices that the firewall logs packets and that nothing of them arrives, or nothing that can be read: a daemon that hears nothing looks
 * just like a quiet day.
 */
export class Deafness {
  #before: Ends = { logged: Number.POSITIVE_INFINITY, arrived: 0, read: 0 }
  /** When the firewall was first seen to have logged more, with nothing arrived since. */
  #silent: number | null = null
  /** When something that can't be read was first and last seen to have arrived, with nothing read since. */
  #odd: { since: number; last: number } | null = null
  #state: 'well' | 'deaf' | 'unreadable' = 'well'

  /**
   * Takes a look at both ends.
   * @param steady milliseconds on a monotonic clock
   * @returns what has changed, once
   */
  look(ends: Ends, steady: number): 'deaf' | 'unreadable' | 'recovered' | null {
    const before = this.#before
    this.#before = ends
    const hasArrived = ends.arrived > before.arrived
    const hasRead = ends.read > before.read
    if (hasArrived) this.#silent = null
    // The counter starts anew with the rules; and what was logged before the first look was not for us to hear.
    else if (ends.logged > before.logged) this.#silent ??= steady
    if (hasRead) this.#odd = null
    else if (hasArrived) {
      const goesOn = this.#odd && steady - this.#odd.last <= PATIENCE
      this.#odd = { since: goesOn && this.#odd ? this.#odd.since : steady, last: steady }
    }
    const next = this.#judge(hasArrived, hasRead, steady)
    if (next === this.#state) return null
    this.#state = next
    return next === 'well' ? 'recovered' : next
  }

  #judge(hasArrived: boolean, hasRead: boolean, steady: number): 'well' | 'deaf' | 'unreadable' {
    if (hasRead) return 'well'
    if (this.#silent !== null && steady - this.#silent >= GRACE) return 'deaf'
    if (hasArrived && this.#odd && steady - this.#odd.since >= PATIENCE) return 'unreadable'
    return hasArrived && this.#state === 'deaf' ? 'well' : this.#state
  }
}
