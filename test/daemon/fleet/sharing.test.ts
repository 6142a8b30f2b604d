import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { formatEntry, leaseRow, parseEntry, revokedRow } from '../../../src/daemon/fleet/rows'
import { cidrs, serverKey, USER } from '../../replay/world'
import { type Fellow, Fellows, leasesOf } from './fellows'
import { Twin } from './twin'

/* What is opened, closed, locked and revoked at one gateway of a fleet is so at all: whole daemons over an etcd in memory. */

const OTHER = '203.0.113.9'
const FLEET = '00112233445566aa'
const { fingerprint: ALICE, key: KEY } = serverKey(1)
const ROW = `shared/lease/${ALICE}/tcp/22/${USER}`
const RICH = { lock: true, allowUntilClosed: true }
const rich = () => [serverKey(1, RICH)]

const isOpen = (...fellows: Fellow[]) => fellows.map(({ world }) => world.isOpen())
const untils = (...fellows: Fellow[]) => fellows.map((fellow) => leasesOf(fellow).map(({ until }) => until))
const ordered = (fellow: Fellow) => fellow.world.daemon.closeNamed({ key: 'user1' })
const writes = (fellow: Fellow) =>
  fellow.twin.asked.filter(({ do: steps }) => steps.some((step) => 'put' in step || 'remove' in step)).length
/** The row of the lease, as etcd has it. */
const rowIn = ({ store }: Fellows, name = ROW) => store.rows.find(({ row }) => row === name)
/** A row as a gateway would write it. */
function rowOf(seconds: number | null, wall: number, more: object = {}) {
  const until = seconds === null ? null : Math.ceil(wall / 1000) + seconds
  const whose = { id: 'abcdef01', key: 'user1', fingerprint: ALICE, address: USER }
  const entry = { ...whose, protocol: 'tcp' as const, port: 22, once: false, until, ...more }
  const row = leaseRow(entry)
  return { row, value: formatEntry(row, { entry, gateway: 'gw9', epoch: 1, seconds, ...more }, FLEET, KEY) }
}

describe('a lease', () => {
  it('that is opened at one gateway is open at the other, until the same moment', async () => {
    const [one, other, fleet] = await Fellows.two()
    await fleet.knock(one)
    expect(isOpen(one, other)).toEqual([true, true])
    expect(leasesOf(other)).toEqual(leasesOf(one))
    expect(other.said('opened for the fleet')).toMatchObject([{ key: 'user1', gateway: 'gw1', address: USER, service: '22/tcp' }])
  })

  it('of several services is shared as a whole, by one lease of etcd', async () => {
    const services = [22, 53, 443].map((port) => ({ port, protocol: 'tcp' as const }))
    const [one, other, fleet] = await Fellows.two(() => [serverKey(1, { services })])
    await fleet.knock(one, { port: 0 })
    expect(
      leasesOf(other)
        .map(({ port }) => port)
        .sort(),
    ).toEqual([22, 443, 53])
    expect(new Set(fleet.store.rows.flatMap(({ lease }) => lease ?? [])).size).toBe(1)
  })

  it('that was taken over is not told again', async () => {
    const [one, other, fleet] = await Fellows.two()
    await fleet.knock(one)
    await fleet.pass(70_000)
    expect([writes(one), writes(other)]).toEqual([1, 0])
  })

  it('that is made longer at another gateway is longer at all, under one row', async () => {
    const [one, other, fleet] = await Fellows.two()
    await fleet.knock(one, { seconds: 60 })
    const [[before]] = untils(one)
    await fleet.knock(other, { seconds: 600 })
    const [[after]] = untils(one)
    expect(after).toBeGreaterThan((before ?? 0) + 500)
    expect([untils(one), fleet.rows()]).toEqual([untils(other), [ROW]])
  })

  it('that is asked for again for a shorter time stays as it is at all', async () => {
    const [one, other, fleet] = await Fellows.two()
    await fleet.knock(one, { seconds: 600 })
    const before = untils(one, other)
    await fleet.knock(other, { seconds: 60 })
    expect(untils(one, other)).toEqual(before)
  })

  it('that two gateways open at the same moment is the longer one at both', async () => {
    const [one, other, fleet] = await Fellows.two()
    for (const { twin } of [one, other]) twin.always = 'held'
    await fleet.knock(one, { seconds: 60 })
    await fleet.knock(other, { seconds: 600 })
    for (const { twin } of [one, other]) {
      twin.always = null
      twin.release()
    }
    await fleet.pass(2_000)
    const [[until]] = untils(other)
    expect([untils(one, other), fleet.rows()]).toEqual([[[until], [until]], [ROW]])
    expect((until ?? 0) - one.world.wall / 1000).toBeGreaterThan(590)
  })

  it('ends by itself at all, and nobody is said to have closed it', async () => {
    const [one, other, fleet] = await Fellows.two()
    await fleet.knock(one)
    await fleet.pass(62_000)
    expect([isOpen(one, other), fleet.rows()]).toEqual([[false, false], []])
    expect([one, other].flatMap((fellow) => fellow.said('closed for the fleet'))).toEqual([])
    expect([one, other].flatMap((fellow) => fellow.said('expired')).length).toBe(2)
  })

  it('whose row goes within two seconds of its end has ended by itself', async () => {
    const [one, other, fleet] = await Fellows.two()
    await fleet.knock(one)
    await fleet.pass(59_000)
    await fleet.remove(ROW)
    expect([isOpen(one, other), other.said('closed for the fleet')]).toEqual([[true, true], []])
  })

  it('until closed is until closed at all, by a row that etcd does not end', async () => {
    const [one, other, fleet] = await Fellows.two(rich)
    await fleet.knock(one, { seconds: 0 })
    expect([untils(one, other), rowIn(fleet)?.lease]).toEqual([[[null], [null]], null])
    await fleet.pass(3_600_000 / 20)
    await ordered(other)
    await fleet.settled()
    expect([isOpen(one, other), fleet.rows()]).toEqual([[false, false], []])
  })

  it('for one connection is no other gateway’s', async () => {
    const [one, other, fleet] = await Fellows.two()
    await fleet.knock(one, { once: true })
    expect([isOpen(one, other), fleet.rows()]).toEqual([[true, false], []])
  })

  it('for one connection is refused where packets of a source may reach any gateway', async () => {
    const onceRefused = 'the fleet does not count connections'
    const fleet = await Fellows.begin({ onceRefused })
    await fleet.knock(fleet.all[0], { once: true })
    expect(isOpen(fleet.all[0])).toEqual([false])
    expect(fleet.all[0].said('refused')).toMatchObject([{ refusal: 'not-granted', reason: onceRefused }])
  })

  it('for the machine itself stays there', async () => {
    const [one, , fleet] = await Fellows.two()
    await fleet.knock(one, {}, '127.0.0.1')
    expect([leasesOf(one).length, fleet.rows()]).toEqual([1, []])
  })

  it('that this firewall refuses is open nowhere', async () => {
    const [one, other, fleet] = await Fellows.two()
    one.world.fault = () => {
      throw new Error('no')
    }
    await fleet.knock(one)
    await fleet.pass(1_000)
    expect([isOpen(one, other), fleet.rows()]).toEqual([[false, false], []])
  })

  it('that another firewall refuses stays open here, and is tried again there', async () => {
    const [one, other, fleet] = await Fellows.two()
    other.world.fault = () => {
      throw new Error('no')
    }
    await fleet.knock(one)
    await fleet.pass(1_000)
    const before = isOpen(one, other)
    other.world.fault = undefined
    await fleet.pass(10_000)
    expect([before, isOpen(one, other), fleet.rows()]).toEqual([[true, false], [true, true], [ROW]])
  })
})

describe('the end of a lease that was taken over', () => {
  it('is counted from its first sight where this clock is behind', async () => {
    const [one, other, fleet] = await Fellows.two()
    other.world.wall -= 20_000
    await fleet.knock(one, { seconds: 60 })
    await fleet.pass(61_500)
    expect([isOpen(one, other), leasesOf(other)]).toEqual([[false, false], []])
  })

  it('is that of the row where this clock is ahead', async () => {
    const [one, other, fleet] = await Fellows.two()
    other.world.wall += 20_000
    await fleet.knock(one, { seconds: 60 })
    await fleet.pass(41_500)
    expect(isOpen(one, other)).toEqual([true, false])
  })

  it('is no later than what etcd says is left', async () => {
    const [one, , fleet] = await Fellows.two()
    const { row, value } = rowOf(60, one.world.wall)
    await fleet.write(row, value, fleet.store.grant(10))
    const before = isOpen(one)
    await fleet.pass(11_250)
    expect([before, isOpen(one)]).toEqual([[true], [false]])
  })

  it('is no later for it that etcd says more is left', async () => {
    const [one, , fleet] = await Fellows.two()
    one.world.wall -= 20_000
    const { row, value } = rowOf(10, one.world.wall + 20_000)
    await fleet.write(row, value, fleet.store.grant(60))
    const before = isOpen(one)
    await fleet.pass(10_500)
    expect([before, isOpen(one)]).toEqual([[true], [false]])
  })

  it('waits until it is known what etcd says is left', async () => {
    const [one, other, fleet] = await Fellows.two()
    other.twin.plan('timeout', 'no-quorum')
    await fleet.knock(one)
    const before = isOpen(one, other)
    await fleet.pass(2_000)
    expect([before, isOpen(one, other)]).toEqual([
      [true, false],
      [true, true],
    ])
  })

  it.each([
    ['as it was', 0],
    ['with a clock that is behind', -5_000],
  ])('stays where it is when the leader of etcd changes at half time, %s', async (_, off) => {
    const [one, other, fleet] = await Fellows.two()
    other.world.wall += off
    await fleet.knock(one, { seconds: 60 })
    await fleet.pass(30_000)
    fleet.store.elect()
    await other.follow()
    await fleet.pass(31_500)
    // The row is there still, and nobody opens by it.
    expect([isOpen(one, other), fleet.rows()]).toEqual([[false, false], [ROW]])
    await other.follow()
    await fleet.settled()
    expect([isOpen(one, other), leasesOf(other)]).toEqual([[false, false], []])
  })

  it.each([false, true])('stays where it is when the gateway starts again at half time (its machine: %s)', async (isReboot) => {
    const [one, other, fleet] = await Fellows.two()
    await fleet.knock(one, { seconds: 60 })
    await fleet.pass(30_000)
    await other.restart(isReboot)
    await fleet.settled()
    const before = isOpen(one, other)
    await fleet.pass(31_500)
    expect([before, isOpen(one, other)]).toEqual([
      [true, true],
      [false, false],
    ])
  })

  it('stays where it is when the machine boots with a clock that is behind, though the leader of etcd stays', async () => {
    const [one, other, fleet] = await Fellows.two()
    await fleet.knock(one, { seconds: 60 })
    await fleet.pass(30_000)
    other.world.wall -= 20_000
    await other.restart(true)
    await fleet.pass(32_000)
    expect(isOpen(one, other)).toEqual([false, false])
  })

  it('is no later than that of the key here', async () => {
    const [one, other, fleet] = await Fellows.two()
    await other.world.setKeys([serverKey(1, {}, { expires: other.world.wall + 20_000 })])
    await fleet.knock(one, { seconds: 60 })
    const before = isOpen(one, other)
    // Also by the kernel's clock, whose daemon may be gone by then.
    expect(untils(other)).toEqual([[Math.floor((other.world.wall + 20_000) / 1000)]])
    await fleet.pass(20_500)
    expect([before, isOpen(one, other)]).toEqual([
      [true, true],
      [true, false],
    ])
  })
})

describe('closing', () => {
  it('by a knock at another gateway than the one that has opened closes at all', async () => {
    const [one, other, fleet] = await Fellows.two()
    await fleet.knock(one)
    await fleet.knock(other, { action: 'close', port: 0 })
    expect([isOpen(one, other), fleet.rows()]).toEqual([[false, false], []])
    expect(one.said('closed for the fleet')).toMatchObject([{ key: 'user1', address: USER, service: '22/tcp' }])
  })

  it('by an order reaches all', async () => {
    const [one, other, fleet] = await Fellows.two()
    await fleet.knock(one)
    await ordered(other)
    await fleet.settled()
    expect([isOpen(one, other), fleet.rows()]).toEqual([[false, false], []])
  })

  it.each([
    ['a knock', (fleet: Fellows, other: Fellow) => fleet.knock(other, { action: 'close', port: 22 })],
    ['an order', (_: Fellows, other: Fellow) => other.world.daemon.closeNamed({ key: 'user1', address: USER })],
  ])('by %s where it is not open closes it elsewhere', async (_, close) => {
    const fleet = await Fellows.begin({}, { keys: [serverKey(1, { max: 30 })] })
    const [one, other] = fleet.all
    await fleet.knock(one)
    const before = isOpen(one, other)
    await close(fleet, other)
    await fleet.settled()
    expect([before, isOpen(one, other), fleet.rows()]).toEqual([[true, false], [false, false], []])
  })

  it('by a knock closes no other key’s, address’s or port’s', async () => {
    const services = [22, 443].map((port) => ({ port, protocol: 'tcp' as const }))
    const [one, other, fleet] = await Fellows.two(() => [serverKey(1, { services }), serverKey(2)])
    await fleet.knock(one, { port: 0 })
    await fleet.knock(one, { port: 22 }, OTHER)
    await fleet.knock(one, {}, USER, one.world.keys[1].key)
    await fleet.knock(other, { action: 'close', port: 22 })
    expect(
      leasesOf(one)
        .map(({ key, port, address }) => `${key} ${port} ${address}`)
        .sort(),
    ).toEqual([`user1 22 ${OTHER}`, `user1 443 ${USER}`, `user2 22 ${USER}`])
  })

  it('of a ban by an order where it does not hold lifts it elsewhere', async () => {
    const fleet = await Fellows.begin({ keys: rich() }, { keys: rich(), neverLock: ['198.51.100.0/24'] })
    const [one, other] = fleet.all
    await fleet.knock(one, { action: 'lock', port: 0, seconds: 600 })
    await other.world.daemon.unlock(USER)
    await fleet.settled()
    expect([one.world.leases.locks, fleet.rows()]).toEqual([0, []])
  })

  it('by somebody who takes the row away closes at all', async () => {
    const [one, other, fleet] = await Fellows.two()
    await fleet.knock(one)
    await fleet.remove(ROW)
    expect(isOpen(one, other)).toEqual([false, false])
  })

  it('by somebody who writes over the row closes at all', async () => {
    const [one, other, fleet] = await Fellows.two()
    await fleet.knock(one)
    await fleet.write(ROW, 'x')
    expect(isOpen(one, other)).toEqual([false, false])
  })

  it('during a partition reaches after it who was cut off', async () => {
    const [one, other, fleet] = await Fellows.two()
    await fleet.knock(one, { seconds: 600 })
    one.cutOff()
    await ordered(other)
    await fleet.pass(5_000)
    const before = isOpen(one, other)
    await one.back()
    await fleet.pass(1_000)
    expect([before, isOpen(one, other)]).toEqual([
      [true, false],
      [false, false],
    ])
  })

  it('during a partition, by who is cut off, reaches the others after it', async () => {
    const [one, other, fleet] = await Fellows.two()
    await fleet.knock(one, { seconds: 600 })
    one.cutOff()
    await ordered(one)
    await fleet.pass(5_000)
    const before = isOpen(one, other)
    await one.back()
    await fleet.pass(1_000)
    expect([before, isOpen(one, other), fleet.rows()]).toEqual([[false, true], [false, false], []])
  })

  it('is not undone by the same row, which is taken away again', async () => {
    const [one, other, fleet] = await Fellows.two(rich)
    await fleet.knock(one, { seconds: 0 })
    const { value = '' } = rowIn(fleet) ?? {}
    await ordered(other)
    await fleet.settled()
    await fleet.write(ROW, value)
    expect([isOpen(one, other), fleet.rows()]).toEqual([[false, false], []])
  })

  it('is not undone by an earlier row of the same lease', async () => {
    const [one, other, fleet] = await Fellows.two()
    await fleet.knock(one, { seconds: 60 })
    const { value = '' } = rowIn(fleet) ?? {}
    await fleet.knock(one, { seconds: 600 })
    await ordered(other)
    await fleet.settled()
    await fleet.write(ROW, value)
    await fleet.pass(1_000)
    expect([isOpen(one, other), fleet.rows()]).toEqual([[false, false], []])
  })

  it('is not kept from the others by who writes an earlier row in the place of the last', async () => {
    const [one, other, fleet] = await Fellows.two()
    await fleet.knock(one, { seconds: 60 })
    const { value = '' } = rowIn(fleet) ?? {}
    await fleet.knock(one, { seconds: 600 })
    await fleet.pass(59_000)
    await fleet.write(ROW, value)
    await fleet.remove(ROW)
    expect(isOpen(one, other)).toEqual([false, false])
  })

  it('and opening anew at once, for a shorter time, is open for just that at all', async () => {
    const [one, other, fleet] = await Fellows.two()
    await fleet.knock(one, { seconds: 600 })
    one.twin.always = 'held'
    await fleet.knock(one, { action: 'close', port: 0 })
    await fleet.knock(one, { seconds: 60 })
    one.twin.always = null
    one.twin.release()
    await fleet.pass(2_000)
    const before = isOpen(one, other)
    await fleet.pass(60_000)
    expect([before, isOpen(one, other)]).toEqual([
      [true, true],
      [false, false],
    ])
  })

  it('closes no lease that was opened anew meanwhile', async () => {
    const [one, other, fleet] = await Fellows.two()
    await fleet.knock(one, { seconds: 600 })
    one.twin.isSilent = true
    await ordered(other)
    await ordered(one)
    await fleet.knock(one, { seconds: 600 })
    one.twin.speak()
    await fleet.pass(3_000)
    expect(isOpen(one, other)).toEqual([true, true])
  })
})

describe('a look at all rows', () => {
  it('closes what has none, also after a restart', async () => {
    const [one, other, fleet] = await Fellows.two()
    await fleet.knock(one, { seconds: 600 })
    await other.end()
    await ordered(one)
    await fleet.settled()
    const before = other.world.isOpen()
    await other.restart()
    await fleet.settled()
    expect([before, isOpen(one, other)]).toEqual([true, [false, false]])
  })

  it('keeps what waits to be written, and has it written', async () => {
    const [one, other, fleet] = await Fellows.two()
    one.twin.plan('full')
    await fleet.knock(one)
    await one.follow()
    expect(isOpen(one, other)).toEqual([true, false])
    await fleet.pass(2_000)
    expect(isOpen(one, other)).toEqual([true, true])
  })

  it('closes what was written, for all that is known, and is not there', async () => {
    const [one, other, fleet] = await Fellows.two()
    // A lease of etcd, and then the row: it is written, closed elsewhere, and nobody here hears of either.
    one.twin.isSilent = true
    one.twin.plan(null, 'lost after')
    await fleet.knock(one, { seconds: 600 })
    await ordered(other)
    await fleet.settled()
    one.twin.cut()
    one.twin.isSilent = false
    await one.follow()
    await fleet.pass(2_000)
    expect([isOpen(one, other), fleet.rows()]).toEqual([[false, false], []])
  })

  it('waits for an answer that is under way, which says that it was written and is gone again', async () => {
    const [one, other, fleet] = await Fellows.two()
    one.twin.isSilent = true
    one.twin.plan(null, 'held')
    await fleet.knock(one, { seconds: 600 })
    one.twin.held[0].perform()
    await fleet.settled()
    await ordered(other)
    await fleet.settled()
    one.twin.cut()
    one.twin.isSilent = false
    await one.follow()
    // Nobody else is there who would take the row away again.
    await other.end()
    const before = isOpen(one)
    one.twin.release()
    await fleet.pass(2_000)
    expect([before, isOpen(one), fleet.rows()]).toEqual([[true], [false], []])
  })

  it('waits for an answer that is under way, and closes where none comes', async () => {
    const [one, other, fleet] = await Fellows.two()
    one.twin.isSilent = true
    one.twin.plan(null, 'held')
    await fleet.knock(one, { seconds: 600 })
    one.twin.held[0].perform()
    await fleet.settled()
    await ordered(other)
    await fleet.settled()
    await other.end()
    one.twin.cut()
    one.twin.isSilent = false
    await one.follow()
    const before = isOpen(one)
    one.twin.held[0].giveUp()
    await fleet.pass(2_000)
    expect([before, isOpen(one), fleet.rows()]).toEqual([[true], [false], []])
  })

  it('closes what was written at a second try, and is gone again', async () => {
    const [one, other, fleet] = await Fellows.two()
    one.twin.isSilent = true
    one.twin.plan(null, 'twice')
    await fleet.knock(one, { seconds: 600 })
    await ordered(other)
    await fleet.settled()
    await other.end()
    one.twin.cut()
    one.twin.isSilent = false
    await one.follow()
    await fleet.pass(2_000)
    expect([isOpen(one), fleet.rows()]).toEqual([[false], []])
  })

  it('closes what was closed meanwhile and opened anew for a shorter time, and opens that', async () => {
    const [one, other, fleet] = await Fellows.two()
    await fleet.knock(one, { seconds: 600 })
    other.cutOff()
    await ordered(one)
    await fleet.knock(one, { seconds: 20 })
    await other.back()
    await fleet.settled()
    expect(untils(other)).toEqual(untils(one))
    await fleet.pass(21_500)
    expect(isOpen(one, other)).toEqual([false, false])
  })

  it('remembers what was closed meanwhile, also where it was never open here', async () => {
    const [one, other, fleet] = await Fellows.two()
    other.refusal = 'the clocks differ'
    await fleet.knock(one, { seconds: 600 })
    const { value = '' } = rowIn(fleet) ?? {}
    other.cutOff()
    await ordered(one)
    await fleet.settled()
    await one.end()
    await other.back()
    other.refusal = null
    await fleet.write(ROW, value)
    await fleet.pass(2_000)
    expect([isOpen(other), fleet.rows()]).toEqual([[false], []])
  })

  it('of an etcd that is brand-new closes all that was shared', async () => {
    const [one, other, fleet] = await Fellows.two()
    await fleet.knock(one)
    fleet.store.restore()
    for (const fellow of [one, other]) await fellow.follow()
    await fleet.settled()
    expect(isOpen(one, other)).toEqual([false, false])
  })

  it('does not close what nobody else can have', async () => {
    const [one, , fleet] = await Fellows.two()
    await fleet.knock(one, { once: true })
    await fleet.knock(one, {}, '127.0.0.1')
    await one.follow()
    await fleet.settled()
    expect(leasesOf(one).length).toBe(2)
  })
})

describe('an etcd that was restored', () => {
  it('opens nothing that was closed since its snapshot', async () => {
    const [one, other, fleet] = await Fellows.two()
    await fleet.knock(one, { seconds: 600 })
    const snapshot = fleet.store.snapshot()
    await ordered(one)
    await fleet.settled()
    fleet.store.restore(snapshot)
    // One that was there remembers; one that has started since goes by the base, which is a later one now.
    await one.end()
    other.refusal = 'etcd was restored'
    await other.restart()
    await fleet.pass(2_000)
    other.refusal = null
    other.base = { ...(other.base as object), epoch: 2 } as typeof other.base
    await other.follow()
    await fleet.pass(5_000)
    expect(isOpen(one, other)).toEqual([false, false])
  })

  it('closes nothing that it still has, and is told of it by the later base', async () => {
    const [one, other, fleet] = await Fellows.two()
    await fleet.knock(one, { seconds: 600 })
    fleet.store.restore(fleet.store.snapshot())
    for (const fellow of [one, other]) {
      fellow.base = { ...(fellow.base as object), epoch: 2 } as typeof fellow.base
      await fellow.follow()
    }
    await fleet.pass(2_000)
    const { value = '' } = rowIn(fleet) ?? {}
    expect(isOpen(one, other)).toEqual([true, true])
    expect(parseEntry(ROW, value, FLEET, KEY)).toMatchObject({ epoch: 2, gateway: 'gw1' })
  })
})

describe('what can’t be written', () => {
  it.each(['lost before', 'lost after', 'twice', 'timeout', 'full', 'unreachable'] as const)(
    'at first (%s) is written later, once, and is open at all',
    async (fault) => {
      const [one, other, fleet] = await Fellows.two()
      one.twin.plan(null, fault)
      await fleet.knock(one)
      await fleet.pass(3_000)
      expect([isOpen(one, other), fleet.rows()]).toEqual([[true, true], [ROW]])
      expect(leasesOf(other)).toEqual(leasesOf(one))
    },
  )

  it.each(['lost before', 'lost after', 'twice', 'timeout', 'full', 'unreachable'] as const)(
    'of a close at first (%s) is closed later',
    async (fault) => {
      const [one, other, fleet] = await Fellows.two()
      await fleet.knock(one, { seconds: 600 })
      other.twin.plan(fault)
      await ordered(other)
      await fleet.pass(3_000)
      expect([isOpen(one, other), fleet.rows()]).toEqual([[false, false], []])
    },
  )

  it('and is closed before that is over leaves nothing behind', async () => {
    const [one, other, fleet] = await Fellows.two()
    one.twin.plan(null, 'held')
    await fleet.knock(one, { seconds: 600 })
    await ordered(one)
    await fleet.settled()
    one.twin.release()
    await fleet.pass(3_000)
    expect([isOpen(one, other), fleet.rows()]).toEqual([[false, false], []])
  })

  it('because somebody else was first writes over nobody', async () => {
    const [one, other, fleet] = await Fellows.two()
    one.twin.plan(null, 'held')
    await fleet.knock(one, { seconds: 60 })
    await fleet.knock(other, { seconds: 600 })
    one.twin.release()
    await fleet.pass(2_000)
    expect([untils(one), other.said('closed for the fleet')]).toEqual([untils(other), []])
    expect((untils(one)[0][0] ?? 0) - one.world.wall / 1000).toBeGreaterThan(590)
  })

  it('before it is made longer is written as it is then, and etcd keeps it as long', async () => {
    const [one, other, fleet] = await Fellows.two()
    one.twin.plan('held')
    await fleet.knock(one, { seconds: 10 })
    await fleet.knock(one, { seconds: 60 })
    one.twin.release()
    await fleet.pass(20_000)
    expect([isOpen(one, other), fleet.rows(), one.said('internal error, please report')]).toEqual([[true, true], [ROW], []])
  })

  it('before it is closed is not written', async () => {
    const [one, other, fleet] = await Fellows.two()
    one.twin.plan('held')
    await fleet.knock(one)
    await ordered(one)
    one.twin.release()
    await fleet.pass(1_000)
    expect([isOpen(one, other), one.said('internal error, please report')]).toEqual([[false, false], []])
    expect(one.twin.asked).toEqual([])
  })

  it('for all that is known, and is closed here, is taken away, also before the watch tells of it', async () => {
    const [one, , fleet] = await Fellows.two()
    one.twin.isSilent = true
    one.twin.plan(null, 'lost after')
    await fleet.knock(one)
    await ordered(one)
    await fleet.settled()
    expect(fleet.rows()).toEqual([])
  })

  it('is said once, and not each time that it fails', async () => {
    const [one, , fleet] = await Fellows.two()
    one.cutOff()
    await fleet.knock(one, { seconds: 600 })
    await fleet.pass(30_000)
    expect(one.said('cannot share with the fleet: trying again').length).toBe(1)
  })
})

describe('who ends', () => {
  it('ends nothing elsewhere', async () => {
    const [one, other, fleet] = await Fellows.two()
    await fleet.knock(one, { seconds: 600 })
    await one.end()
    await one.world.settled()
    one.world.kill()
    await fleet.settled()
    expect([isOpen(other), fleet.rows()]).toEqual([[true], [ROW]])
  })

  it('tells nothing more', async () => {
    const [one, other, fleet] = await Fellows.two()
    await fleet.knock(one, { seconds: 600 })
    await one.end()
    await ordered(one)
    await fleet.pass(2_000)
    expect([isOpen(one, other), fleet.rows()]).toEqual([[false, true], [ROW]])
  })
})

describe('a key', () => {
  const revoked = () => serverKey(1, RICH, { revoked: 1_000 })

  it('that is revoked at one gateway is so at all: its leases end, its knocks are refused, its rows are gone', async () => {
    const [one, other, fleet] = await Fellows.two()
    await fleet.knock(one, { seconds: 600 })
    await other.world.setKeys([revoked()])
    await fleet.settled()
    expect([isOpen(one, other), fleet.rows()]).toEqual([[false, false], []])
    expect(fleet.store.rows.map(({ row }) => row)).toContain(revokedRow(ALICE))
    expect(one.said('a key was revoked for the fleet')).toMatchObject([{ key: 'user1' }])
    await fleet.knock(one, { seconds: 600 })
    expect([isOpen(one), one.said('refused')]).toMatchObject([[false], [{ refusal: 'revoked' }]])
  })

  it('that is revoked at one gateway ends at once elsewhere also what has no row', async () => {
    const [one, other, fleet] = await Fellows.two()
    await fleet.knock(one, { once: true })
    await other.world.setKeys([revoked()])
    await fleet.settled()
    expect(isOpen(one)).toEqual([false])
  })

  it('that was revoked before its gateway started is told by it', async () => {
    const fleet = await Fellows.begin({ keys: [revoked()] }, {})
    await fleet.settled()
    await fleet.knock(fleet.all[1])
    expect(isOpen(...fleet.all)).toEqual([false, false])
  })

  it('stays revoked when its row is taken away, which is put again', async () => {
    const [one, other, fleet] = await Fellows.two()
    await other.world.setKeys([revoked()])
    await fleet.settled()
    await other.end()
    await fleet.remove(revokedRow(ALICE))
    await fleet.knock(one)
    expect(isOpen(one)).toEqual([false])
    other.join()
    await other.follow()
    await fleet.settled()
    expect(fleet.store.rows.map(({ row }) => row)).toContain(revokedRow(ALICE))
  })

  it('that is revoked, and comes into the keyring later, is revoked', async () => {
    const [one, other, fleet] = await Fellows.two()
    await one.world.setKeys([serverKey(2)])
    await other.world.setKeys([revoked()])
    await fleet.settled()
    await one.world.setKeys([serverKey(1), serverKey(2)])
    await fleet.knock(one)
    expect(isOpen(one)).toEqual([false])
  })

  it('of another fingerprint is not revoked with it', async () => {
    const [one, other, fleet] = await Fellows.two(() => [serverKey(1), serverKey(2)])
    await other.world.setKeys([revoked(), serverKey(2)])
    await fleet.settled()
    await fleet.knock(one, {}, USER, one.world.keys[1].key)
    expect(isOpen(one, other)).toEqual([true, true])
  })

  it('whose file is removed at one gateway ends there alone, and opens there again when it is back', async () => {
    const [one, other, fleet] = await Fellows.two()
    await fleet.knock(one, { seconds: 600 })
    await other.world.setKeys([serverKey(2)])
    await fleet.settled()
    const without = [isOpen(one, other), fleet.rows()]
    await other.world.setKeys([serverKey(1)])
    await fleet.settled()
    expect([without, isOpen(one, other)]).toEqual([
      [[true, false], [ROW]],
      [true, true],
    ])
  })

  it('that is not had here opens nothing here', async () => {
    const fleet = await Fellows.begin({}, { keys: [serverKey(2)] })
    await fleet.knock(fleet.all[0])
    expect(leasesOf(fleet.all[1])).toEqual([])
  })

  it.each([
    ['services', { services: [{ port: 443, protocol: 'tcp' as const }] }, {}],
    ['addresses', { addresses: cidrs('203.0.113.0/24') }, {}],
    ['max', { max: 30 }, {}],
    ['allow_until_closed', {}, { seconds: 0 }],
  ])('with less of a grant here opens nothing here (%s)', async (rule, less, request) => {
    const fleet = await Fellows.begin({ keys: rich() }, { keys: [serverKey(1, { ...less })] })
    const [one, other] = fleet.all
    await fleet.knock(one, request)
    expect(isOpen(one, other)).toEqual([true, false])
    expect(other.said('not taken over from the fleet')).toMatchObject([{ key: 'user1', gateway: 'gw1', rule }])
  })

  it('with less of a block around the address opens nothing here', async () => {
    const fleet = await Fellows.begin({ keys: [serverKey(1, { openPrefix: 24 })] }, { keys: [serverKey(1, { openPrefix: 28 })] })
    const [one, other] = fleet.all
    await fleet.knock(one, {}, OTHER)
    expect([leasesOf(one).length, leasesOf(other)]).toEqual([1, []])
    expect(other.said('not taken over from the fleet')).toMatchObject([{ rule: 'open_prefix' }])
  })

  it('with the same block around the address opens it at all', async () => {
    const [one, other, fleet] = await Fellows.two(() => [serverKey(1, { openPrefix: 24 })])
    await fleet.knock(one, {}, OTHER)
    expect(leasesOf(other).map(({ address }) => address)).toEqual(['203.0.113.0/24'])
  })

  it('whose grant becomes wider opens what is open elsewhere', async () => {
    const fleet = await Fellows.begin({}, { keys: [serverKey(1, { max: 30 })] })
    const [one, other] = fleet.all
    await fleet.knock(one)
    await other.world.setKeys([serverKey(1)])
    await fleet.settled()
    expect(isOpen(one, other)).toEqual([true, true])
  })
})

describe('a ban', () => {
  const ban = { action: 'lock' as const, port: 0, seconds: 600 }
  const isDeaf = async (fleet: Fellows, fellow: Fellow) => {
    await fleet.knock(fellow)
    return !fellow.world.isOpen()
  }

  it('at one gateway holds at all', async () => {
    const [one, other, fleet] = await Fellows.two(rich)
    await fleet.knock(one, ban)
    expect(other.said('banned for the fleet')).toMatchObject([{ key: 'user1', gateway: 'gw1', address: USER }])
    expect(await isDeaf(fleet, other)).toBe(true)
  })

  it('closes at all what its key has open for the address', async () => {
    const [one, other, fleet] = await Fellows.two(rich)
    await fleet.knock(one, { seconds: 600 })
    await fleet.knock(other, ban)
    expect(isOpen(one, other)).toEqual([false, false])
  })

  it('is lifted at all by an order at any', async () => {
    const [one, other, fleet] = await Fellows.two(rich)
    await fleet.knock(one, ban)
    await other.world.daemon.unlock(USER)
    await fleet.settled()
    expect([one.world.leases.locks, other.world.leases.locks, fleet.rows()]).toEqual([0, 0, []])
    expect(one.said('ban lifted for the fleet').length).toBe(1)
    expect(await isDeaf(fleet, one)).toBe(false)
  })

  it('names nobody here whom this config spares, and is not lifted elsewhere for that', async () => {
    const fleet = await Fellows.begin({ keys: rich() }, { keys: rich(), neverLock: ['198.51.100.0/24'] })
    const [one, other] = fleet.all
    await fleet.knock(one, ban)
    await fleet.pass(1_000)
    expect([one.world.leases.locks, other.world.leases.locks, fleet.rows().length]).toEqual([1, 0, 1])
    expect(other.said('not taken over from the fleet')).toMatchObject([{ rule: 'never_lock' }])
  })

  it('by a key that may not ban here holds nobody here', async () => {
    const fleet = await Fellows.begin({ keys: rich() }, {})
    await fleet.knock(fleet.all[0], ban)
    expect(fleet.all[1].world.leases.locks).toBe(0)
  })

  it('is taken over also by who opens nothing right now', async () => {
    const [one, other, fleet] = await Fellows.two(rich)
    other.refusal = 'the clocks differ'
    await fleet.knock(one, ban)
    expect(other.world.leases.locks).toBe(1)
  })
})

describe('who opens nothing right now', () => {
  it('takes no lease over, and does when that is over', async () => {
    const [one, other, fleet] = await Fellows.two()
    other.refusal = 'the watch is 12 s old'
    await fleet.knock(one, { seconds: 60 })
    await fleet.pass(10_000)
    const before = isOpen(one, other)
    other.refusal = null
    await fleet.pass(9_000)
    expect([before, isOpen(one, other)]).toEqual([
      [true, false],
      [true, true],
    ])
    await fleet.pass(42_500)
    expect(isOpen(one, other)).toEqual([false, false])
  })

  it('closes all the same', async () => {
    const [one, other, fleet] = await Fellows.two()
    await fleet.knock(one)
    other.refusal = 'the clocks differ'
    await ordered(one)
    await fleet.settled()
    expect(isOpen(other)).toEqual([false])
  })
})

describe('more than fits', () => {
  it('of one key is left out, said, and taken over when there is room', async () => {
    const [one, other, fleet] = await Fellows.two()
    const rows = Array.from({ length: 257 }, (_, i) =>
      rowOf(600, one.world.wall, { id: `abcd${`${1_000 + i}`}`, address: `10.0.${i >> 8}.${i & 255}` }),
    )
    for (const { row, value } of rows) await new Twin(fleet.store).transact({ if: [], do: [{ put: row, value }], else: [] })
    await fleet.settled()
    expect([leasesOf(one).length, leasesOf(other).length]).toEqual([256, 256])
    expect(one.said('too many leases or bans are in force: one of the fleet is left out').length).toBe(1)
    await fleet.remove(rows[0].row)
    await fleet.pass(10_000)
    expect([leasesOf(one).length, leasesOf(other).length]).toEqual([256, 256])
  })
})

describe('who can write to etcd, and has no key,', () => {
  it('opens nothing by a row of another address, service, end, fleet or key', async () => {
    const [one, other, fleet] = await Fellows.two()
    const { wall } = one.world
    const { value } = rowOf(60, wall)
    const forge = (more: object, fleetId = FLEET, key = KEY) => {
      const whose = { id: 'abcdef01', key: 'user1', fingerprint: ALICE, address: USER, protocol: 'tcp' as const, port: 22 }
      const entry = { ...whose, once: false, until: Math.ceil(wall / 1000) + 60, ...more }
      return formatEntry(leaseRow(entry), { entry, gateway: 'gw9', epoch: 1, seconds: 60 }, fleetId, key)
    }
    await fleet.write(`shared/lease/${ALICE}/tcp/22/${OTHER}`, value)
    await fleet.write(`shared/lease/${ALICE}/tcp/443/${USER}`, value)
    await fleet.write(`shared/lock/${ALICE}/${USER}`, value)
    await fleet.write(ROW, value.replace(USER, OTHER))
    await fleet.write(ROW, value.replace(/\\"until\\":\d+/, '\\"until\\":null'))
    await fleet.write(ROW, forge({}, 'ffffffffffffffff'))
    await fleet.write(ROW, forge({}, FLEET, serverKey(2).key))
    expect([leasesOf(one), leasesOf(other), one.world.leases.locks]).toEqual([[], [], 0])
    expect(one.said('a row of the fleet is not by its key: ignored').length).toBe(1)
  })

  it('opens nothing, and breaks nothing, by any name and value', async () => {
    const [one, , fleet] = await Fellows.two()
    const { value } = rowOf(60, one.world.wall)
    const name = fc.oneof(
      fc.constantFrom(
        ROW,
        `${ROW}/24`,
        `shared/lease/${ALICE}/tcp/0/${USER}`,
        `shared/lease/${ALICE}`,
        `shared/lock/${ALICE}/::`,
      ),
      fc.string({ maxLength: 40 }).map((rest) => `shared/lease/${ALICE}/${rest}`),
      fc.string({ maxLength: 40 }).map((rest) => `shared/${rest}`),
    )
    const spoilt = fc.tuple(fc.nat(value.length - 1), fc.string({ minLength: 1, maxLength: 3 })).map(([at, by]) => {
      const text = `${value.slice(0, at)}${by}${value.slice(at + 1)}`
      return text === value ? '' : text
    })
    await fc.assert(
      fc.asyncProperty(name, fc.oneof(fc.string(), fc.json(), spoilt), async (row, text) => {
        one.sharing.put({ row, value: text, created: 5, modified: 5, lease: null })
        one.sharing.removed(row)
        expect(leasesOf(one)).toEqual([])
      }),
      { numRuns: 500 },
    )
    await fleet.settled()
    expect([leasesOf(one), one.world.leases.locks, one.said('internal error, please report')]).toEqual([[], 0, []])
    await fleet.knock(one)
    expect(isOpen(one)).toEqual([true])
  })

  it('opens nothing by a row that is longer than any of ours', async () => {
    const [one, , fleet] = await Fellows.two()
    const { row, value } = rowOf(60, one.world.wall, { padding: 'x'.repeat(3_000) })
    await fleet.write(row, value)
    expect(isOpen(one)).toEqual([false])
  })
})
