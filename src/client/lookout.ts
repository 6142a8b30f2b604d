import type { Socket } from 'node:net'
import { judge, LIFE, MARGIN, type Opening, type Shown } from '../protocol/opening'
import { look } from './look'
import type { Touches } from './touches'
import { REFUSAL_KNOWN } from './transport'

/* Whether ports have opened, or were open before: what attempts to connect to them tell. */

/** It is given up after so many. */
const LOOK = Math.max(LIFE, REFUSAL_KNOWN)
/** A port that refuses after so many passes goes on refusing: each pass has two attempts behind it, or more. */
const FINAL_REFUSALS = 3

/** What a port has shown that somebody answers who answers the ports of the knock, too: whether it is open can't be seen. */
export const ANSWERED = 'answered'

/** How a port has ended: how it is open, or what an attempt has shown in place of that (see {@link look}), or {@link ANSWERED}. */
export type Outcome = Opening | (string & {})

/** Whether a port is open by its outcome. */
export function isOpening(outcome: Outcome): outcome is Opening {
  return outcome === 'before' || outcome === 'opened' || outcome === 'unclear'
}

/** Counts the passes of a knock that have been followed by a refusal, one behind the other. */
export class Refusals {
  #passes = 0
  #last: string | null = null

  /** An attempt has shown something: see {@link look}. */
  saw(what: string): void {
    this.#last = what
  }

  /** A pass is over, and so is the time behind it. */
  passed(): void {
    this.#passes = this.#last === 'refused' ? this.#passes + 1 : 0
    this.#last = null
  }

  /** Whether it would be so after each further pass. */
  get areFinal(): boolean {
    return this.#passes >= FINAL_REFUSALS
  }
}

/** One port that is looked at. */
class Watch {
  readonly refusals = new Refusals()
  /** Whether it is open, and since when; null: that is not known yet. */
  opening: Opening | null = null
  /** What the last attempt has shown that is over. */
  saw = 'silence'
  /** Where there is none yet, the next attempt is the one in front of the knock. */
  #shown: Omit<Shown, 'touched'> | null = null
  /** See {@link Shown.touched}. */
  touched: number | null = null
  readonly #front = new Set<Socket>()
  readonly #others = new Set<Socket>()

  constructor(
    readonly address: string,
    readonly port: number,
    /** Is called when it is known whether it is open, or when an attempt has failed. */
    readonly told: (watch: Watch) => void,
  ) {}

  /** Whether somebody has answered, whatever that proves. */
  get isAnswered(): boolean {
    const { answered = null, roundTrip = null } = this.#shown ?? {}
    return this.opening !== null || answered !== null || roundTrip !== null
  }

  /** Whether a further knock, and another attempt behind it, may show more. */
  get isWaiting(): boolean {
    return !this.isAnswered && !this.refusals.areFinal
  }

  /** Begins one more attempt. */
  async begin(): Promise<void> {
    const began = performance.now()
    const isFront = this.#shown === null
    this.#shown ??= { began, answered: null, roundTrip: null }
    const saw = await look(this.address, this.port, LOOK, isFront ? this.#front : this.#others)
    if (saw === 'open') {
      // No more connections than it takes: the service counts them.
      giveUp(this.#others)
      const now = performance.now()
      this.#shown = isFront ? { ...this.#shown, answered: now } : { ...this.#shown, roundTrip: now - began }
      return this.#judge()
    }
    this.saw = saw
    this.refusals.saw(saw)
    this.told(this)
  }

  #judge(): void {
    if (this.opening !== null) return
    this.opening = judge({ ...(this.#shown as Shown), touched: this.touched }, performance.now())
    if (this.opening === null) {
      // The attempt in front has begun before the one that was answered, so it has had a round trip, and gets the rest; or the touches do.
      setTimeout(() => this.#judge(), MARGIN)
      return
    }
    giveUp(this.#front)
    this.told(this)
  }

  /** Gives up what is under way. */
  end(): void {
    if (this.isAnswered) this.opening ??= 'unclear'
    giveUp(this.#front)
    giveUp(this.#others)
  }
}

function giveUp(sockets: ReadonlySet<Socket>): void {
  for (const socket of sockets) socket.destroy()
}

/** Looks at the ports of one server. */
export class Lookout {
  readonly #watches: readonly Watch[]
  /** What came in place of an answer: see {@link look}. */
  readonly seen = new Set<string>()
  #tell = () => {}

  readonly #touches: Touches

  /**
   * @param touches those of the knock: where they are accepted, nothing shows that a port is open
   * @param opened is called for each port, as soon as it is known to be open
   */
  constructor(address: string, ports: readonly number[], touches: Touches, opened: (port: number, opening: Opening) => void) {
    this.#touches = touches
    const told = ({ port, opening, saw }: Watch) => {
      if (opening === null) return void this.seen.add(saw)
      if (!touches.areAccepted) opened(port, opening)
      this.#tell()
    }
    this.#watches = ports.map((port) => new Watch(address, port, told))
  }

  /** Tries all ports that are waited for once more; the first time in front of the knock. */
  begin(): void {
    for (const watch of this.#watches) if (watch.isWaiting) watch.begin()
  }

  /** The first burst of the knock is over. */
  touched(): void {
    for (const watch of this.#watches) watch.touched ??= performance.now()
  }

  /** Resolves when a port has opened, or so many milliseconds are over. */
  within(milliseconds: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, Math.max(milliseconds, 0))
      this.#tell = () => {
        clearTimeout(timer)
        resolve()
      }
    })
  }

  /** A pass of the knock is over, and so is the time behind it. */
  passed(): void {
    for (const { refusals } of this.#watches) refusals.passed()
  }

  /** Whether a further knock may open a port. */
  waitsFor(port: number): boolean {
    return this.#watches.some((watch) => watch.port === port && watch.isWaiting)
  }

  /** Whether nothing can change any more. */
  get isOver(): boolean {
    return this.#watches.every(({ opening, refusals }) => opening !== null || refusals.areFinal)
  }

  /** Whether nobody has answered at any port, and be it by a refusal; nor at one of the knock. */
  get isSilent(): boolean {
    return !this.#touches.areAnswered && !this.seen.has('refused') && !this.#watches.some((watch) => watch.isAnswered)
  }

  /** Gives up what is under way. @returns what is known of each port */
  end(): Map<number, Outcome> {
    for (const watch of this.#watches) watch.end()
    this.#tell()
    const outcome = ({ opening, saw }: Watch) => (opening !== null && this.#touches.areAccepted ? ANSWERED : (opening ?? saw))
    return new Map(this.#watches.map((watch) => [watch.port, outcome(watch)]))
  }
}
