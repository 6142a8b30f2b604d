import type { Logger } from 'pino'
import { describe, expect, it } from 'vitest'
import { floorsAhead, warnOfFloors, whyAhead } from '../../src/daemon/ahead'
import { freshBase, Ledger, type LedgerRecord } from '../../src/gate/ledger'
import { serverKey } from '../replay/world'

const [alice, bob] = [serverKey(1), serverKey(2)]
const NOW = Date.UTC(2026, 10, 22, 12)
const HOUR = 3_600_000
const YEAR = 8_760 * HOUR

/** A ledger that was begun by a clock so far ahead. */
const base = (ahead: number): LedgerRecord => freshBase(NOW + ahead, 1)
/** A key that has knocked by one. */
const floor = (ahead: number, { fingerprint } = alice): LedgerRecord => ({
  kind: 'floor',
  fingerprint,
  period: 30,
  floor: (NOW + ahead) / 30_000,
})
const ledger = (...records: LedgerRecord[]) => new Ledger(records, { append: async () => {} }, 1)
const told = (records: LedgerRecord[], keys = [alice, bob]) =>
  floorsAhead(ledger(...records), keys, NOW).map(({ key, isFar, message }) => [key?.id, isFar, message])

const BASE = "the ledger's base is ahead of the clock: nothing opens before"
const REMEDY = ', not even with a new key: set the clock right, stop the daemon and run "knockturn ledger rebase"'
const OWN = 'the floor of this key is ahead of the clock: it opens nothing before'

describe('of the floors of a ledger', () => {
  it('none is told where none is ahead', () => {
    expect(told([base(-60_000), floor(0)])).toEqual([])
  })

  it('the base is told once, with a remedy that works', () => {
    expect(told([base(YEAR)])).toEqual([[undefined, true, `${BASE} 2027-11-22T12:01:00Z${REMEDY}`]])
  })

  it('the base is no fault of a clock in its first minute', () => {
    expect(told([base(0)])).toEqual([[undefined, false, `${BASE} 2026-11-22T12:01:00Z`]])
  })

  it.each([
    [HOUR, false],
    [HOUR + 30_000, true],
  ])('a key’s is told to be %i ms ahead, and whether that is far: %s', (ahead, isFar) => {
    const until = new Date(NOW + ahead).toISOString().replace('.000', '')
    expect(told([floor(ahead)])).toEqual([
      ['user1', isFar, `${OWN} ${until}: set the clock if it is behind; a new key opens at once`],
    ])
  })

  it('a key’s is told with the base where a new key would have to wait for that', () => {
    expect(told([base(YEAR), floor(2 * YEAR)])).toEqual([
      [
        'user1',
        true,
        `${OWN} 2028-11-21T12:00:00Z: set the clock if it is behind; a new key opens from 2027-11-22T12:01:00Z on, because the ledger's base is ahead, too`,
      ],
      [undefined, true, `${BASE} 2027-11-22T12:01:00Z${REMEDY}`],
    ])
  })

  it.each([{ revoked: 1 }, { expires: NOW }])('that of a key that is over is not told: %j', (over) => {
    expect(told([floor(YEAR)], [{ ...alice, ...over }])).toEqual([])
  })

  it('one is told that is further ahead than a date can say', () => {
    expect(told([{ kind: 'base', seconds: 2 ** 52, ahead: 2 }])).toEqual([
      [undefined, true, `${BASE} +275760-09-13T00:00:00Z${REMEDY}`],
    ])
  })
})

describe('at the start', () => {
  const said = (records: LedgerRecord[], keys = [alice, bob]) => {
    const lines: unknown[] = []
    const log = Object.fromEntries(
      ['warn', 'error'].map((level) => [level, (about: object, line: string) => lines.push([level, about, line])]),
    )
    warnOfFloors(ledger(...records), keys, false, log as unknown as Logger, NOW)
    return lines
  }

  it('one line tells of many keys by a clock that is behind, and names some of them', () => {
    const keys = Array.from({ length: 30 }, (_, n) => serverKey(n + 1))
    const lines = said(
      keys.map(({ fingerprint }, n) => floor(n * 30_000 + 30_000, { ...alice, fingerprint })),
      keys,
    )
    const told = 'the floors of 30 keys are ahead of the clock: they open nothing before 2026-11-22T12:15:00Z at the latest'
    expect(lines).toEqual([
      ['warn', { keys: keys.slice(0, 10).map(({ id }) => id) }, `${told}: set the clock if it is behind, or make new keys`],
    ])
  })

  it('it is an error where one of them is far ahead', () => {
    expect(said([floor(2 * HOUR), floor(30_000, bob)])).toEqual([
      ['error', { keys: [alice.id, bob.id] }, expect.stringContaining('the floors of 2 keys')],
    ])
  })

  it('that of one key is told by itself, and the base, too', () => {
    expect(said([base(YEAR), floor(2 * YEAR)])).toEqual([
      ['error', expect.objectContaining({ key: alice.id }), expect.stringContaining(OWN)],
      ['error', {}, expect.stringContaining(BASE)],
    ])
  })
})

describe('why a key opens nothing', () => {
  it.each([
    ['the base', [base(YEAR), floor(HOUR)], BASE],
    ['its own floor', [base(HOUR), floor(YEAR)], OWN],
  ])('is %s where that is further ahead', (_, records, why) => {
    expect(whyAhead(ledger(...records), alice, NOW)).toMatch(why)
  })

  it('is none of the clock where no floor is ahead', () => {
    expect(whyAhead(ledger(base(-60_000)), alice, NOW)).toBeUndefined()
  })
})
