import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Entry, Lease, Lock } from '../../src/gate/firewall'
import { Leases, MAX_KEY_LEASES, MAX_KEY_LOCKS, MAX_LEASES, MAX_LOCKS } from '../../src/gate/leases'
import type { Grant } from '../../src/gate/policy'
import type { Service } from '../../src/protocol/service'

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
/** What is to be done in the firewall since the last look: names, and why. */
const changes = (leases: Leases) => leases.takeChanges().map(({ entry, why }) => `${entry.id} ${why}`)
/** What ends at a moment. */
function ended(
  leases: Leases,
  now: ReturnType<typeof at>,
  isAlive = everyKey as (f: string) => boolean,
  isSpared = nobody as (a: string) => boolean,
) {
  leases.takeChanges()
  leases.expire(isAlive, isSpared, now)
  return changes(leases)
}

/** Leases, and `open` with names for what it does not vary. */
function held(...opens: [id: string, grant: Grant, fingerprint?: string][]) {
  const leases = new Leases()
  for (const [id, granted, fingerprint = ALICE] of opens) leases.open(id, 'alice', fingerprint, granted, at())
  return leases
}

describe('opening', () => {
  it('makes a lease for a service', () => {
    const leases = new Leases()
    expect(leases.open('x', 'alice', ALICE, grant(60), at())).toEqual([lease('x')])
    expect([leases.all(), changes(leases)]).toEqual([[lease('x')], ['x wanted']])
  })

  it('makes a lease for each service, with a name of its own', () => {
    expect(ids(held(['x', grant(60, { services: [SSH, DNS] })]).all())).toEqual(['x.0', 'x.1'])
  })

  it('again makes a lease longer, which keeps its name', () => {
    const leases = held(['x', grant(60)])
    leases.takeChanges()
    expect(leases.open('y', 'alice', ALICE, grant(90), at())).toEqual([lease('x', { until: NOW + 90 })])
    expect(leases.takeChanges()).toEqual([
      { entry: lease('x'), why: 'replaced' },
      { entry: lease('x', { until: NOW + 90 }), why: 'wanted' },
    ])
  })

  it('again until closed makes it so', () => {
    expect(held(['x', grant(60)], ['y', grant(null)]).all()).toEqual([lease('x', { until: null })])
  })

  it.each([60, 30])('again for %i s leaves a lease of 60 s as it is', (seconds) => {
    const leases = held(['x', grant(60)])
    const [before] = leases.all()
    leases.takeChanges()
    const [after] = leases.open('y', 'alice', ALICE, grant(seconds), at()) ?? []
    expect([after === before, changes(leases)]).toEqual([true, []])
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
    leases.takeChanges()
    const opened = leases.open('y', 'alice', ALICE, grant(30, { once: true }), at())
    expect(opened?.map(({ id, until }) => [id, until])).toEqual([['y', NOW + 30]])
    expect([ids(leases.all()), changes(leases)]).toEqual([['y'], ['x replaced', 'y wanted']])
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
    expect(opened?.map(({ until }) => until)).toEqual([NOW + 86_461])
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
    expect(leases.open('x', 'alice', 'key 0', grant(90, { address: '10.0.0.7' }), at())?.[0].id).toBe('7')
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
    [60, ['x expired']],
  ])('of 60 s has, after %d s, ended: %j', (seconds, gone) => {
    expect(ended(held(['x', grant(60)]), at(seconds))).toEqual(gone)
  })

  it('ends in time though the wall clock has been set back an hour', () => {
    expect(ended(held(['x', grant(60)]), at(60, -3_600))).toEqual(['x expired'])
  })

  it('has ended where the wall clock has been set forward past it, as it has in the kernel', () => {
    expect(ended(held(['x', grant(60)]), at(1, 3_600))).toEqual(['x expired'])
  })

  it('until closed does not end by itself', () => {
    expect(ended(held(['x', grant(null)]), at(1e9))).toEqual([])
  })

  it('that has ended is gone', () => {
    const leases = held(['x', grant(60)])
    ended(leases, at(60))
    expect([leases.size, leases.wants(lease('x'))]).toEqual([0, false])
  })

  it('ends with its key', () => {
    const leases = held(['x', grant(60)], ['y', grant(60), BOB])
    expect(ended(leases, at(), (fingerprint) => fingerprint === BOB)).toEqual(['x closed'])
    expect(ids(leases.all())).toEqual(['y'])
  })

  it('is wanted as it is, and not as it was', () => {
    const leases = held(['x', grant(60)], ['y', grant(90)])
    expect(
      [lease('x'), lease('x', { until: NOW + 90 }), lease('y', { until: NOW + 90 })].map((one) => leases.wants(one)),
    ).toEqual([false, true, false])
  })

  it('that could not be opened is given up', () => {
    const leases = held(['x', grant(60)])
    leases.giveUp(lease('x'), () => false, at())
    expect(leases.size).toBe(0)
  })

  it('that could not be made longer is what stands of it, and ends when that does', () => {
    const leases = held(['x', grant(60)])
    leases.stands(leases.all()[0] as Lease)
    const [longer] = leases.open('y', 'alice', ALICE, grant(90), at()) as Lease[]
    const [longest] = leases.open('z', 'alice', ALICE, grant(95), at()) as Lease[]
    leases.giveUp(longer as Lease, () => true, at())
    leases.giveUp(longest as Lease, () => true, at())
    expect([leases.all(), leases.size]).toEqual([[lease('x')], 1])
    expect([ended(leases, at(59.9)), ended(leases, at(60))]).toEqual([[], ['x expired']])
  })

  it('that could not be made longer is over where what stands of it is', () => {
    const leases = held(['x', grant(60)])
    leases.stands(leases.all()[0] as Lease)
    const [longer] = leases.open('y', 'alice', ALICE, grant(90), at()) as Lease[]
    leases.takeChanges()
    leases.giveUp(longer, () => true, at(60, -3_600))
    expect([leases.size, changes(leases)]).toEqual([0, ['x expired']])
  })

  it('that has been made longer meanwhile is not given up', () => {
    const leases = held(['x', grant(60)])
    leases.open('y', 'alice', ALICE, grant(90), at())
    leases.giveUp(lease('x'), () => false, at())
    expect(leases.all()).toEqual([lease('x', { until: NOW + 90 })])
  })

  it('that has been closed meanwhile is not given up, nor one that was opened after it', () => {
    const leases = held(['x', grant(60)])
    const [first] = leases.close(ALICE, HOME, [])
    leases.open('y', 'alice', ALICE, grant(60), at())
    leases.giveUp(first as Lease, () => false, at())
    expect(ids(leases.all())).toEqual(['y'])
  })

  it.each([
    [true, ['x']],
    [false, []],
  ])('for one connection that could not be made another is what it was only if that stands: %s', (isThere, left) => {
    const leases = held(['x', grant(60, { once: true })])
    leases.stands(leases.all()[0] as Lease)
    const [other] = leases.open('y', 'alice', ALICE, grant(90, { once: true }), at()) as Lease[]
    leases.giveUp(other, () => isThere, at())
    expect(ids(leases.all())).toEqual(left)
  })

  it('for one connection that is lost has ended, and leaves room for another', () => {
    const leases = held(['x', grant(60, { once: true })])
    leases.lose(lease('x', { once: true }))
    expect([leases.all(), leases.size]).toEqual([[], 0])
  })

  it('counts for its key until it ends, however it does', () => {
    const leases = new Leases()
    for (let round = 0; round < 3; round++) {
      const opened = Array.from({ length: MAX_KEY_LEASES }, (_, i) =>
        leases.open(`${i}`, 'alice', ALICE, grant(60, { address: `10.0.0.${i}`, once: round === 1 }), at()),
      )
      expect(opened.every((one) => one?.length === 1)).toBe(true)
      expect(leases.open('x', 'alice', ALICE, grant(60, { address: '10.0.1.1' }), at())).toBeNull()
      for (const [one] of opened as [Lease][])
        if (round === 0) leases.close(ALICE, one.address, [])
        else if (round === 1) leases.lose(one)
        else leases.giveUp(one, () => false, at())
    }
    expect(leases.size).toBe(0)
  })
})

describe('after a restart', () => {
  const alive = (fingerprint: string) => fingerprint === ALICE
  const restored = (...found: Entry[]) => {
    const leases = new Leases()
    leases.restore(found, alive, at())
    return { leases, gone: changes(leases) }
  }

  it('valid leases and locks are kept', () => {
    const { leases, gone } = restored(lease('x'), lease('y', { ...DNS, until: null }), lock('z', 60))
    expect(gone).toEqual([])
    expect([ids(leases.all())?.sort(), leases.locked(HOME)?.id]).toEqual([['x', 'y', 'z'], 'z'])
  })

  it.each([
    ['has ended', { until: NOW - 1 }, 'expired'],
    ['ends now', { until: NOW }, 'expired'],
    ['has lost its key', { fingerprint: BOB }, 'closed'],
    ['is until closed and has lost its key', { fingerprint: BOB, until: null }, 'closed'],
  ])('a lease that %s is not wanted', (_, more, why) => {
    const { leases, gone } = restored(lease('x', more))
    expect([gone, leases.size]).toEqual([[`x ${why}`], 0])
  })

  it.each([
    ['is over', { until: NOW }, 'expired'],
    ['has lost its key', { fingerprint: BOB }, 'closed'],
  ])('a lock that %s is not wanted', (_, more, why) => {
    const { leases, gone } = restored(lock('z', 60, more))
    expect([gone, leases.locked(HOME)]).toEqual([[`z ${why}`], undefined])
  })

  it('a kept lease ends by the monotonic clock', () => {
    const { leases } = restored(lease('x'))
    expect([ended(leases, at(59, -3_600)), ended(leases, at(60, -3_600))]).toEqual([[], ['x expired']])
  })

  it('a kept lease stands no longer than the kernel keeps it, though the clock was set back meanwhile', () => {
    const leases = new Leases()
    const [x, y] = [lease('x'), lease('y', DNS)]
    leases.restore([x, y], alive, at(0, -3_600), new Map([[x, 20_000]]))
    expect([x, y].map((one) => leases.left(one, at(0, -3_600)))).toEqual([20_000, 3_660_000])
    expect([ended(leases, at(19, -3_600)), ended(leases, at(20, -3_600))]).toEqual([[], ['x expired']])
  })

  it('a kept lease is extended under its name', () => {
    const { leases } = restored(lease('x'))
    leases.open('y', 'alice', ALICE, grant(90), at())
    expect(leases.all()).toEqual([lease('x', { until: NOW + 90 })])
  })

  it('of two rules for one lease (another program has put back an old table), the longer one is kept', () => {
    const { leases, gone } = restored(lease('x'), lease('x', { until: NOW + 90 }))
    expect([leases.all(), gone]).toEqual([[lease('x', { until: NOW + 90 })], ['x replaced']])
  })

  it('a lease counts for its key', () => {
    const found = Array.from({ length: MAX_KEY_LEASES }, (_, i) => lease(`${i}`, { address: `10.0.0.${i}` }))
    expect(restored(...found).leases.open('x', 'alice', ALICE, grant(60), at())).toBeNull()
  })
})

describe('a lock', () => {
  it('holds for its address', () => {
    const leases = new Leases()
    leases.lock(lock('z', 60), at())
    expect([leases.locked(HOME)?.id, leases.locked('203.0.113.9')]).toEqual(['z', undefined])
  })

  it.each([
    [90, 'new', NOW + 90, ['old replaced', 'new wanted']],
    [60, 'old', NOW + 60, []],
    [30, 'old', NOW + 60, []],
  ])('of 60 s and one of %i s are one: the %s', (seconds, name, until, done) => {
    const leases = new Leases()
    leases.lock(lock('old', 60), at())
    leases.takeChanges()
    const noted = leases.lock(lock('new', seconds), at())
    expect([noted?.id, leases.locked(HOME)?.until, changes(leases)]).toEqual([name, until, done])
  })

  it('on an address that no lock may name any more is over', () => {
    const leases = new Leases()
    leases.lock(lock('z', 60), at())
    expect(ended(leases, at(), everyKey, (address) => address === HOME)).toEqual(['z closed'])
  })

  it('of a key that is gone is over', () => {
    const leases = new Leases()
    leases.lock(lock('z', 60), at())
    expect(ended(leases, at(), () => false)).toEqual(['z closed'])
  })

  it.each([
    [59.9, []],
    [60, ['z expired']],
  ])('of 60 s is, after %d s, over: %j', (seconds, over) => {
    const leases = new Leases()
    leases.lock(lock('z', 60), at())
    expect(ended(leases, at(seconds))).toEqual(over)
  })

  it('is over in time though the wall clock has been set back an hour', () => {
    const leases = new Leases()
    leases.lock(lock('z', 60), at())
    ended(leases, at(60, -3_600))
    expect(leases.locked(HOME)).toBeUndefined()
  })

  it('of another key on the same address goes on when the longer one has ended with its key', () => {
    const leases = new Leases()
    leases.lock(lock('alice', 60), at())
    leases.lock(lock('bob', 90, { fingerprint: BOB }), at())
    const longest = leases.locked(HOME)?.id
    const over = ended(leases, at(), (fingerprint) => fingerprint === ALICE)
    expect([longest, over, leases.locked(HOME)?.id]).toEqual(['bob', ['bob closed'], 'alice'])
  })

  it('is refused beyond 256 of its key, and to no other key', () => {
    const leases = new Leases()
    for (let i = 0; i < MAX_KEY_LOCKS; i++) leases.lock(lock(`${i}`, 60, { address: `10.0.0.${i}` }), at())
    expect([leases.lock(lock('z', 60), at()), leases.locked(HOME)]).toEqual([null, undefined])
    expect(leases.lock(lock('bob', 60, { fingerprint: BOB }), at())?.id).toBe('bob')
  })

  it('is refused beyond 4,096', () => {
    const leases = new Leases()
    const other = (i: number) => ({ address: `10.0.${i >> 8}.${i & 255}`, fingerprint: `${i >> 8}` })
    for (let i = 0; i < MAX_LOCKS; i++) leases.lock(lock(`${i}`, 60, other(i)), at())
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
    leases.restore([lease('x', { address: BLOCK })], everyKey, at())
    expect(changes(leases)).toEqual([])
    expect(ids(leases.close(ALICE, HOME, []))).toEqual(['x'])
  })
})
