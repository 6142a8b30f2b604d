import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { formatEntry, leaseRow, revokedRow } from '../../../src/daemon/fleet/rows'
import { cidrs, serverKey, USER } from '../../replay/world'
import { ALICE, type Fellow, Fellows, FLEET, isOpen, KEY, leasesOf, OTHER, RICH, ROW, rich, rowOf } from './fellows'
import { Twin } from './twin'

/* Whose leases and bans a gateway takes over, and what who has no key gets by writing to etcd: whole daemons over an etcd in memory. */

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
    // Its keyring does not have it: who looks at the gateway hears it from the daemon.
    expect([one, other].map(({ sharing }) => sharing.revoked)).toEqual([[ALICE], []])
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
