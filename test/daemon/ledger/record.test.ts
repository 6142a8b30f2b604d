import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { formatRecord, parseRecord, readLedger } from '../../../src/daemon/ledger/record'
import type { LedgerRecord } from '../../../src/gate/ledger'
import { file, SAMPLES, spent } from './sample'

const hex = fc.stringMatching(/^[0-9a-f]{32}$/)
const number = fc.maxSafeNat()
const records: fc.Arbitrary<LedgerRecord> = fc.oneof(
  fc.record({ kind: fc.constant('base'), seconds: number, ahead: number }),
  fc.record({ kind: fc.constant('floor'), fingerprint: hex, period: number, floor: number }),
  fc.record({ kind: fc.constant('spent'), fingerprint: hex, period: number, window: number, v: hex, floor: number }),
)

describe('a record', () => {
  it('comes back from its line', () => {
    fc.assert(
      fc.property(records, (record) => {
        expect(parseRecord(formatRecord(record))).toEqual(record)
      }),
    )
  })

  it.each(SAMPLES.map((record) => [record.kind, record] as const))('(%s) with any bit flipped is none', (_, record) => {
    const line = Buffer.from(formatRecord(record), 'latin1')
    for (let bit = 0; bit < 8 * line.length; bit++) {
      const flipped = Buffer.from(line)
      flipped[bit >> 3] ^= 1 << (bit & 7)
      expect(parseRecord(flipped.toString('latin1'))).toBeNull()
    }
  })

  it.each(SAMPLES.map((record) => [record.kind, record] as const))('(%s) cut anywhere is none', (_, record) => {
    const line = formatRecord(record)
    for (let end = 0; end < line.length; end++) expect(parseRecord(line.slice(0, end))).toBeNull()
  })

  it('with a number too large to be exact is none', () => {
    expect(parseRecord(formatRecord({ kind: 'base', seconds: 2 ** 53, ahead: 2 }))).toBeNull()
  })

  it('of another kind is none, whatever its checksum', () => {
    expect(parseRecord(formatRecord({ ...SAMPLES[0], kind: 'base', seconds: -1 } as LedgerRecord))).toBeNull()
  })

  it('is none in any other text', () => {
    fc.assert(
      fc.property(fc.string(), (line) => {
        expect(parseRecord(line)).toBeNull()
      }),
    )
  })
})

describe('the bytes of a ledger', () => {
  const bytes = file(SAMPLES)

  it('that are none are damage: an empty file has been emptied', () => {
    expect(readLedger(Buffer.alloc(0))).toEqual({ state: 'damaged', records: [] })
  })

  it('that are all there are a whole one', () => {
    expect(readLedger(bytes)).toEqual({ state: 'whole', records: SAMPLES })
  })

  it('cut anywhere before what was synced are a damaged one, with the full records', () => {
    for (let length = 1; length < bytes.length; length++) {
      const lines = bytes.toString('latin1', 36, length).split('\n').length - 1
      expect(readLedger(bytes.subarray(0, length))).toEqual({
        state: 'damaged',
        records: length < 36 ? [] : SAMPLES.slice(0, lines),
      })
    }
  })

  it('torn anywhere beyond what was synced are a whole one, with the full records', () => {
    const more = [spent(59_833_335), spent(59_833_336)]
    const synced = bytes.length
    const torn = file([...SAMPLES, ...more], { synced })
    for (let length = synced; length <= torn.length; length++) {
      const lines = torn.toString('latin1', synced, length).split('\n').length - 1
      expect(readLedger(torn.subarray(0, length))).toEqual({ state: 'whole', records: [...SAMPLES, ...more.slice(0, lines)] })
    }
  })

  it.each([
    ['zeros', '\0'.repeat(100)],
    ['zeros and an end of line', `${'\0'.repeat(100)}\n`],
    ['another’s text', 'hello\nworld\n'],
  ])('followed by %s that were never synced are a whole one', (_, tail) => {
    expect(readLedger(file(SAMPLES, { tail }))).toEqual({ state: 'whole', records: SAMPLES })
  })

  it('with any bit flipped give no record that was not written', () => {
    const written = new Set(SAMPLES.map(formatRecord))
    for (let bit = 0; bit < 8 * bytes.length; bit++) {
      const flipped = Buffer.from(bytes)
      flipped[bit >> 3] ^= 1 << (bit & 7)
      expect(
        readLedger(flipped)
          .records.map(formatRecord)
          .every((line) => written.has(line)),
      ).toBe(true)
    }
  })

  it('with any bit of a record flipped are a damaged one', () => {
    for (let bit = 8 * 36; bit < 8 * bytes.length; bit++) {
      const flipped = Buffer.from(bytes)
      flipped[bit >> 3] ^= 1 << (bit & 7)
      expect(readLedger(flipped).state).toBe('damaged')
    }
  })

  it.each(['knockturn-ledger 2 0000000000000036\n', 'hello\n', '\0'.repeat(4096)])(
    'of something else (%j) are damaged',
    (text) => {
      expect(readLedger(Buffer.from(text, 'latin1')).state).toBe('damaged')
    },
  )

  it('of any kind are read without a throw', () => {
    fc.assert(
      fc.property(fc.uint8Array(), (any) => {
        expect(['missing', 'damaged']).toContain(readLedger(Buffer.from(any)).state)
      }),
    )
  })
})
