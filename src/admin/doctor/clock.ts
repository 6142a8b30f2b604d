import { Finding } from '../../daemon/checks/finding'
import type { Check } from '../../system/check'
import { askKeepers, type ClockFacts } from '../../system/clock-keepers'

/* Whether the clock is kept, and how far off it is, as the program says that keeps it. Nobody in the network is asked. */

/** Seconds by which a clock may be off. A knock is made for a window of 30 s, and clients' clocks are off, too: half a window is theirs. */
const TOO_FAR = 15
/** Seconds that are more than a clock which is kept is off by. */
const FAR = 1

/** Looks whether the clock is right. */
export async function checkClockKept(): Promise<readonly Check[]> {
  return judgeClock(await askKeepers())
}

/** Judges what was said of the clock, by whoever knows of it. */
export function judgeClock(facts: readonly ClockFacts[]): readonly Check[] {
  const found = new Finding('clock kept')
  const offset = facts.find((one) => one.offset !== null)
  const kept = facts.find(({ isKept }) => isKept === true)
  const off = offset?.offset ?? null
  const far = off === null ? '' : `${formatOffset(off)} (${offset?.by})`
  if (off !== null && Math.abs(off) > TOO_FAR) found.wrong(`the clock is ${far}: knocks are refused as stale or future`, SET)
  else if (off !== null && Math.abs(off) > FAR) found.felt(`the clock is ${far}: a knock has so much less time`, SET)
  if (!kept && facts.some(({ isKept }) => isKept === false))
    found.felt(
      `nothing keeps the clock (${facts.map(({ by }) => by).join(', ')}): it drifts, and with it the time in which knocks count`,
      'run "timedatectl set-ntp true", or install chrony (Debian: apt-get install chrony)',
    )
  else if (!kept && found.isWell)
    found.unknown(
      'none of timedatectl, chronyc, ntpq and adjtimex says whether the clock is kept',
      'compare "date -u" with a clock that is right, or install chrony (Debian: apt-get install chrony)',
    )
  return found.end(`it is kept (${kept?.by}), and ${off === null ? 'nothing says how far it is off' : far}`)
}

const SET =
  'run "timedatectl set-ntp true", or with chrony "chronyc makestep"; then see whether keys have a floor ahead: "knockdaemon --check"'

function formatOffset(seconds: number): string {
  const size = Math.abs(seconds)
  const text = size < 1 ? `${(1_000 * size).toFixed(size < 0.001 ? 3 : 1)} ms` : `${size.toFixed(1)} s`
  return `${text} ${seconds < 0 ? 'behind' : 'ahead'}`
}
