import { describe, expect, it } from 'vitest'
import { judgePrivileges } from '../../src/system/capabilities'

const NET_ADMIN = 1n << 12n
const SETGID = 1n << 6n
const SETUID = 1n << 7n
const ALL = (1n << 41n) - 1n
const USER = 998
const ROOT = 0

/** /proc/PID/status, as far as it tells what a process may do; programs that root starts are given all that is in bounds. */
function status(uid: number, sets: Partial<Record<'effective' | 'permitted' | 'ambient' | 'bounding', bigint>> = {}): string {
  const { effective = 0n, permitted = effective, ambient = 0n, bounding = ALL } = sets
  const hex = (set: bigint) => set.toString(16).padStart(16, '0')
  return [
    'Name:\tnode',
    `Uid:\t${uid}\t${uid}\t${uid}\t${uid}`,
    `CapInh:\t${hex(ambient)}`,
    `CapPrm:\t${hex(permitted)}`,
    `CapEff:\t${hex(effective)}`,
    `CapBnd:\t${hex(bounding)}`,
    `CapAmb:\t${hex(ambient)}`,
    'NoNewPrivs:\t1',
    '',
  ].join('\n')
}
const unit = { effective: NET_ADMIN, ambient: NET_ADMIN, bounding: NET_ADMIN }
const DOORS = { firewall: true, capture: true }
const NOTHING = { firewall: false, capture: false }
const FINE = { missing: [], excess: [] }

describe('a user of its own', () => {
  it('with the capability of the unit is fine', () => {
    expect(judgePrivileges(status(USER, unit), DOORS)).toEqual(FINE)
  })

  it('whose bounds are wide is fine: what it starts is given what is ambient', () => {
    expect(judgePrivileges(status(USER, { ...unit, bounding: ALL }), DOORS)).toEqual(FINE)
  })

  it.each([
    ['changes the firewall', { firewall: true, capture: false }],
    ['captures', { firewall: false, capture: true }],
  ])('that %s lacks it where it has none', (_, work) => {
    expect(judgePrivileges(status(USER), work)).toEqual({ missing: ['net_admin'], excess: [] })
  })

  it('that keeps it to itself lacks it for what it starts', () => {
    expect(judgePrivileges(status(USER, { effective: NET_ADMIN }), DOORS).missing).toEqual(['net_admin'])
  })

  it('without any is fine where there is nothing to do', () => {
    expect(judgePrivileges(status(USER), NOTHING)).toEqual(FINE)
  })

  it('with the capability of the unit is fine there, too', () => {
    expect(judgePrivileges(status(USER, unit), NOTHING)).toEqual(FINE)
  })

  it.each([
    ['effective', { ...unit, effective: NET_ADMIN | SETUID, permitted: NET_ADMIN | SETUID }],
    ['permitted', { ...unit, permitted: NET_ADMIN | SETUID }],
    ['ambient', { ...unit, ambient: NET_ADMIN | SETUID }],
  ])('has too much where another is %s', (_, sets) => {
    expect(judgePrivileges(status(USER, sets), DOORS)).toEqual({ missing: [], excess: ['setuid'] })
  })

  it('has too much by a capability that nobody has heard of yet', () => {
    expect(judgePrivileges(status(USER, { ...unit, permitted: NET_ADMIN | (1n << 50n) }), DOORS).excess).toEqual(['50'])
  })
})

describe('root', () => {
  const bounded = (set: bigint) => ({ effective: set, ambient: set, bounding: set })

  it('as it is has too much', () => {
    const { missing, excess } = judgePrivileges(status(ROOT, { effective: ALL }), DOORS)
    expect([missing, excess.length, excess[0]]).toEqual([[], 39, 'uid 0'])
  })

  it('has too much by its uid, though it has just what its tcpdump insists on', () => {
    expect(judgePrivileges(status(ROOT, bounded(NET_ADMIN | SETGID | SETUID)), DOORS)).toEqual({ missing: [], excess: ['uid 0'] })
  })

  it('without that lacks it', () => {
    expect(judgePrivileges(status(ROOT, bounded(NET_ADMIN)), DOORS)).toEqual({ missing: ['setgid', 'setuid'], excess: ['uid 0'] })
  })

  it('without a tcpdump has too much by it', () => {
    const work = { firewall: true, capture: false }
    expect(judgePrivileges(status(ROOT, bounded(NET_ADMIN | SETUID)), work).excess).toEqual(['uid 0', 'setuid'])
  })

  it('without capabilities has too much where what it starts would get them back', () => {
    expect(judgePrivileges(status(ROOT, { bounding: SETUID }), NOTHING).excess).toEqual(['setuid'])
  })

  it('without any, and none in bounds, is fine where there is nothing to do', () => {
    expect(judgePrivileges(status(ROOT, bounded(0n)), NOTHING)).toEqual(FINE)
  })
})
