import { describe, expect, it } from 'vitest'
import { freshBase, type LedgerRecord } from '../../src/gate/ledger'
import { type Bounds, CONDUCT, type Conduct, explore } from './model'

const BOUNDS: Bounds = { knocks: [0, 0], skews: [1], crashes: 3, clocks: 2, steps: [-30, 30], failures: 2, losses: 0 }
/** With no skew a knock of the next window raises the floor over one of this window. */
const FLOORS: Bounds = { ...BOUNDS, knocks: [0, 1], skews: [0] }
/** A ledger is lost, and the clock is right or set forward; one client's clock is ahead, the other's behind, as far as the skew allows. */
const LOSS: Bounds = { ...BOUNDS, knocks: [1, -1], steps: [30], losses: 1 }

describe('no knock acts twice, and none before it is durable, in any order of', () => {
  it.each<[string, Bounds, number]>([
    ['one knock, sent by two', { ...BOUNDS, knocks: [0] }, 1_000],
    ['two knocks of one window', BOUNDS, 10_000],
    ['two knocks of which one raises the floor over the other', FLOORS, 30_000],
    ['the same with a skew of 1', { ...BOUNDS, knocks: [0, 3], steps: [-90, -30, 30, 90], failures: 1 }, 50_000],
    ['the same with restarts that change the skew', { ...FLOORS, skews: [0, 1], failures: 1 }, 50_000],
    ['two knocks and a ledger that is lost', LOSS, 5_000],
    ['two knocks and rebases, whatever the clock', { ...FLOORS, skews: [0, 1], failures: 0, rebases: 2 }, 50_000],
  ])('%s', (_, bounds, atLeast) => {
    const { states, broken } = explore(bounds)
    expect(broken).toBeNull()
    // Fewer would mean that something is no longer explored.
    expect(states).toBeGreaterThan(atLeast)
  })
})

describe('the checker finds', () => {
  const DURABLE = 'a knock that has acted is durable'
  const withoutFloor = (record: LedgerRecord) => (record.kind === 'base' ? record : { ...record, floor: 0 })

  it.each<[string, Partial<Conduct>, Bounds, string]>([
    ['a door that is opened before the sync', { actsBeforeSync: true }, BOUNDS, DURABLE],
    ['claims that are looked up on the disk alone', { claimsOnDisk: true }, LOSS, 'no knock acts twice'],
    ['a restart that does not read the ledger', { read: () => [] }, BOUNDS, DURABLE],
    ['a restart that forgets the floor', { read: (records) => records.map(withoutFloor) }, FLOORS, DURABLE],
    ['a restart that throws a damaged ledger away', { read: (records, damaged) => (damaged ? [] : records) }, BOUNDS, DURABLE],
    ['a start without a wait when the ledger is lost', { startsAtOnce: true }, LOSS, DURABLE],
    [
      'a rebase that starts from nothing',
      { rebase: (_, wall, skew) => [freshBase(wall, skew)] },
      { ...BOUNDS, rebases: 1 },
      DURABLE,
    ],
    [
      'a future knock that is not written down',
      { forgetsFuture: true },
      BOUNDS,
      'a knock that was refused as a future one never acts',
    ],
  ])('%s', (_, fault, bounds, promise) => {
    expect(explore(bounds, { ...CONDUCT, ...fault }).broken?.promise).toBe(promise)
  })

  it('the shortest way to it', () => {
    expect(explore(BOUNDS, { ...CONDUCT, read: () => [] }).broken?.way).toEqual([
      'a is sent and claimed',
      '1 of 1 lines are synced',
      'a opens its door',
    ])
  })
})

/* What one ledger on one disk cannot prevent: known, and documented in docs/threat-model.md. */
describe('it takes both', () => {
  it('a lost ledger and a clock that is set back to open twice', () => {
    expect(explore({ ...LOSS, steps: [-30] }).broken?.way).toEqual(
      expect.arrayContaining([expect.stringMatching('ledger is lost')]),
    )
  })

  it('a lost ledger and a client with a wrong clock to open for its listener', () => {
    expect(explore({ ...LOSS, knocks: [2] }).broken?.promise).toBe('a knock that was refused as a future one never acts')
  })
})
