import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  formatBase,
  formatEntry,
  formatWindow,
  leaseRow,
  lockRow,
  MAX_ENTRY,
  parseBase,
  parseEntry,
  parseWindow,
  placeOf,
  readShared,
  rowOf,
  type SharedEntry,
  sourceCode,
  spentRow,
} from '../../../src/daemon/fleet/rows'
import type { Entry, Lease, Lock } from '../../../src/gate/firewall'
import { serverKey } from '../../replay/world'

const FLEET = '00112233445566aa'
const { key: KEY, fingerprint } = serverKey(1)
const { key: OTHER_KEY, fingerprint: otherFingerprint } = serverKey(2)

const LEASE: Lease = {
  ...{ id: '3fa94b12', key: 'alice', fingerprint, address: '198.51.100.2', protocol: 'tcp', port: 22, once: false },
  until: 1_770_000_060,
}
const LOCK: Lock = { id: '3fa94b12', key: 'alice', fingerprint, address: '198.51.100.2', until: 1_770_000_060 }
const shared = <One extends Entry>(entry: One): SharedEntry<One> => ({
  ...{ entry, gateway: 'gw1', epoch: 3 },
  seconds: entry.until === null ? null : 60,
})
const format = (entry: Entry, row = rowOf(entry), fleet = FLEET, key = KEY) => formatEntry(row, shared(entry), fleet, key)

const address = fc.oneof(
  fc.ipV4(),
  fc.nat(255).map((n) => `198.51.${n}.0/24`),
  fc.nat(65_535).map((n) => `2001:db8:${(n || 1).toString(16)}::1`),
)
const until = fc.option(fc.integer({ min: 0, max: 4_000_000_000 }))
const lease: fc.Arbitrary<Lease> = fc.record({
  id: fc.nat(0xffffffff).map((n) => n.toString(16).padStart(8, '0')),
  key: fc.constantFrom('alice', 'bob-2'),
  fingerprint: fc.constant(fingerprint),
  address,
  protocol: fc.constantFrom('tcp', 'udp'),
  port: fc.integer({ min: 1, max: 65_535 }),
  once: fc.boolean(),
  until,
})

describe('the row of a lease or a lock', () => {
  it('is read as it was written', () => {
    fc.assert(
      fc.property(lease, (entry) => {
        const row = rowOf(entry)
        expect(parseEntry(row, formatEntry(row, shared(entry), FLEET, KEY), FLEET, KEY)).toEqual(shared(entry))
      }),
    )
    expect(parseEntry(lockRow(LOCK), format(LOCK), FLEET, KEY)).toEqual(shared(LOCK))
  })

  it('of the longest that there can be is not too long', () => {
    const key = 'k'.repeat(64)
    const entry = { ...LEASE, key, id: 'ffffffff.63', address: 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff', port: 65_535 }
    const value = formatEntry(rowOf(entry), { ...shared(entry), gateway: key, epoch: 2 ** 53 - 1 }, FLEET, KEY)
    expect(value.length).toBeLessThan(0.7 * MAX_ENTRY)
  })

  it('says by its name where it is, and nothing else does', () => {
    fc.assert(fc.property(lease, (entry) => void expect(rowOf(placeOf(leaseRow(entry)) as Entry)).toBe(leaseRow(entry))))
    expect(placeOf(lockRow(LOCK))).toMatchObject({ fingerprint, address: LOCK.address })
    const names = ['', 'shared/lease/', `shared/lease/${fingerprint}/icmp/1/::1`, `shared/lock/${fingerprint}/`, 'shared/base']
    expect(names.map(placeOf)).toEqual(names.map(() => null))
  })

  it.each<[string, () => ReturnType<typeof parseEntry>]>([
    ['by another key', () => parseEntry(leaseRow(LEASE), format(LEASE, leaseRow(LEASE), FLEET, OTHER_KEY), FLEET, KEY)],
    ['by another key, for itself', () => parseEntry(leaseRow(LEASE), format(LEASE), FLEET, OTHER_KEY)],
    ['of another fleet', () => parseEntry(leaseRow(LEASE), format(LEASE, leaseRow(LEASE), 'ffffffffffffffff'), FLEET, KEY)],
    [
      'that was moved to another address',
      () => parseEntry(leaseRow({ ...LEASE, address: '203.0.113.9' }), format(LEASE), FLEET, KEY),
    ],
    ['that was moved to another port', () => parseEntry(leaseRow({ ...LEASE, port: 443 }), format(LEASE), FLEET, KEY)],
    [
      'that was moved to another key',
      () => parseEntry(leaseRow({ ...LEASE, fingerprint: otherFingerprint }), format(LEASE), FLEET, KEY),
    ],
    ['of a lease in the place of a lock', () => parseEntry(lockRow(LOCK), format(LEASE), FLEET, KEY)],
    ['of a lock in the place of a lease', () => parseEntry(leaseRow(LEASE), format(LOCK), FLEET, KEY)],
    // Even who has the key writes nothing that its name does not say.
    [
      'whose name says another address',
      () => {
        const row = leaseRow({ ...LEASE, address: '203.0.113.9' })
        return parseEntry(row, format(LEASE, row), FLEET, KEY)
      },
    ],
    [
      'whose name says another fingerprint',
      () => {
        const entry = { ...LEASE, fingerprint: otherFingerprint }
        return parseEntry(rowOf(entry), format(entry), FLEET, KEY)
      },
    ],
    [
      'whose name says its address otherwise',
      () => {
        const entry = { ...LEASE, address: '::ffff:198.51.100.2' }
        return parseEntry(rowOf(entry), format(entry), FLEET, KEY)
      },
    ],
    [
      'that has an end and no time',
      () => parseEntry(rowOf(LEASE), formatEntry(rowOf(LEASE), { ...shared(LEASE), seconds: null }, FLEET, KEY), FLEET, KEY),
    ],
    [
      'of a port that there is not',
      () => {
        const entry = { ...LEASE, port: 70_000 }
        return parseEntry(rowOf(entry), format(entry), FLEET, KEY)
      },
    ],
  ])('%s is none', (_, parse) => {
    expect(parse()).toBeNull()
  })

  it('is none where a single character of it is another one, or is missing', () => {
    const value = format(LEASE)
    for (let at = 0; at < value.length; at++) {
      const spoilt = `${value.slice(0, at)}${value[at] === '1' ? '2' : '1'}${value.slice(at + 1)}`
      expect([parseEntry(rowOf(LEASE), spoilt, FLEET, KEY), at]).toEqual([null, at])
      expect(parseEntry(rowOf(LEASE), value.slice(0, at) + value.slice(at + 1), FLEET, KEY)).toBeNull()
    }
  })

  it('is none where its code is another one’s, longer, shorter, or not text', () => {
    const { body, code } = JSON.parse(format(LEASE)) as { body: string; code: string }
    const codes = ['', code.slice(1), `${code}0`, code.toUpperCase(), 'é'.repeat(32), null, 0, [code], undefined]
    for (const other of codes) expect(parseEntry(rowOf(LEASE), JSON.stringify({ body, code: other }), FLEET, KEY)).toBeNull()
    expect(parseEntry(rowOf(LEASE), JSON.stringify({ body, code }), FLEET, KEY)).toEqual(shared(LEASE))
  })

  it('is none, and no fault, whatever stands there', () => {
    const value = fc.oneof(
      fc.string(),
      fc.json(),
      fc.record({ body: fc.oneof(fc.string(), fc.json()), code: fc.string() }).map((sealed) => JSON.stringify(sealed)),
      fc.constantFrom('null', '[]', '{}', '{"__proto__":null}', '{"body":"{}"}', '9'.repeat(10_000), '['.repeat(10_000)),
    )
    fc.assert(fc.property(fc.string(), value, (row, text) => void expect(parseEntry(row, text, FLEET, KEY)).toBeNull()))
    fc.assert(fc.property(value, (text) => void expect(parseEntry(rowOf(LEASE), text, FLEET, KEY)).toBeNull()))
  })
})

describe('what a shared row is of', () => {
  it.each([
    ['shared/base', 'base', ''],
    ['shared/compacted', 'compacted', ''],
    [`shared/revoked/${fingerprint}`, 'revoked', fingerprint],
    ['shared/gateway/gw1', 'gateway', 'gw1'],
    [leaseRow(LEASE), 'lease', `${fingerprint}/tcp/22/198.51.100.2`],
    [lockRow(LOCK), 'lock', `${fingerprint}/198.51.100.2`],
  ])('%s is told by its name', (row, kind, rest) => {
    expect(readShared(row)).toEqual({ kind, rest })
  })

  it.each(['', 'shared/', 'shared/leases/x', 'shared/revoked/', 'ledger/spent/x', 'xshared/base', 'shared/base2'])(
    '%j is of nothing',
    (row) => {
      expect(readShared(row)).toBeNull()
    },
  )
})

describe('a window', () => {
  it('is read as it was written, and compared as bytes as it is by number', () => {
    const window = fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER })
    fc.assert(
      fc.property(window, window, (a, b) => {
        expect(parseWindow(formatWindow(a))).toBe(a)
        expect(formatWindow(a) < formatWindow(b)).toBe(a < b)
      }),
    )
  })

  it.each(['', '0', 'x'.repeat(16), '0'.repeat(17), 'f'.repeat(16), '000000000000000G', `${'0'.repeat(16)}\n`])(
    'is not %j',
    (text) => {
      expect(parseWindow(text)).toBeNull()
    },
  )
})

describe('a base', () => {
  const base = { fleet: FLEET, server: 'gate', epoch: 2, seconds: 1_770_000_000, ahead: 2 }

  it('is read as it was written', () => {
    expect(parseBase(formatBase(base))).toEqual(base)
  })

  it.each([
    '',
    'null',
    '{}',
    formatBase({ ...base, fleet: 'x' }),
    formatBase({ ...base, seconds: -1 }),
    formatBase({ ...base, epoch: 0.5 }),
  ])('is not %j', (value) => {
    expect(parseBase(value)).toBeNull()
  })
})

describe('the code of a source', () => {
  const knock = { key: KEY, window: 29_500_000, v: '00'.repeat(16), source: '198.51.100.2' }

  it('is the same for the same source of the same knock, and for no other', () => {
    const others = [{ source: '198.51.100.3' }, { window: 29_500_001 }, { v: '11'.repeat(16) }, { key: OTHER_KEY }]
    const codes = [{}, {}, ...others].map((other) => sourceCode((other as typeof knock).key ?? KEY, { ...knock, ...other }))
    expect(codes[0]).toBe(codes[1])
    expect(new Set(codes).size).toBe(5)
    expect(codes.join()).not.toContain('198.51')
  })
})

it('a spent knock has a row of its own', () => {
  const knock = { key: KEY, window: 29_500_000, v: 'ab' }
  expect(spentRow(knock, fingerprint)).toBe(`ledger/spent/${fingerprint}/${KEY.period}/0000000001c22260/ab`)
})
