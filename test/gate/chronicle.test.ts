import { describe, expect, it } from 'vitest'
import { Chronicle, type Memory } from '../../src/gate/chronicle'
import type { Lease } from '../../src/gate/firewall'

const HOUR = 3_600_000
/** The beginning of an hour, in Unix milliseconds. */
const START = 491_667 * HOUR
const at = (hours: number, minutes = 0) => START + hours * HOUR + minutes * 60_000

const KNOCK = { key: 'alice', source: '198.51.100.2', action: 'open' }
const LEASE: Lease = {
  ...{ id: 'deadbeef', key: 'alice', fingerprint: 'a11ce0', address: '198.51.100.2' },
  ...{ protocol: 'tcp', port: 22, once: false, until: null },
}
const NOTHING: Memory = { lastTap: null, lastKnock: null, uses: new Map(), opened: new Map(), since: START, hours: [] }
const accept = (chronicle: Chronicle, when: number, fingerprint = 'a11ce0') =>
  chronicle.accepted(fingerprint, { ...KNOCK, at: when, windowsOff: 0 })

describe('a day', () => {
  it('has what came about in it, each refusal by its name', () => {
    const chronicle = new Chronicle(at(0))
    accept(chronicle, at(1))
    chronicle.refused('replayed', at(1), KNOCK)
    chronicle.refused('replayed', at(2), KNOCK)
    chronicle.refused('locked', at(2))
    expect(chronicle.day(at(3))).toMatchObject({ since: at(0), accepted: 1, refused: { replayed: 2, locked: 1 } })
  })

  it('ends: what is older than 24 hours is not in it', () => {
    const chronicle = new Chronicle(at(0))
    accept(chronicle, at(0, 30))
    accept(chronicle, at(1, 30))
    expect([chronicle.day(at(23, 59)).accepted, chronicle.day(at(24, 1)).accepted, chronicle.day(at(48)).accepted]).toEqual([
      2, 1, 0,
    ])
  })

  it('begins where it is known, and no more than 24 hours ago', () => {
    const chronicle = new Chronicle(at(0, 10))
    expect([chronicle.day(at(5)).since, chronicle.day(at(100, 5)).since]).toEqual([at(0, 10), at(77)])
  })

  it('takes no more room after a year', () => {
    const chronicle = new Chronicle(at(0))
    for (let hour = 0; hour < 365 * 24; hour++) accept(chronicle, at(hour))
    expect(chronicle.hours.length).toBe(24)
  })

  it('has nothing of times to come when the clock is set back', () => {
    const chronicle = new Chronicle(at(0))
    accept(chronicle, at(100))
    accept(chronicle, at(1))
    expect(chronicle.day(at(1, 1)).accepted).toBe(1)
  })
})

describe('taps', () => {
  it('are counted from one look to the next', () => {
    const chronicle = new Chronicle(at(0))
    chronicle.count({ taps: 10, dropped: 0 }, at(0, 1))
    chronicle.count({ taps: 25, dropped: 3 }, at(0, 2))
    expect(chronicle.day(at(1))).toMatchObject({ taps: 25, dropped: 3 })
  })

  it('are never fewer than before, where a source counts anew', () => {
    const chronicle = new Chronicle(at(0))
    chronicle.count({ taps: 10, dropped: 7 }, at(0, 1))
    chronicle.count({ taps: 12, dropped: 2 }, at(0, 2))
    expect(chronicle.day(at(1))).toMatchObject({ taps: 12, dropped: 7 })
  })

  it('have a busiest minute', () => {
    const chronicle = new Chronicle(at(0))
    chronicle.count({ taps: 10, dropped: 0 }, at(0, 1))
    chronicle.count({ taps: 40, dropped: 0 }, at(2, 7) + 1_000)
    chronicle.count({ taps: 50, dropped: 0 }, at(2, 7) + 59_000)
    chronicle.count({ taps: 60, dropped: 0 }, at(2, 8))
    expect(chronicle.day(at(3)).busiest).toEqual({ at: at(2, 7), taps: 40 })
  })

  it('that have come since the last look have come now', () => {
    const chronicle = new Chronicle(at(0))
    chronicle.count({ taps: 1, dropped: 0 }, at(0, 1))
    chronicle.count({ taps: 1, dropped: 0 }, at(0, 2))
    expect(chronicle.lastTap).toBe(at(0, 1))
  })

  it('of which there are none have neither a last nor a busiest minute', () => {
    const chronicle = new Chronicle(at(0))
    chronicle.count({ taps: 0, dropped: 4 }, at(0, 1))
    expect([chronicle.lastTap, chronicle.day(at(1)).busiest]).toEqual([null, null])
  })
})

describe('a last use', () => {
  it('is the last knock that was accepted, and no refusal', () => {
    const chronicle = new Chronicle(at(0))
    chronicle.accepted('a11ce0', { ...KNOCK, at: at(1), windowsOff: -1 })
    chronicle.refused('replayed', at(2), KNOCK)
    expect(chronicle.lastUse('a11ce0')).toEqual({ at: at(1), source: KNOCK.source, action: 'open', windowsOff: -1 })
    expect(chronicle.lastKnock).toEqual({ ...KNOCK, at: at(2), outcome: 'replayed' })
  })

  it('of 100,000 keys is remembered, and of those that knocked last', () => {
    const chronicle = new Chronicle(at(0))
    for (let key = 0; key <= 100_000; key++) accept(chronicle, at(1), `${key}`)
    expect([chronicle.lastUse('0'), chronicle.lastUse('1')?.at]).toEqual([undefined, at(1)])
  })
})

it('a refused tap is no knock', () => {
  const chronicle = new Chronicle(at(0))
  chronicle.refused('locked', at(1))
  expect(chronicle.lastKnock).toBeNull()
})

it('a lease that is made longer was opened when it first stood', () => {
  const chronicle = new Chronicle(at(0))
  chronicle.opened(LEASE, at(1))
  chronicle.opened({ ...LEASE, until: 1 }, at(2))
  expect(chronicle.openedAt(LEASE)).toBe(at(1))
})

describe('what an earlier run has left', () => {
  it('goes on', () => {
    const before = new Chronicle(at(0))
    accept(before, at(1))
    before.opened(LEASE, at(1))
    const hours = before.hours
    const after = new Chronicle(at(2))
    const use = { at: at(1), source: KNOCK.source, action: 'open', windowsOff: 0 }
    after.restore(
      { ...NOTHING, hours, since: at(0), uses: new Map([['a11ce0', use]]), opened: new Map([['a11ce0 deadbeef', at(1)]]) },
      at(2),
    )
    accept(after, at(2))
    expect(after.day(at(2))).toMatchObject({ since: at(0), accepted: 2 })
    expect([after.lastUse('a11ce0')?.at, after.openedAt(LEASE)]).toEqual([at(2), at(1)])
  })

  it('is left out where it is of times to come', () => {
    const chronicle = new Chronicle(at(2))
    const use = { at: at(9), source: KNOCK.source, action: 'open', windowsOff: 0 }
    const hour = { at: at(9), accepted: 5, refused: {}, taps: 0, dropped: 0, busiest: null }
    const lastKnock = { ...KNOCK, at: at(9), outcome: 'accepted' } as const
    chronicle.restore(
      { lastTap: at(9), lastKnock, uses: new Map([['a', use]]), opened: new Map(), since: at(9), hours: [hour] },
      at(2),
    )
    expect([chronicle.lastTap, chronicle.lastKnock, chronicle.lastUse('a')]).toEqual([null, null, undefined])
    expect(chronicle.day(at(2))).toMatchObject({ since: at(2), accepted: 0 })
  })

  it('fills no day with hours that are none, or that come twice', () => {
    const chronicle = new Chronicle(at(2))
    const hour = { at: at(1), accepted: 5, refused: {}, taps: 0, dropped: 0, busiest: null }
    chronicle.restore({ ...NOTHING, hours: [hour, hour, { ...hour, at: at(1) + 1 }] }, at(2))
    expect(chronicle.day(at(2)).accepted).toBe(5)
  })
})
