// Claims a second that reach the disk, in the folder that is the process's argument.

import { type FileHandle, open } from 'node:fs/promises'
import { join } from 'node:path'
import { openLedger } from '../../src/daemon/ledger/disk'
import type { Knock } from '../../src/gate/knock'
import { keyOf, requestOf, SOURCE, WINDOW } from '../gate/listener/ear'
import { report, row, times } from './figures'

const ROUNDS = times(21, 1)
const WARM = times(1, 0)
/** Claims of a round, one at a time and with so many waiting. */
const SINGLE = times(300, 10)
const WAITING = 256
const MANY = times(16, 1) * WAITING
/** Bytes of a claim's line, nearly. */
const LINE = 100

const key = keyOf(1)
const fingerprint = 'f'.repeat(32)
let claims = 0

/** Another knock each time; each round has a window of its own, since one holds 4,096 knocks. */
const knockOf = (window: number): Knock => ({
  key,
  window,
  request: requestOf(1),
  v: (++claims).toString(16).padStart(32, '0'),
  source: SOURCE,
  destination: SOURCE,
  heard: 0,
  arrival: 'timely',
})

/** How many a second. */
async function rate(count: number, work: () => Promise<void>): Promise<number> {
  const began = performance.now()
  await work()
  return (count / (performance.now() - began)) * 1000
}

/** Appends as bare as they can be: write, fdatasync. */
async function appends(file: FileHandle, times: number, bytes: number): Promise<void> {
  const data = Buffer.alloc(bytes, 'x')
  for (let i = 0; i < times; i++) {
    await file.write(data)
    await file.datasync()
  }
}

report(async () => {
  const folder = process.argv[2]
  const { ledger, disk } = await openLedger(join(folder, 'ledger'), 1, Date.now(), true, () => {})
  const bare = await open(join(folder, 'bare'), 'a')
  const claim = async (window: number) => {
    const claimed = ledger.note(knockOf(window), fingerprint)
    if (claimed.outcome !== 'spent') throw new Error(`a claim is ${claimed.outcome}`)
    await claimed.durable
  }
  const samples = { single: [] as number[], bare: [] as number[], many: [] as number[], bareMany: [] as number[] }
  for (let round = 0; round < WARM + ROUNDS; round++) {
    const window = WINDOW + 2 * round
    const claimAll = async () => {
      for (let i = 0; i < MANY / WAITING; i++) await claim(window + 1)
    }
    const rates = {
      bare: await rate(SINGLE, () => appends(bare, SINGLE, LINE)),
      single: await rate(SINGLE, async () => {
        for (let i = 0; i < SINGLE; i++) await claim(window)
      }),
      bareMany: await rate(MANY, () => appends(bare, MANY / WAITING, WAITING * LINE)),
      many: await rate(MANY, async () => {
        await Promise.all(Array.from({ length: WAITING }, claimAll))
      }),
    }
    if (round >= WARM) for (const [name, value] of Object.entries(rates)) samples[name as keyof typeof rates].push(value)
  }
  await disk.close()
  await bare.close()
  return [
    row('durable claims, one at a time', 'claims/s', samples.single, { what: 'fdatasync of 100 bytes', samples: samples.bare }),
    row(`  ${WAITING} waiting`, 'claims/s', samples.many, { what: `fdatasync of ${WAITING} × 100`, samples: samples.bareMany }),
  ]
})
