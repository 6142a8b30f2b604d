// Taps a second on one core: through the parser and the listener, and through each alone.

import type { Tap } from '../../src/gate/tap'
import { type Row, report, row, times } from './figures'
import { daemonWithKeys, parse, processorTime, stream, tapsOf } from './stage'
import { FORMS, SOURCES, traffic } from './traffic'

const KEYS = 20
const ROUNDS = times(7, 1)
/** Rounds before those that count: the code gets warm, and there are as many sessions as allowed. */
const WARM = times(3, 0)
/** Taps of a round. */
const TAPS = times(50_000, 5_000)
/** The floor is some ten times quicker than what is measured, and is run as often, so that the clock's resolution does not matter. */
const FLOOR_RUNS = 10
/** Taps a second that text and pcap are to reach. */
const TARGETS: Record<string, number> = { ulogd: 500_000, kernel: 500_000, pcap: 1_000_000 }

/** The floor: finds where each line or record ends, and reads nothing of it. */
function cut(form: string, chunks: readonly Buffer[]): Promise<void> {
  return new Promise((resolve) => {
    let skip = 24
    const lines = (chunk: Buffer) => {
      for (let at = 0; at >= 0; ) at = chunk.indexOf(10, at + 1)
    }
    const records = (chunk: Buffer) => {
      // A length that is cut in two by a chunk's end is treated like the others.
      while (skip < chunk.length) skip += 16 + (skip + 12 > chunk.length ? 168 : chunk.readUInt32LE(skip + 8))
      skip -= chunk.length
    }
    stream(chunks)
      .on('data', form === 'pcap' ? records : lines)
      .on('end', resolve)
  })
}

async function measure(form: string, sources: string): Promise<Row[]> {
  const whole = await daemonWithKeys(KEYS)
  const alone = await daemonWithKeys(KEYS)
  const listen = (taps: readonly Tap[]) => {
    for (const tap of taps) alone.hear(tap)
  }
  const samples: Record<'both' | 'parser' | 'listener' | 'floor', number[]> = { both: [], parser: [], listener: [], floor: [] }
  for (let round = 0; round < WARM + ROUNDS; round++) {
    const chunks = traffic(form, sources, round * TAPS, TAPS)
    const taps = await tapsOf(form, chunks)
    if (taps.length !== TAPS) throw new Error(`${form}, ${sources}: expected ${TAPS} taps, got ${taps.length}`)
    let heard = 0
    const works = {
      both: () => parse(form, chunks, (tap) => whole.hear(tap)),
      parser: () => parse(form, chunks, () => heard++),
      listener: () => listen(taps),
      floor: async () => {
        for (let run = 0; run < FLOOR_RUNS; run++) await cut(form, chunks)
      },
    }
    for (const name of Object.keys(works) as (keyof typeof works)[]) {
      if (round < WARM) await works[name]()
      else samples[name].push((TAPS / (await processorTime(works[name]))) * 1e6)
    }
  }
  await Promise.all([whole.settle(), alone.settle()])
  const floor = { what: form === 'pcap' ? 'records cut' : 'lines cut', samples: samples.floor.map((rate) => rate * FLOOR_RUNS) }
  const least = TARGETS[form]
  const main = row(`${form}, ${sources}`, 'taps/s', samples.both, floor)
  return [
    { ...main, target: { what: `≥ ${least / 1000} k`, met: (main.value ?? 0) >= least } },
    row('  parser alone', 'taps/s', samples.parser, floor),
    row('  listener alone', 'taps/s', samples.listener),
  ]
}

report(async () => {
  const rows: Row[] = []
  for (const form of Object.keys(FORMS)) for (const sources of Object.keys(SOURCES)) rows.push(...(await measure(form, sources)))
  return rows
})
