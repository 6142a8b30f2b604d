import type { Refusal } from '../../src/gate/policy'
import type { Outcome } from './attack'
import type { World } from './world'

/** pino's number of a warning: a line of this level or above is an alarm. */
const WARNING = 40
/** Broken promises that are reported; the rest is more of the same. */
const MAX_BROKEN = 10

/** Adds up the outcomes of an attack's tries. */
export class Tally implements Outcome {
  tried = 0
  opened = 0
  readonly honest = { tried: 0, opened: 0 }
  readonly said: Record<string, number> = {}
  readonly broken: string[] = []
  note = ''

  /**
   * Something that must open nothing, and must not be accepted (an accepted knock would not show if the door is already open for as long).
   * @param says the refusal that must be logged, once; null if it must raise no alarm, undefined if anything may be logged
   * @param isGranted the request opens no door and the key may make it, so that it is accepted
   */
  async attack(world: World, act: () => unknown, says?: Refusal | null, isGranted = false): Promise<void> {
    const [openings, since] = [world.openings.length, world.log.length]
    await act()
    this.tried++
    const { accepted = 0 } = world.said(since)
    if (world.openings.length > openings || accepted > Number(isGranted)) this.opened++
    this.hear(world, since)
    if (says !== undefined) this.#expect(world, since, says)
  }

  /** Something that must open: an honest knock. A door that is already open for as long counts, too. */
  async knock(world: World, send: () => unknown = () => world.knock()): Promise<void> {
    const since = world.log.length
    await send()
    this.honest.tried++
    if (world.said(since).accepted) this.honest.opened++
  }

  /** Counts what has been logged from some line on. */
  hear(world: World, since = 0): void {
    for (const [what, count] of Object.entries(world.said(since))) this.said[what] = (this.said[what] ?? 0) + count
  }

  /** Something that was promised. */
  promise(holds: boolean, otherwise: string): void {
    if (!holds && this.broken.length < MAX_BROKEN && !this.broken.includes(otherwise)) this.broken.push(otherwise)
  }

  #expect(world: World, since: number, says: Refusal | null): void {
    const alarms = world.log.slice(since).filter(({ level }) => Number(level) >= WARNING)
    const isAsExpected =
      says === null
        ? alarms.length === 0
        : alarms
            .filter(({ refusal }) => refusal)
            .map(({ refusal }) => refusal)
            .join() === says
    const heard = alarms.map(({ refusal, msg }) => refusal ?? msg).join(', ')
    this.promise(isAsExpected, `expected ${says ?? 'no alarm'} in the log, got "${heard}"`)
  }
}
