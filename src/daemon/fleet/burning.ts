import { acceptedWindows, type Now } from '../../gate/clock'
import { Quiet } from '../../gate/quiet'
import type { Attempt } from './claim'

/** Knocks of one key that wait to be made dead: nobody says so many while etcd can't be asked, unless to fill the queue. */
export const MAX_BURNING_OF_KEY = 512
/** Knocks of all keys that wait: some 8 MB. */
export const MAX_BURNING = 8_192
/** Requests at a time: an etcd that comes back has claims to answer, too. */
const AT_ONCE = 16
/** Milliseconds after which etcd is asked again, at first and at most. */
const SOON = 250
const LATE = 5_000
/** Milliseconds between two words of knocks for which there was no room. */
const QUIET = 60_000

/** A knock that waits, and when it came to wait. */
interface Waiting {
  readonly attempt: Attempt
  readonly since: Now
  /** When it is asked next, in steady milliseconds; Infinity: it is being asked. */
  due: number
  tries: number
}

/**
 * Knocks that are to be dead in etcd and may not be yet, until that is known or no gateway takes their window any more. What is over is told by this
 * clock and by the time that has passed since: a clock that jumps must not have a knock live on.
 */
export class BurnQueue {
  readonly #skew: number
  readonly #waiting = new Set<Waiting>()
  readonly #ofKeys = new Map<string, number>()
  #asking = 0

  /** @param skew windows */
  constructor(skew: number) {
    this.#skew = skew
  }

  get size(): number {
    return this.#waiting.size
  }

  /** Takes in a knock. @param grace milliseconds before it is asked for first @returns false where there is no room */
  add(attempt: Attempt, grace: number, now: Now): boolean {
    const ofKey = this.#ofKeys.get(attempt.fingerprint) ?? 0
    if (ofKey >= MAX_BURNING_OF_KEY || this.#waiting.size >= MAX_BURNING) return false
    this.#ofKeys.set(attempt.fingerprint, ofKey + 1)
    this.#waiting.add({ attempt, since: now, due: now.steady + grace, tries: 0 })
    return true
  }

  /** What is to be asked now, and is from then on being asked. Lets go of what is over. */
  take(now: Now): Waiting[] {
    for (const waiting of this.#waiting) if (waiting.due < Infinity && this.#isOver(waiting, now)) this.#remove(waiting)
    const due = [...this.#waiting].filter(({ due }) => due <= now.steady).sort((a, b) => a.due - b.due)
    const taken = due.slice(0, AT_ONCE - this.#asking)
    for (const waiting of taken) waiting.due = Infinity
    this.#asking += taken.length
    return taken
  }

  /** What came of one that was asked. */
  told(waiting: Waiting, isKnown: boolean, now: Now): void {
    this.#asking--
    if (isKnown) this.#remove(waiting)
    else waiting.due = now.steady + Math.min(SOON * 2 ** waiting.tries++, LATE)
  }

  /** When there is something to ask next, in steady milliseconds; null: not before an answer comes, or never. */
  next(): number | null {
    if (this.#asking >= AT_ONCE) return null
    const next = Math.min(...[...this.#waiting].map(({ due }) => due))
    return next < Infinity ? next : null
  }

  /** Has all of them asked next, whatever they wait for. */
  hurry(): void {
    for (const waiting of this.#waiting) if (waiting.due < Infinity) waiting.due = -Infinity
  }

  #isOver({ attempt: { knock }, since }: Waiting, now: Now): boolean {
    const { period } = knock.key
    // One window more, for a gateway whose clock is behind.
    return [now.wall, since.wall + now.steady - since.steady].every(
      (wall) => acceptedWindows(wall - period * 1000, period, this.#skew).first > knock.window,
    )
  }

  #remove(waiting: Waiting): void {
    this.#waiting.delete(waiting)
    const { fingerprint } = waiting.attempt
    const left = (this.#ofKeys.get(fingerprint) ?? 1) - 1
    if (left > 0) this.#ofKeys.set(fingerprint, left)
    else this.#ofKeys.delete(fingerprint)
  }
}

/** What {@link Burning} works with. */
export interface BurningSetup {
  /** Windows. */
  readonly skew: number
  readonly now: () => Now
  readonly warn: (message: string) => void
  /** Claims a knock that nobody is to open for. @returns whether it is known to be dead */
  readonly burn: (attempt: Attempt) => Promise<boolean>
}

/** Makes knocks dead in etcd, in the background. Nothing is ever opened by what it finds. */
export class Burning {
  readonly #setup: BurningSetup
  readonly #queue: BurnQueue
  readonly #quiet = new Quiet(QUIET)
  readonly #running = new Set<Promise<void>>()
  readonly #warn: (message: string) => void
  #unheld = 0
  #timer: NodeJS.Timeout | undefined
  #isEnding = false

  constructor(setup: BurningSetup) {
    this.#setup = setup
    this.#queue = new BurnQueue(setup.skew)
    this.#warn = setup.warn
  }

  /** How many knocks wait. */
  get size(): number {
    return this.#queue.size
  }

  /** @param grace milliseconds for which it is left to other gateways, which may hear it, too */
  add(attempt: Attempt, grace = 0): void {
    if (!this.#queue.add(attempt, grace, this.#setup.now())) this.#tellUnheld()
    this.#set()
  }

  /** Asks for what is due. Its timer calls it in time. */
  look(): void {
    for (const waiting of this.#queue.take(this.#setup.now())) {
      const running = this.#setup
        .burn(waiting.attempt)
        .catch(() => false)
        .then((isKnown) => {
          this.#queue.told(waiting, isKnown, this.#setup.now())
          this.#running.delete(running)
          this.#set()
        })
      this.#running.add(running)
    }
    this.#set()
  }

  /** Asks for all that waits, once more: a daemon that ends forgets it. Resolves when that is answered, or `limit` milliseconds are over. */
  async end(limit: number): Promise<void> {
    this.#isEnding = true
    clearTimeout(this.#timer)
    this.#queue.hurry()
    let timer: NodeJS.Timeout | undefined
    const isOver = new Promise<'over'>((resolve) => {
      timer = setTimeout(() => resolve('over'), limit)
    })
    // What was not answered has a time to come, and ends it.
    for (;;) {
      this.look()
      if (this.#running.size === 0 || (await Promise.race([isOver, ...this.#running])) === 'over') break
    }
    clearTimeout(timer)
  }

  #set(): void {
    clearTimeout(this.#timer)
    const next = this.#queue.next()
    if (next === null || this.#isEnding) return
    this.#timer = setTimeout(() => this.look(), Math.max(0, next - this.#setup.now().steady)).unref()
  }

  #tellUnheld(): void {
    this.#unheld++
    if (!this.#quiet.may('unheld', this.#setup.now().steady)) return
    this.#warn(
      `too many knocks wait to be made dead in etcd: other gateways may take those for which there was no room (${this.#unheld})`,
    )
    this.#unheld = 0
  }
}
