import { setTimeout as sleep } from 'node:timers/promises'
import type { Logger } from 'pino'
import type { Now } from '../gate/clock'
import { isClockPossible, isoTime } from '../system/time'

/** Milliseconds between two looks at a clock that is wrong. */
const LOOK = 1_000

/**
 * Waits until the clock can be true, as on a machine without a battery before it has asked for the time. Nothing may be done before: a ledger that
 * is begun in 1970 would keep nobody from what was sent a minute ago.
 * @param wait called at each look, with what the daemon waits for
 */
export async function untilClockIsRight(log: Logger, now: () => Now, wait: (status: string) => Promise<void>): Promise<void> {
  const { wall } = now()
  if (isClockPossible(wall)) return
  log.error(`the clock is wrong, ${isoTime(wall)}: nothing opens until it is set`)
  while (!isClockPossible(now().wall)) {
    await wait('waits until the clock is set')
    await sleep(LOOK)
  }
  log.info('the clock is set')
}
