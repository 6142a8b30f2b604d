import { chmodSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { DOOR, type Fleet, type Gateway, makeFleet } from '../lab/fleet'
import { logged } from '../lab/gate'
import { knocked, type Verdict } from '../lab/knocks'
import { until } from '../lab/waiters'

/* How gateways stand in their fleet, by their own daemons and a real etcd of three members: what they do without it, and when it is another one. */

/** Milliseconds within which gateways have noticed that etcd is gone, or is back: they are given ten seconds, on a quiet machine. */
const NOTICED = 60_000
/** The longest test waits for that a few times. */
const LONG = 240_000

describe('gateways of a fleet', () => {
  let fleet: Fleet
  beforeAll(async () => {
    fleet = await makeFleet({ gateways: ['gw1', 'gw2', 'gw3'] })
  })
  afterAll(() => fleet?.end())

  const etcd = () => {
    if (!fleet.etcd) throw new Error('the fleet has an etcd')
    return fleet.etcd
  }
  const stateOf = ({ state }: Gateway) => state.fleet
  const memoryOf = ({ gate }: Gateway) => JSON.parse(readFileSync(join(gate.folder, 'fleet.json'), 'utf8'))
  const each = (act: (gateway: Gateway) => Promise<unknown>) => Promise.all(fleet.gateways.map(act))
  const accepts = (gateway: Gateway) =>
    until(() => stateOf(gateway)?.link === null, `${gateway.name} accepts knocks`, NOTICED).catch((error) => {
      throw new Error(`${error.message}: ${JSON.stringify(stateOf(gateway))}`)
    })
  const refuses = (gateway: Gateway, why: RegExp) =>
    until(() => why.test(stateOf(gateway)?.link ?? ''), `${gateway.name} accepts no knocks for ${why}`, NOTICED)

  /** Knocks by a key whose last knock is not in the way: each of its windows is for one. */
  let addresses = 0
  const knock = async ({ daemon, host }: Gateway): Promise<Verdict> => {
    const { client, keyring } = fleet
    return knocked(client, daemon, join(keyring, 'user0.key'), '-r', host.ipv4, '-p', `${DOOR}`, '-t', `${60 + addresses++}s`)
  }

  it('accept knocks when they have heard each other, and say so', { timeout: LONG }, async () => {
    await each(accepts)
    await each(({ daemon }) => daemon.line(logged('this gateway accepts knocks')))
    const [gw1, gw2] = fleet.gateways
    const others = (): { name: string; offset: number | null }[] => stateOf(gw1).gateways
    const known = () => others().filter(({ offset }) => offset !== null)
    await until(() => known().length === 2, 'the clocks of the others are known')
    expect(stateOf(gw1)).toMatchObject({ gateway: 'gw1', epoch: 1 })
    expect(others().map(({ name }) => name)).toEqual(expect.arrayContaining(['gw2', 'gw3']))
    for (const { offset } of known()) expect(Math.abs(offset ?? Infinity)).toBeLessThan(2_000)
    expect(stateOf(gw2).fleet).toBe(stateOf(gw1).fleet)
  })

  it('refuse knocks while etcd stands still, and accept them when it goes on, by themselves', { timeout: LONG }, async () => {
    const [gw1] = fleet.gateways
    const since = gw1.daemon.lines.length
    for (const member of etcd().members) member.pause()
    try {
      await each((gateway) => refuses(gateway, /^the watch is \d+ s old/))
      const refused = { level: 50, refusal: 'ledger-unavailable', reason: expect.stringMatching(/^the watch is/) }
      expect(await knock(gw1)).toMatchObject(refused)
      const said = gw1.daemon.lines.slice(since).filter(logged('this gateway accepts no knocks'))
      expect(said.map((line) => JSON.parse(line).level)).toEqual([50])
    } finally {
      for (const member of etcd().members) member.resume()
    }
    await each(accepts)
    await gw1.daemon.line(logged('this gateway accepts knocks'), since)
    expect(stateOf(gw1).epoch).toBe(1)
  })

  it('go on with an etcd whose members were all killed and started again', { timeout: LONG }, async () => {
    await Promise.all(etcd().members.map((member) => member.kill()))
    await each((gateway) => refuses(gateway, /^the watch is \d+ s old/))
    await etcd().start()
    await each(accepts)
    const [gw1] = fleet.gateways
    expect(await knock(gw1)).toMatchObject({ msg: 'accepted' })
    expect(stateOf(gw1).epoch).toBe(1)
  })

  it('refuse knocks where their own clock is a window off the median, and accept them when it is set', {
    timeout: LONG,
  }, async () => {
    const [gw1, , gw3] = fleet.gateways
    await gw3.end()
    await gw3.start()
    await accepts(gw3)
    gw3.setClock(-60)
    await refuses(gw3, /^this clock is \d+\.\d s behind the median of 3 gateways/)
    await until(() => /gw3 \(/.test(stateOf(gw1).clocks ?? ''), 'the others say whose clock is off', NOTICED)
    expect(stateOf(gw1).link).toBeNull()
    gw3.setClock(0)
    await accepts(gw3)
  })

  it('keep what is open while etcd is gone, also one that is started then', { timeout: LONG }, async () => {
    const [gw1] = fleet.gateways
    expect(await knock(gw1)).toMatchObject({ msg: 'accepted' })
    await Promise.all(etcd().members.map((member) => member.kill()))
    await gw1.end()
    await gw1.start()
    await refuses(gw1, /^nothing has been heard of etcd yet: /)
    expect(gw1.state.leases).toMatchObject([{ address: fleet.client.ipv4 }])
    await etcd().start()
    await each(accepts)
  })

  it('refuse all knocks of an etcd that was restored, until its floor is raised by hand', { timeout: LONG }, async () => {
    const [gw1, gw2] = fleet.gateways
    const snapshot = await etcd().save()
    expect(await knock(gw1)).toMatchObject({ msg: 'accepted' })
    await etcd().restore(snapshot)
    await each((gateway) => refuses(gateway, /^etcd was restored, or begun anew/))
    expect(await knock(gw2)).toMatchObject({ refusal: 'ledger-unavailable', reason: expect.stringMatching(/^etcd was restored/) })
    expect(memoryOf(gw1)).toMatchObject({ restored: true, epoch: 1 })
    await gw2.end()
    await gw2.start()
    await refuses(gw2, /^etcd was restored, or begun anew/)
    await gw1.knockturn('fleet', 'floor')
    await each(accepts)
    for (const gateway of fleet.gateways) expect(memoryOf(gateway)).toMatchObject({ restored: false, epoch: 2 })
    // Whatever may have been sent before the floor was raised is dead.
    expect(await knock(gw1)).toMatchObject({ refusal: 'stale' })
  })

  it('raise the floor of a brand-new etcd themselves, where a clock is known to be synchronised', { timeout: LONG }, async () => {
    const [gw1] = fleet.gateways
    await gw1.end()
    const keeper = join(gw1.gate.folder, 'chronyc')
    writeFileSync(keeper, '#!/bin/sh\necho A29FC801,192.0.2.1,3,1700000000.1,0.000012,0.1,0.2,1,0,0.1,0.02,0.001,64.2,Normal\n')
    chmodSync(keeper, 0o755)
    await gw1.startBehind('env', `PATH=${gw1.gate.folder}:${process.env.PATH}`)
    await each(accepts)
    await until(() => stateOf(gw1).synchronised === true, 'the keeper of the clock is asked')
    await etcd().restore(null)
    await gw1.daemon.line(logged('etcd was restored: this gateway has raised the floor of all'), 0, NOTICED)
    await until(() => stateOf(gw1).epoch === 3, 'a later base is gone by', NOTICED)
    await each(accepts)
  })
})
