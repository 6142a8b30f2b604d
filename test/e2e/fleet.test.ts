import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { DOOR, type Fleet, type Gateway, makeFleet } from '../lab/fleet'
import { logged } from '../lab/gate'
import { knocked } from '../lab/knocks'
import { cut } from '../lab/partition'
import { until } from '../lab/waiters'

/* What one gateway of a fleet opens and closes, the others do: real daemons, doors and packets, and an etcd of three members. */

const LONG = 180_000
/** Milliseconds within which something has reached all that was done where etcd is there: it takes some 10, and this machine is shared. */
const REACHED = 30_000

describe('gateways of a fleet', () => {
  let fleet: Fleet
  let key = ''
  beforeAll(async () => {
    fleet = await makeFleet({ gateways: ['gw1', 'gw2'], keys: 2 })
    key = join(fleet.keyring, 'user0.key')
    await Promise.all(fleet.gateways.map(({ daemon }) => daemon.line(logged('this gateway accepts knocks'), 0, LONG)))
  }, LONG)
  afterAll(() => fleet?.end())

  const knock = ({ daemon, host }: Gateway, ...options: string[]) =>
    knocked(fleet.client, daemon, key, '-r', host.ipv4, '-p', `${DOOR}`, ...options)
  /** Knocks until that opens: not so often that refusals are left out of the log. */
  const untilAccepted = (gateway: Gateway) =>
    until(
      async () => {
        const isAccepted = (await knock(gateway, '-t', '10m')).msg === 'accepted'
        if (!isAccepted) await sleep(1_000)
        return isAccepted
      },
      'a knock is accepted',
      LONG,
    )
  const sees = async ({ host }: Gateway) => (await fleet.client.connect(host.ipv4, DOOR)).saw
  const isOpen = async (gateway: Gateway) => (await sees(gateway)) === 'open'
  const all = (isWanted: boolean) => async () => (await Promise.all(fleet.gateways.map(isOpen))).every((is) => is === isWanted)
  const areOpen = () => until(all(true), 'the door is open at all', REACHED)
  const areShut = () => until(all(false), 'the door is shut at all', REACHED)
  const members = () => (fleet.etcd?.members ?? []).flatMap(({ host }) => host ?? [])

  it('open what one of them has heard, and close it by a knock at another', { timeout: LONG }, async () => {
    const [gw1, gw2] = fleet.gateways
    expect([await isOpen(gw1), await isOpen(gw2)]).toEqual([false, false])
    // What may have been sent before the fleet began is dead.
    await untilAccepted(gw1)
    await areOpen()
    await gw2.daemon.line(logged('opened for the fleet', { gateway: 'gw1' }))
    await knock(gw2, '--close')
    await areShut()
    await gw1.daemon.line(logged('closed for the fleet'))
  })

  it('close by an order at any', { timeout: LONG }, async () => {
    const [gw1, gw2] = fleet.gateways
    await knock(gw1, '-t', '10m')
    await areOpen()
    await gw2.knockturn('lease', 'close', '--key', 'user0')
    await areShut()
  })

  it('refuse --once, since they do not count each other’s connections', { timeout: LONG }, async () => {
    const [gw1] = fleet.gateways
    const refused = await knock(gw1, '-t', '10m', '--once')
    expect(refused).toMatchObject({ refusal: 'not-granted', reason: expect.stringContaining('pinned = true') })
    expect(await isOpen(gw1)).toBe(false)
  })

  it('keep what is open when one of them ends or starts, and when the leader of etcd dies, and no longer', {
    timeout: LONG,
  }, async () => {
    const [gw1, gw2] = fleet.gateways
    const opened = await knock(gw1, '-t', '40s')
    const end = Date.parse(opened.until)
    await areOpen()
    const leader = await fleet.etcd?.leader()
    await leader?.kill()
    await gw2.end('SIGTERM')
    await gw2.start()
    await leader?.start()
    expect(await isOpen(gw1)).toBe(true)
    await until(() => isOpen(gw2), 'it is open where the daemon was started', REACHED)
    await until(() => Date.now() > end + 1_000, 'its time is over', LONG)
    expect([await sees(gw1), await sees(gw2)]).toEqual(['silence', 'silence'])
  })

  it('have no door open for longer that open it when the leader of etcd was killed at half time', { timeout: LONG }, async () => {
    const [gw1, gw2] = fleet.gateways
    await untilAccepted(gw1)
    await gw1.knockturn('lease', 'close', '--key', 'user0')
    await areShut()
    // It knows neither what was opened, nor when: etcd's own lease has its whole time again by then.
    await gw2.end('SIGTERM')
    const end = Date.parse((await knock(gw1, '-t', '60s')).until)
    await until(() => Date.now() > end - 30_000, 'half of its time is over', LONG)
    const leader = await fleet.etcd?.leader()
    await leader?.kill()
    await gw2.start()
    await until(() => isOpen(gw2), 'it is open where the daemon was started', REACHED)
    await until(() => Date.now() > end + 1_000, 'its time is over', LONG)
    expect([await sees(gw1), await sees(gw2)]).toEqual(['silence', 'silence'])
    await leader?.start()
  })

  it('close after a partition what was closed during it', { timeout: LONG }, async () => {
    const [gw1, gw2] = fleet.gateways
    await untilAccepted(gw1)
    await areOpen()
    const heal = await cut([gw2.host], members())
    await gw1.knockturn('lease', 'close', '--key', 'user0')
    await until(async () => !(await isOpen(gw1)), 'it is shut here', REACHED)
    expect(await isOpen(gw2)).toBe(true)
    await heal()
    await until(all(false), 'it is shut at all', LONG)
  })

  it('open nothing by what somebody without a key writes, who has all of etcd', { timeout: LONG }, async () => {
    const [gw1, gw2] = fleet.gateways
    await untilAccepted(gw1)
    await areOpen()
    const etcd = fleet.etcd
    if (!etcd) throw new Error('the fleet has an etcd')
    const found = JSON.parse(await etcd.etcdctl(['get', 'knockturn/shared/lease/', '--prefix', '--write-out', 'json'])).kvs[0]
    const [name, value] = [found.key, found.value].map((text) => Buffer.from(text, 'base64').toString())
    await gw2.knockturn('lease', 'close', '--key', 'user0')
    await areShut()
    // As it was; for somebody else; for another port.
    const since = gw1.daemon.lines.length
    await etcd.etcdctl(['put', name, value])
    await etcd.etcdctl(['put', name.replace(fleet.client.ipv4, fleet.listener.ipv4), value])
    await etcd.etcdctl(['put', name.replace(`/${DOOR}/`, '/80/'), value])
    await gw1.daemon.line(logged('a row of the fleet is not by its key: ignored'), since, REACHED)
    await until(async () => (await etcd.etcdctl(['get', name])) === '', 'what was closed is taken away again', REACHED)
    expect([await isOpen(gw1), await isOpen(gw2)]).toEqual([false, false])
    expect((await fleet.listener.connect(gw1.host.ipv4, DOOR)).saw).toBe('silence')
  })

  it('end what a key has open that is revoked at one of them', { timeout: LONG }, async () => {
    const [gw1, gw2] = fleet.gateways
    const other = join(fleet.keyring, 'user1.key')
    await knocked(fleet.client, gw1.daemon, other, '-r', gw1.host.ipv4, '-p', `${DOOR}`, '-t', '10m')
    await areOpen()
    await gw2.gate.knockturn('key', 'revoke', 'user1', '--keys', gw2.gate.keys)
    await areShut()
    await gw1.daemon.line(logged('a key was revoked for the fleet', { key: 'user1' }))
    const again = await knocked(fleet.client, gw1.daemon, other, '-r', gw1.host.ipv4, '-p', `${DOOR}`, '-t', '9m')
    expect(again).toMatchObject({ refusal: 'revoked' })
  })
})
