import { describe, expect, it } from 'vitest'
import { serverKey, USER } from '../../replay/world'
import { type Fellow, Fellows, isOpen, leasesOf, OTHER, ordered, ROW, rich, rowIn, rowOf, untils, writes } from './fellows'

/* What is opened and closed at one gateway of a fleet is so at all, and no longer than it was to: whole daemons over an etcd in memory. */

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
    // The daemon knows it, and leaves it to no kernel.
    expect([isOpen(one, other), other.world.leases.size]).toEqual([[true, false], 0])
  })

  it('is no later than what etcd says is left', async () => {
    const [one, , fleet] = await Fellows.two()
    const { row, value } = rowOf(60, one.world.wall)
    await fleet.write(row, value, fleet.store.grant(10))
    const before = isOpen(one)
    // It is not told that the row is gone.
    one.cutOff()
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
