/** Probes in a row that must have been sent in vain: one may be lost, and one may be under way. */
const IN_VAIN = 3
/** Milliseconds for which nothing at all must have arrived meanwhile: a machine that is busy for a moment is not deaf. */
const PATIENCE = 30_000
/** Longest patience: a daemon that never hears a probe, whatever is in its way, is restarted once an hour. */
const LONGEST = 3_600_000
/** Milliseconds after which it is said that nobody sends probes: the helper starts behind the daemon. */
const LONELY = 60_000

/** What there is to know of the way from the firewall to us, by now. */
export interface Signs {
  /** What the helper says of the probes that it has sent, another text behind each; null: it says nothing. */
  readonly sent: string | null
  /** Taps and other packets of our log rules that have arrived. */
  readonly arrived: number
  /** Probes among them. */
  readonly probes: number
  /** Packets that the kernel has dropped for want of room. */
  readonly dropped: number
}

/** How it stands with a daemon's hearing. `alone`: nobody sends probes, so that it can't be known. */
export type Hearing = 'well' | 'alone' | 'deaf'

/**
 * Decides whether taps provably flow: a quiet day and a deaf daemon look alike but for probes. A probe in vain counts only where nothing at all
 * has arrived and the kernel has dropped nothing meanwhile, so that no flood makes a healthy daemon a deaf one.
 */
export class ProbeWatch {
  readonly #isSure: boolean
  readonly #lives: number
  #before: Signs = { sent: null, arrived: 0, probes: 0, dropped: 0 }
  #hasHeard = false
  /** Since when probes are sent in vain, and how many. */
  #vain: { readonly since: number; readonly count: number } | null = null
  /** When a probe was last seen to be sent, or the first look was taken. */
  #sent: number | null = null

  /**
   * @param isSure whether what comes by loopback is sure to come to our log rules. Where it is not, a daemon that has never heard a probe may
   *   well hear.
   * @param lives how many daemons before this one have ended because they never heard a probe: each is given twice the time of the one before
   */
  constructor(isSure: boolean, lives = 0) {
    this.#isSure = isSure
    this.#lives = lives
  }

  /** Whether a probe has ever arrived. That anything else has proves nothing of the way of probes: it is up to strangers. */
  get hasHeard(): boolean {
    return this.#hasHeard
  }

  /** Takes a look. @param steady milliseconds on a monotonic clock */
  look(signs: Signs, steady: number): Hearing {
    const before = this.#before
    this.#before = signs
    const isSent = signs.sent !== null && signs.sent !== before.sent
    this.#sent = isSent ? steady : (this.#sent ?? steady)
    this.#hasHeard ||= signs.probes > 0
    if (signs.arrived !== before.arrived || signs.dropped !== before.dropped) this.#vain = null
    else if (isSent) this.#vain = { since: this.#vain?.since ?? steady, count: (this.#vain?.count ?? 0) + 1 }
    if (this.#isDeaf(steady)) return 'deaf'
    return steady - this.#sent >= LONELY ? 'alone' : 'well'
  }

  #isDeaf(steady: number): boolean {
    if (this.#vain === null || this.#vain.count < IN_VAIN) return false
    const patience = this.#hasHeard ? PATIENCE : this.#isSure ? Math.min(PATIENCE * 2 ** this.#lives, LONGEST) : Infinity
    return steady - this.#vain.since >= patience
  }
}
