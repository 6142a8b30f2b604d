import type { Evidence, Finding } from './evidence'
import { isTooMuch, MOST_WINDOWS } from './time-source'

/* What is to be said of this machine's clock, by what a source has answered that the user has named. */

/** What it takes to tell. */
export type OfClock = Pick<Evidence, 'clock' | 'period' | 'timeOffset'>

/** What is wrong with the clock, as far as its source proves it; nothing where it will do, or nobody knows. */
export function ofWrongClock(evidence: OfClock): Finding[] {
  const { clock, period, timeOffset } = evidence
  if (!clock || typeof clock.offset === 'string') return []
  const { source, offset } = clock
  // A window to each side is accepted: a whole period is too much for sure.
  if (Math.abs(offset) <= period * 1000) return []
  if (!isProved(source))
    return [
      {
        seen: differing(evidence, 0),
        unknown: 'nothing proves an answer by ntp: anyone in this network may have forged it',
        hint: 'ask with --time-source https://HOST',
      },
    ]
  const seconds = Math.round(offset / 1000)
  const seen = `${whose(evidence)} is ${Math.abs(seconds)} s ${offset > 0 ? 'behind' : 'ahead of'} that of ${source}`
  // What was added already counts: an answer that lies a little each time would add up.
  if (isTooMuch(timeOffset + seconds, period))
    return [
      {
        seen,
        unknown: `a correction of more than ${MOST_WINDOWS} windows of the key (${MOST_WINDOWS * period} s) would let anyone who hears the knock send it again later`,
        hint: 'set the clock, if you trust that answer',
      },
    ]
  return [{ seen, hint: `set the clock, or knock with --time-offset ${timeOffset + seconds}` }]
}

/** Whether nobody in this network can have given the answer of a time source. */
const isProved = (source: string) => source.startsWith('https:')

/** By how much the clocks differ, and not which way: with that, an answer that nothing proves would be a correction. */
function differing(evidence: OfClock, digits: number): string {
  const { source, offset } = evidence.clock ?? {}
  return `${whose(evidence)} and that of ${source} differ by ${(Math.abs(Number(offset)) / 1000).toFixed(digits)} s`
}

const whose = ({ timeOffset }: OfClock) => (timeOffset === 0 ? 'this clock' : 'this clock, as --time-offset corrects it,')

const THEIRS = "the server's clock may be wrong"

/** What there is to say of a clock of which {@link ofWrongClock} has found nothing: that it is right, or that nobody knows. */
export function ofUsableClock(evidence: OfClock): Finding[] {
  const { clock } = evidence
  const unknown = 'it is not known whether this clock is right'
  if (!clock) return [{ unknown, hint: 'check the clock with --time-source https://HOST' }]
  const { source, offset } = clock
  if (typeof offset === 'string') return [{ unknown: `${unknown}: ${offset}` }]
  if (!isProved(source))
    return [{ seen: `${differing(evidence, 1)}, unless somebody in this network forged that answer`, unknown: THEIRS }]
  return [
    { seen: `${whose(evidence)} is right to ${(Math.abs(offset) / 1000).toFixed(1)} s, according to ${source}`, unknown: THEIRS },
  ]
}
