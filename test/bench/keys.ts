// What a tap costs with this many keys, the process's argument. Prints nanoseconds, the median of each kind of source.

import { median, report, times } from './figures'
import { daemonWithKeys, processorTime, tapsOf } from './stage'
import { SOURCES, traffic } from './traffic'

const ROUNDS = times(5, 1)
/** Rounds before those that count. */
const WARM = times(4, 0)
const TAPS = times(50_000, 5_000)

async function measure(count: number, sources: string): Promise<number> {
  const daemon = await daemonWithKeys(count)
  const samples: number[] = []
  for (let round = 0; round < WARM + ROUNDS; round++) {
    const taps = await tapsOf('pcap', traffic('pcap', sources, round * TAPS, TAPS))
    const listen = () => {
      for (const tap of taps) daemon.hear(tap)
    }
    if (round < WARM) listen()
    else samples.push(((await processorTime(listen)) / TAPS) * 1000)
  }
  await daemon.settle()
  return median(samples)
}

report(async () => {
  const medians: Record<string, number> = {}
  for (const sources of Object.keys(SOURCES)) medians[sources] = await measure(Number(process.argv[2]), sources)
  return medians
})
