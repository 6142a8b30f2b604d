// What a daemon computes for a knock: its decode, and the codebook of a key's window, in microseconds.

import { createCipheriv } from 'node:crypto'
import { codebook, symbolOf } from '../../src/protocol/codebook'
import { open } from '../../src/protocol/knock'
import { unseal } from '../../src/protocol/seal'
import { keyOf, knockOf, WINDOW } from '../gate/listener/ear'
import { report, row, times } from './figures'
import { processorTime } from './stage'

const ROUNDS = times(9, 1)
/** Rounds before those that count: with fewer, some processes have settled on slower code than others. */
const WARM = times(9, 0)
/** Runs of a round: enough for the clock's resolution. */
const RUNS = times({ open: 1_000, unseal: 1_000, book: 100, cipher: 600 }, { open: 10, unseal: 10, book: 1, cipher: 6 })
const WRONG = 8

const key = keyOf(1)
const book = codebook(key, WINDOW)

const said = knockOf(key)
  .map((port) => symbolOf(book, port))
  .filter((symbol) => symbol >= 0)

/** A knock's symbols as the listener reads them, the first of them falsified, each in another way. */
function reading(wrong: number) {
  return {
    places: Uint8Array.from(said, (symbol) => symbol >> 8),
    symbols: Uint8Array.from(said, (symbol, i) => symbol ^ (i < wrong ? 1 + ((i * i * 37) % 255) : 0)),
  }
}

const clean = reading(0)
const damaged = reading(WRONG)
const noise = reading(said.length)
const opening = ({ places, symbols }: typeof clean) => open(key, WINDOW, places, symbols, 28)
const opened = opening(clean)
if (!opened || !opening(damaged)) throw new Error('a knock does not open')
const { sealed } = opened
const zeros = Buffer.alloc(4 * (book.ports.length - 8))

const works = {
  clean: [RUNS.open, () => opening(clean)],
  damaged: [RUNS.open, () => opening(damaged)],
  noise: [RUNS.open, () => opening(noise)],
  unseal: [RUNS.unseal, () => unseal(key, WINDOW, sealed)],
  book: [RUNS.book, () => codebook(key, WINDOW)],
  // A codebook's draws, by OpenSSL.
  cipher: [RUNS.cipher, () => createCipheriv('chacha20', key.codebookKey, Buffer.alloc(16)).update(zeros)],
} as const

report(async () => {
  const samples = Object.fromEntries(Object.keys(works).map((name) => [name, [] as number[]]))
  for (let round = 0; round < WARM + ROUNDS; round++) {
    for (const [name, [runs, work]] of Object.entries(works)) {
      const all = () => {
        for (let i = 0; i < runs; i++) work()
      }
      if (round < WARM) all()
      else samples[name].push((await processorTime(all)) / runs)
    }
  }
  const unsealing = { what: 'its unsealing', samples: samples.unseal }
  return [
    row('decode of a knock', 'µs', samples.clean, unsealing),
    row(`  with ${WRONG} of ${said.length} symbols wrong`, 'µs', samples.damaged, unsealing),
    row('  of noise, without success', 'µs', samples.noise),
    row('codebook', 'µs', samples.book, { what: 'its ChaCha20 by OpenSSL', samples: samples.cipher }),
  ]
})
