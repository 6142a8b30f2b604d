import { setTimeout as sleep } from 'node:timers/promises'
import { Deafness } from '../../gate/deafness'
import { Quiet } from '../../gate/quiet'
import type { TapSource } from './source'

/** Milliseconds between two looks. */
const LOOK = 10_000
/** Drops are said once in so many milliseconds: under a flood they don't end. */
const QUIET = 60_000

const SAID = {
  deaf:
    'the firewall logs packets, but none of them arrives and no knock opens anything: compare [taps] in the config with ' +
    '"knockturn firewall show", and run "knockturn firewall install" if they differ',
  unreadable:
    'packets that the firewall logs arrive, but for a minute none of them could be read: someone sends odd packets, or the log has ' +
    'another format than docs/taps.md shows',
  recovered: 'packets that the firewall logs are read again',
}

/** Looks at a source again and again, from now on until it is aborted. */
export async function watchTaps(look: (steady: number) => Promise<void>, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    await look(performance.now())
    await sleep(LOOK, undefined, { signal, ref: false }).catch(() => {})
  }
}

/**
 * Makes a look at whether what the firewall logs comes through.
 * @param logged how many packets the firewall has logged, or null where that is nobody's business; where it fails, nothing is concluded
 * @param warn told when the kernel has dropped packets, when none comes through or none can be read, and when that is over
 * @returns takes a look, at so many milliseconds on a monotonic clock
 */
export function tapWatch(
  taps: TapSource,
  logged: (() => Promise<number>) | null,
  warn: (message: string) => void,
): (steady: number) => Promise<void> {
  const deafness = new Deafness()
  const quiet = new Quiet(QUIET)
  let told = 0
  return async (steady) => {
    await taps.count?.()
    const dropped = taps.counters.dropped ?? 0
    if (dropped > told && quiet.may('dropped', steady)) {
      warn(`the kernel dropped ${dropped - told} packets before they were read: knocks among them must be sent again`)
      told = dropped
    }
    const packets = await logged?.().catch(() => undefined)
    if (packets === undefined) return
    // Asked only now: what the firewall has counted may have come meanwhile.
    const { seen, ignored, unreadable } = taps.counters
    const read = seen - ignored
    const change = deafness.look({ logged: packets, arrived: read + unreadable, read }, steady)
    if (change) warn(SAID[change])
  }
}
