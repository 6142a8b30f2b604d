/** Milliseconds between looks at what is due: when there is nothing that could be, when nothing waits, and when a burst is arriving. */
const REST = 1_000
const IDLE = 250
export const BUSY = 10

const PACES = { rests: REST, idles: IDLE, 'is busy': BUSY }

/** When the daemon looks at what is due: by a timer that each look sets anew, until it is stopped. */
export class LookTimer {
  readonly #look: () => void
  #timer: NodeJS.Timeout | undefined
  #isSoon = false
  /** When it was last looked, in steady milliseconds. */
  #looked = Infinity
  #isStopped = false

  /** @param look expected to say by {@link LookTimer.began} and {@link LookTimer.next} when it was, and when the next one is to be */
  constructor(look: () => void) {
    this.#look = look
  }

  /** Has the first look taken. */
  start(): void {
    this.#set(0)
  }

  /** Whether the last look was so long ago that what is heard now would find windows and clock of then. */
  isLate(steady: number): boolean {
    return steady - this.#looked >= IDLE
  }

  /** A look is being taken. */
  began(steady: number): void {
    this.#looked = steady
  }

  /** Has the next look taken in time. @param daemon what it does until then */
  next(daemon: keyof typeof PACES): void {
    this.#set(PACES[daemon])
  }

  /** Something waits since the last look. */
  hurry(): void {
    if (!this.#isSoon) this.#set(BUSY)
  }

  /** Has a look taken at once, if there are any yet. */
  again(): void {
    if (this.#timer) this.#set(0)
  }

  /** No look is taken any more. */
  stop(): void {
    this.#isStopped = true
    clearTimeout(this.#timer)
  }

  #set(after: number): void {
    clearTimeout(this.#timer)
    if (this.#isStopped) return
    this.#isSoon = after <= BUSY
    this.#timer = setTimeout(this.#look, after)
  }
}
