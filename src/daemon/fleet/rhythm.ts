import { setTimeout as sleep } from 'node:timers/promises'
import type { Now } from '../../gate/clock'
import { askKeepers, isClockKept } from '../../system/clock-keepers'
import { BEAT } from './beats'
import type { Etcd } from './etcd/etcd'
import type { GatewayLink } from './gateway-link'
import { askHealth, type Health, UNKNOWN } from './health'

/** Milliseconds between two looks at what time alone has changed. */
const LOOK = 1_000
/** Between two questions whether the clock is synchronised: each runs a few programs. */
const ASK_CLOCK = 30_000
/** Between two questions how full etcd is, and before the first: it may not have been reached yet. */
const ASK_HEALTH = 300_000
const FIRST_HEALTH = 5_000
/** Between two looks whether somebody has to compact. */
const COMPACT = 60_000

/** What a link does by the clock. */
export interface RhythmSetup {
  readonly link: GatewayLink
  readonly etcd: Etcd
  readonly now: () => Now
  /** Called at each look. */
  readonly looked: () => void
  readonly failed: (error: unknown) => void
}

/** Has a link beat, watch and look, each in its time. */
export class Rhythm {
  readonly #setup: RhythmSetup
  readonly #ending = new AbortController()
  #running: Promise<unknown> = Promise.resolve()
  #wake = new AbortController()
  /** Whether this machine's clock is synchronised; null: nobody says. */
  synchronised: boolean | null = null
  health: Health = UNKNOWN

  constructor(setup: RhythmSetup) {
    this.#setup = setup
  }

  /** Begins. */
  begin(): void {
    const { link, looked } = this.#setup
    const { signal } = this.#ending
    const look = async () => {
      link.tend()
      looked()
    }
    this.#running = Promise.all([
      link.watch.follow(signal),
      this.#beat(),
      this.#every(LOOK, look),
      this.#pause(FIRST_HEALTH).then(() => this.#every(ASK_HEALTH, () => this.#askHealth())),
      this.#every(COMPACT, () => this.#compact()),
    ])
    // Nobody waits for programs that take their time.
    this.#every(ASK_CLOCK, () => this.#askClock())
  }

  /** All rows were listed: a beat that is sent now is soon heard. */
  listed(): void {
    this.#wake.abort()
  }

  /** Ends, with all that etcd is being asked; resolves when nothing of it is under way any more. */
  async end(): Promise<void> {
    this.#ending.abort()
    this.#wake.abort()
    this.#setup.etcd.close()
    await this.#running
  }

  async #beat(): Promise<void> {
    const { link, now } = this.#setup
    const { signal } = this.#ending
    while (!signal.aborted) {
      const began = now().steady
      this.#wake = new AbortController()
      await link.beat()
      // Not by AbortSignal.any(): a signal that lives as long as the daemon would keep something of each beat.
      await this.#pause(Math.max(0, BEAT - (now().steady - began)), this.#wake.signal)
    }
  }

  async #askClock(): Promise<void> {
    this.synchronised = isClockKept(await askKeepers())
  }

  async #askHealth(): Promise<void> {
    this.health = await askHealth(this.#setup.etcd, this.health)
  }

  /** What can't be compacted now is tried again in a minute, or by another gateway. */
  async #compact(): Promise<void> {
    const { link, now } = this.#setup
    if (link.base !== null) await link.compaction.tend(link.standing.trust.newest.revision, now()).catch(() => {})
  }

  async #every(pause: number, act: () => Promise<void>): Promise<void> {
    const { signal } = this.#ending
    while (!signal.aborted) {
      await act().catch(this.#setup.failed)
      await this.#pause(pause)
    }
  }

  #pause(time: number, signal: AbortSignal = this.#ending.signal): Promise<void> {
    return sleep(time, undefined, { signal, ref: false }).catch(() => {})
  }
}
