import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type Lease, Leases, type Lock, MAX_KEY_LEASES, MAX_LEASES, MAX_LOCKS } from '../../src/gate/leases'
import type { Grant, Service } from '../../src/gate/policy'

/** Unix seconds. */
const NOW = 1_770_000_000
/** `steady` seconds after the start, where the wall clock has been set by `set` seconds. */
const at = (steady = 0, set = 0) => ({ wall: (NOW + steady + set) * 1000, steady: 5_000_000 + steady * 1000 })

const SSH: Service = { port: 22, protocol: 'tcp' }
const DNS: Service = { port: 53, protocol: 'udp' }
const ALICE = 'a11ce0'
const BOB = 'b0b000'
const HOME = '198.51.100.2'

const grant = (seconds: number | null, { address = HOME, services = [SSH], once = false } = {}): Grant => ({
  action: 'open',
  address,
  services,
  once,
  until: seconds === null ? null : NOW + seconds,
})
const lease = (id: string, more: Partial<Lease> = {}): Lease => ({
  ...{ id, key: 'alice', fingerprint: ALICE, address: HOME, ...SSH, once: false, until: NOW + 60 },
  ...more,
})
const lock = (id: string, until: number, more: Partial<Lock> = {}): Lock => ({
  ...{ id, key: 'alice', fingerprint: ALICE, address: HOME, until: NOW + until },
  ...more,
})
const ids = (entries: readonly { id: string }[] | undefined | null) => entries?.map(({ id }) => id)

const everyKey = () => true
const nobody = () => false
/** What has ended by itself. */
const expired = (leases: Leases, now: ReturnType<typeof at>) => ids(leases.ended(everyKey, nobody, now).expired)
/** The locks that are over. */
const unlocked = (leases: Leases, now: ReturnType<typeof at>) => ids(leases.ended(everyKey, nobody, now).locks)

/** Leases, and `open` with names for what it does not vary. */
function held(...opens: [id: string, grant: Grant, fingerprint?: string][]) {
  const leases = new Leases()
  for (const [id, granted, fingerprint = ALICE] of opens) leases.open(id, 'alice', fingerprint, granted, at())
  return leases
}

describe('opening', () => {
  it('makes a lease for a service', () => {
    expect(new Leases().open('x', 'alice', ALICE, grant(60), at())).toEqual([{ lease: lease('x'), replaced: null }])
  })

  it('makes a lease for each service, with a name of its own', () => {
    expect(ids(held(['x', grant(60, { services: [SSH, DNS] })]).all())).toEqual(['x.0', 'x.1'])
  })

  it('again makes a lease longer, which keeps its name', () => {
    const leases = held(['x', grant(60)])
    expect(leases.open('y', 'alice', ALICE, grant(90), at())).toEqual([
      { lease: lease('x', { until: NOW + 90 }), replaced: lease('x') },
    ])
  })

  it('again until closed makes it so', () => {
    expect(held(['x', grant(60)], ['y', grant(null)]).all()).toEqual([lease('x', { until: null })])
  })

  it.each([60, 30])('again for %i s leaves a lease of 60 s as it is', (seconds) => {
    const leases = held(['x', grant(60)])
    const [before] = leases.all()
    const [{ lease: after, replaced }] = leases.open('y', 'alice', ALICE, grant(seconds), at()) ?? []
    expect([after === before, replaced === before]).toEqual([true, true])
  })

  it('again for a time leaves a lease until closed as it is', () => {
    expect(held(['x', grant(null)], ['y', grant(60)]).all()).toEqual([lease('x', { until: null })])
  })

  it.each([
    ['address', grant(60, { address: '203.0.113.9' })],
    ['service', grant(60, { services: [DNS] })],
    ['kind', grant(60, { once: true })],
  ])('another %s makes another lease', (_, other) => {
    expect(ids(held(['x', grant(60)], ['y', other]).all())).toEqual(['x', 'y'])
  })

  it('by another key makes another lease', () => {
    expect(ids(held(['x', grant(60)], ['y', grant(60), BOB]).all())).toEqual(['x', 'y'])
  })

  it('once again makes a new lease in place of the one that may be used up', () => {
    const leases = held(['x', grant(60, { once: true })])
    const opened = leases.open('y', 'alice', ALICE, grant(30, { once: true }), at())
    expect(opened?.map(({ lease, replaced }) => [lease.id, lease.until, replaced?.id])).toEqual([['y', NOW + 30, 'x']])
    expect(ids(leases.all())).toEqual(['y'])
  })

  it('never shortens a lease and never makes two of one, whatever is asked', () => {
    const lifetimes = fc.array(fc.option(fc.integer({ min: 1, max: 1000 })), { minLength: 1 })
    fc.assert(
      fc.property(lifetimes, (asked) => {
        const leases = held(...asked.map((seconds, i): [string, Grant] => [`${i}`, grant(seconds)]))
        const longest = asked.includes(null) ? null : NOW + Math.max(...asked.map(Number))
        expect(leases.all()).toEqual([lease('0', { until: longest })])
      }),
    )
  })

  it('opens for as long as asked when the wall clock has jumped over an earlier lease', () => {
    const leases = held(['x', grant(3_600)])
    // The clock is set forward by a day: the kernel has ended the first lease. The new one is for a minute of today.
    const opened = leases.open('y', 'alice', ALICE, grant(86_400 + 61), at(1, 86_400))
    expect(opened?.map(({ lease }) => lease.until)).toEqual([NOW + 86_461])
  })

  it('is refused beyond 4,096 leases, all or nothing', () => {
    const leases = new Leases()
    for (let i = 0; i < MAX_LEASES - 1; i++)
      leases.open(`${i}`, 'alice', `key ${i >> 7}`, grant(60, { address: `10.0.${i >> 8}.${i & 255}` }), at())
    expect(leases.open('x', 'alice', ALICE, grant(60, { services: [SSH, DNS] }), at())).toBeNull()
    expect(leases.size).toBe(MAX_LEASES - 1)
  })

  it('is refused to a key beyond 256 leases, and not to another', () => {
    const leases = new Leases()
    for (let i = 0; i < MAX_KEY_LEASES; i++) leases.open(`${i}`, 'alice', ALICE, grant(60, { address: `10.0.0.${i}` }), at())
    const another = grant(60, { address: '10.0.1.1' })
    expect([leases.open('x', 'alice', ALICE, another, at()), leases.open('y', 'bob', BOB, another, at())?.length]).toEqual([
      null,
      1,
    ])
  })

  it('of what is there is not refused at 4,096 leases', () => {
    const leases = new Leases()
    for (let i = 0; i < MAX_LEASES; i++)
      leases.open(`${i}`, 'alice', `key ${i >> 7}`, grant(60, { address: `10.0.${i >> 8}.${i & 255}` }), at())
    expect(leases.open('x', 'alice', 'key 0', grant(90, { address: '10.0.0.7' }), at())?.[0].lease.id).toBe('7')
  })
})

describe('closing', () => {
  const everything = () =>
    held(
      ['ssh', grant(60)],
      ['once', grant(60, { once: true })],
      ['dns', grant(60, { services: [DNS] })],
      ['away', grant(60, { address: '203.0.113.9' })],
      ['bob', grant(60), BOB],
    )

  it.each([
    ['a service ends all its leases', [SSH], ['ssh', 'once']],
    ['several services ends theirs', [SSH, DNS], ['ssh', 'once', 'dns']],
    ['no service in particular ends all', [], ['ssh', 'once', 'dns']],
    ['a service without a lease ends none', [{ port: 80, protocol: 'tcp' as const }], []],
    ['a service of the other protocol ends none', [{ port: 22, protocol: 'udp' as const }], []],
  ])('%s of the key’s for the address', (_, services, ended) => {
    expect(ids(everything().close(ALICE, HOME, services))).toEqual(ended)
  })

  it('leaves other keys’ and other addresses’ leases in force', () => {
    const leases = everything()
    leases.close(ALICE, HOME, [])
    expect(ids(leases.all())).toEqual(['away', 'bob'])
  })

  it('ends nothing twice', () => {
    const leases = everything()
    leases.close(ALICE, HOME, [])
    expect(leases.close(ALICE, HOME, [])).toEqual([])
  })
})

describe('a lease', () => {
  it.each([
    [59.9, []],
    [60, ['x']],
  ])('of 60 s has, after %d s, ended: %j', (seconds, ended) => {
    expect(expired(held(['x', grant(60)]), at(seconds))).toEqual(ended)
  })

  it('ends in time though the wall clock has been set back an hour', () => {
    expect(expired(held(['x', grant(60)]), at(60, -3_600))).toEqual(['x'])
  })

  it('has ended where the wall clock has been set forward past it, as it has in the kernel', () => {
    expect(expired(held(['x', grant(60)]), at(1, 3_600))).toEqual(['x'])
  })

  it('until closed does not end by itself', () => {
    expect(expired(held(['x', grant(null)]), at(1e9))).toEqual([])
  })

  it('that has ended is gone', () => {
    const leases = held(['x', grant(60)])
    expired(leases, at(60))
    expect(leases.size).toBe(0)
  })

  it('of a key that is gone is an orphan', () => {
    const leases = held(['x', grant(60)], ['y', grant(60), BOB])
    expect(ids(leases.ended((fingerprint) => fingerprint === BOB, nobody, at()).orphaned)).toEqual(['x'])
    expect(ids(leases.all())).toEqual(['y'])
  })

  it('of a key that is gone and that could not be ended is left alone until the time given', () => {
    const leases = held(['x', grant(60)])
    const orphaned = (seconds: number) => leases.ended(() => false, nobody, at(seconds)).orphaned
    for (const lease of orphaned(0)) leases.retry(lease, at(1).steady)
    expect([orphaned(0.9), leases.size]).toEqual([[], 1])
  })

  it('that could not be opened is taken back', () => {
    const leases = held(['x', grant(60)])
    leases.undo(leases.all()[0])
    expect(leases.size).toBe(0)
  })

  it('that could not be made longer is as it was', () => {
    const leases = held(['x', grant(60)])
    const [longer] = leases.open('y', 'alice', ALICE, grant(90), at()) ?? []
    leases.undo(longer.lease)
    expect(leases.all()).toEqual([lease('x')])
  })

  it('that has been made longer meanwhile is not taken back', () => {
    const leases = held(['x', grant(60)])
    const [before] = leases.all()
    leases.open('y', 'alice', ALICE, grant(90), at())
    leases.undo(before)
    expect(leases.size).toBe(1)
  })

  it('that could not be ended is ended again at the time given', () => {
    const leases = held(['x', grant(60)])
    const [ended] = leases.close(ALICE, HOME, [])
    leases.retry(ended, at(1).steady)
    expect([expired(leases, at(0.9)), expired(leases, at(1))]).toEqual([[], ['x']])
  })

  it('that could not be ended does not take the place of a new one', () => {
    const leases = held(['x', grant(60)])
    const [ended] = leases.close(ALICE, HOME, [])
    leases.open('y', 'alice', ALICE, grant(90), at())
    leases.retry(ended, at(1).steady)
    expect(ids(leases.all())).toEqual(['y'])
  })
})

describe('after a restart', () => {
  const alive = (fingerprint: string) => fingerprint === ALICE

  it('valid leases and locks are kept', () => {
    const leases = new Leases()
    const given = leases.restore([lease('x'), lease('y', { ...DNS, until: null })], [lock('z', 60)], alive, at())
    expect(given).toEqual({ leases: [], locks: [] })
    expect([ids(leases.all())?.sort(), leases.locked(HOME)?.id]).toEqual([['x', 'y'], 'z'])
  })

  it.each([
    ['has ended', { until: NOW - 1 }],
    ['ends now', { until: NOW }],
    ['has lost its key', { fingerprint: BOB }],
    ['is until closed and has lost its key', { fingerprint: BOB, until: null }],
  ])('a lease that %s is given back', (_, more) => {
    const leases = new Leases()
    const given = leases.restore([lease('x', more)], [], alive, at())
    expect([ids(given.leases), leases.size]).toEqual([['x'], 0])
  })

  it.each([
    ['is over', { until: NOW }],
    ['has lost its key', { fingerprint: BOB }],
  ])('a lock that %s is given back', (_, more) => {
    const leases = new Leases()
    const given = leases.restore([], [lock('z', 60, more)], alive, at())
    expect([ids(given.locks), leases.locked(HOME)]).toEqual([['z'], undefined])
  })

  it('a kept lease ends by the monotonic clock', () => {
    const leases = new Leases()
    leases.restore([lease('x')], [], alive, at())
    expect([expired(leases, at(59, -3_600)), expired(leases, at(60, -3_600))]).toEqual([[], ['x']])
  })

  it('a kept lease is extended under its name', () => {
    const leases = new Leases()
    leases.restore([lease('x')], [], alive, at())
    leases.open('y', 'alice', ALICE, grant(90), at())
    expect(leases.all()).toEqual([lease('x', { until: NOW + 90 })])
  })

  it('of two rules for one lease (a crash between making one and dropping the other), none is lost', () => {
    const leases = new Leases()
    const given = leases.restore([lease('x', { until: NOW + 90 }), lease('x')], [], alive, at())
    expect([leases.all(), given.leases]).toEqual([[lease('x', { until: NOW + 90 })], [lease('x')]])
  })
})

describe('a lock', () => {
  it('holds for its address', () => {
    const leases = new Leases()
    leases.lock(lock('z', 60), at())
    expect([leases.locked(HOME)?.id, leases.locked('203.0.113.9')]).toEqual(['z', undefined])
  })

  it.each([
    [90, 'new', NOW + 90],
    [60, 'old', NOW + 60],
    [30, 'old', NOW + 60],
  ])('of 60 s and one of %i s are one: the %s', (seconds, name, until) => {
    const leases = new Leases()
    leases.lock(lock('old', 60), at())
    const { lock: noted, replaced } = leases.lock(lock('new', seconds), at()) ?? {}
    expect([noted?.id, replaced?.id, leases.locked(HOME)?.until]).toEqual([name, 'old', until])
  })

  it('on an address that no lock may name any more is over', () => {
    const leases = new Leases()
    leases.lock(lock('z', 60), at())
    expect(ids(leases.ended(everyKey, (address) => address === HOME, at()).locks)).toEqual(['z'])
  })

  it('of a key that is gone is over', () => {
    const leases = new Leases()
    leases.lock(lock('z', 60), at())
    expect(ids(leases.ended(() => false, nobody, at()).locks)).toEqual(['z'])
  })

  it.each([
    [59.9, []],
    [60, ['z']],
  ])('of 60 s is, after %d s, over: %j', (seconds, over) => {
    const leases = new Leases()
    leases.lock(lock('z', 60), at())
    expect(unlocked(leases, at(seconds))).toEqual(over)
  })

  it('is over in time though the wall clock has been set back an hour', () => {
    const leases = new Leases()
    leases.lock(lock('z', 60), at())
    unlocked(leases, at(60, -3_600))
    expect(leases.locked(HOME)).toBeUndefined()
  })

  it('is refused beyond 4,096', () => {
    const leases = new Leases()
    for (let i = 0; i < MAX_LOCKS; i++) leases.lock(lock(`${i}`, 60, { address: `10.0.${i >> 8}.${i & 255}` }), at())
    expect(leases.lock(lock('z', 60), at())).toBeNull()
    expect(leases.locked(HOME)).toBeUndefined()
  })
})

describe('a lease for a block', () => {
  const BLOCK = '198.51.100.0/24'
  const block = (seconds = 60) => grant(seconds, { address: BLOCK })

  it.each(['198.51.100.0', HOME, '198.51.100.255'])('is closed from %s in it', (address) => {
    expect(ids(held(['x', block()]).close(ALICE, address, []))).toEqual(['x'])
  })

  it.each(['198.51.101.2', '2001:db8::2'])('is not closed from %s', (address) => {
    expect(held(['x', block()]).close(ALICE, address, [])).toEqual([])
  })

  it('is not closed by another key', () => {
    expect(held(['x', block()]).close(BOB, HOME, [])).toEqual([])
  })

  it('is another than one for an address in it, and both are closed from there', () => {
    const leases = held(['x', block()], ['y', grant(60)])
    expect(ids(leases.all())).toEqual(['x', 'y'])
    expect(ids(leases.close(ALICE, HOME, [SSH]))).toEqual(['x', 'y'])
  })

  it('is made longer from any of its addresses', () => {
    const leases = held(['x', block()], ['y', block(90)])
    expect(leases.all()).toEqual([lease('x', { address: BLOCK, until: NOW + 90 })])
  })

  it('is kept at a restart', () => {
    const leases = new Leases()
    expect(leases.restore([lease('x', { address: BLOCK })], [], everyKey, at())).toEqual({ leases: [], locks: [] })
    expect(ids(leases.close(ALICE, HOME, []))).toEqual(['x'])
  })
})
