import { type Check, remedyOf } from '../../system/check'
import { isClockPossible, isoTime } from '../../system/time'
import { type OfClock, ofUsableClock, ofWrongClock } from '../clock-findings'

/* Whether this machine's clock is right: pure. */

const NAME = 'clock'

/**
 * What is known of the clock, by what the user has had asked, else by the key: the server has written into its file when it was made.
 * @param wall Unix milliseconds, as corrected
 * @param created when the key was made, in Unix milliseconds; 0: nobody knows
 */
export function judgeClock(evidence: OfClock, wall: number, created: number): Check {
  if (!isClockPossible(wall))
    return { name: NAME, verdict: 'fault', evidence: `it shows ${isoTime(wall)}, which cannot be true`, remedy: 'set the clock' }
  const wrong = ofWrongClock(evidence)
  const [{ seen, unknown, hint } = {}] = [...wrong, ...ofUsableClock(evidence)]
  const check = { name: NAME, evidence: [seen, unknown].filter(Boolean).join('; '), ...remedyOf(hint) }
  const { clock, period } = evidence
  const isProved = clock !== null && typeof clock.offset === 'number' && clock.source.startsWith('https:')
  if (isProved) return { ...check, verdict: wrong.length > 0 ? 'fault' : 'ok' }
  if (created > wall + period * 1000)
    return {
      name: NAME,
      verdict: 'fault',
      evidence: `it shows ${isoTime(wall)}, and the key was made at ${isoTime(created)}, by the server's clock`,
      remedy: "set the clock; if it is right, the server's is not",
    }
  return { ...check, verdict: 'unknown' }
}
