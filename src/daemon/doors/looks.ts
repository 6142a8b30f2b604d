/** Milliseconds between two looks at the firewall, at least: other programs flush it. */
export const LOOK = 5_000
/** The next look waits for so many times as long as the last one took, and no longer than {@link LATEST_LOOK}: with 20,000 leases it takes 3 s. */
const REST = 20
const LATEST_LOOK = 60_000

/** When a table is looked at: now and then, and at once where another program may have changed it. Times are steady milliseconds. */
export class Looks {
  #began: number
  #ended: number
  /** Milliseconds from the last look to the next one. */
  #pace = LOOK
  #isAlarmed = false

  constructor(now: number) {
    this.#began = this.#ended = now
  }

  /** When the last one ended. */
  get last(): number {
    return this.#ended
  }

  isDue(now: number): boolean {
    return this.#isAlarmed || now - this.#ended >= this.#pace
  }

  /** Another program may have changed the table. */
  alarm(): void {
    this.#isAlarmed = true
  }

  began(now: number): void {
    this.#began = now
    this.#isAlarmed = false
  }

  ended(now: number): void {
    this.#ended = now
    this.#pace = Math.min(Math.max(LOOK, REST * (now - this.#began)), LATEST_LOOK)
  }
}
