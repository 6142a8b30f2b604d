import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { DOOR, type Fleet, type Gateway, makeFleet } from '../lab/fleet'
import { knocked } from '../lab/knocks'
import { until } from '../lab/waiters'
import { BIN } from '../root'

/* What an administrator sees of a fleet whose daemons run, and what they can't do to it: by real gateways and a real etcd of three members. */

/** Milliseconds within which gateways have heard each other, on a machine that does other things, too. */
const HEARD = 60_000

describe('an administrator of a fleet', () => {
  let fleet: Fleet
  beforeAll(async () => {
    fleet = await makeFleet({ gateways: ['gw1', 'gw2'] })
  })
  afterAll(() => fleet?.end())

  const typed = ({ host, gate }: Gateway, ...words: string[]) =>
    host.run([process.execPath, join(BIN, 'knockturn'), ...words, '--config', gate.config], {})
  const stateOf = ({ state }: Gateway) => state.fleet
  const accept = () =>
    until(
      () => fleet.gateways.every((one) => stateOf(one)?.link === null && stateOf(one).gateways[0]?.offset !== null),
      'all accept',
      HEARD,
    )
  let knocks = 0
  /** A knock that is like no other. @returns why it was refused; null: it was accepted */
  const knock = async ({ daemon, host }: Gateway) => {
    const key = join(fleet.keyring, 'user0.key')
    const asked = ['-r', host.ipv4, '-p', `${DOOR}`, '-t', `${60 + knocks++}s`]
    return (await knocked(fleet.client, daemon, key, ...asked)).refusal ?? null
  }

  it('sees all gateways speak, with the same keys, and nothing wrong', async () => {
    await accept()
    const [gw1] = fleet.gateways
    const { code, stdout } = await typed(gw1, 'fleet', 'status', '--json')
    const { faults, gateways, members, differences } = JSON.parse(stdout)
    expect([code, faults, differences]).toEqual([0, [], []])
    expect(gateways).toMatchObject(
      ['gw1', 'gw2'].map((name) => ({ name, speaks: true, skew: 1, keys: { count: 1 }, restored: false })),
    )
    expect(gateways[0].keys.digest).toBe(gateways[1].keys.digest)
    expect(members.map(({ leader, trouble }: { leader: boolean; trouble: null }) => [leader, trouble])).toEqual(
      Array(3).fill([true, null]),
    )
    expect((await typed(gw1, 'status')).stdout).toMatch(
      /^fleet +accepts knocks, since .*, as gw1; 1 of 1 other gateways speaks$/m,
    )
  })

  it('is told by doctor how the fleet stands, and that nobody can see the routing', async () => {
    const [gw1] = fleet.gateways
    const { stdout } = await typed(gw1, 'doctor', '--no-try', '--json')
    const checks: { name: string; verdict: string; evidence: string }[] = JSON.parse(stdout).checks
    const of = (wanted: string) =>
      checks.filter(({ name }) => name === wanted).map(({ verdict, evidence }) => `${verdict}: ${evidence}`)
    expect(of('fleet files')).toEqual([expect.stringMatching(/^ok: gateway "gw1" has joined fleet /)])
    expect(of('fleet')).toEqual([
      expect.stringMatching(/^(ok: 2 gateways speak and have the same keys; 3 members|note: no gateway knows its clock)/),
    ])
    expect(of('routing')).toEqual([expect.stringMatching(/^note: a datagram comes to one gateway/)])
  })

  it('cannot take out a gateway that runs, from there or from elsewhere, nor join under its name', async () => {
    const [gw1, gw2] = fleet.gateways
    const first = async (gateway: Gateway, ...words: string[]) => (await typed(gateway, 'fleet', ...words)).stderr.split('\n')[0]
    expect(await first(gw1, 'leave')).toBe('knockturn: error: the daemon of this gateway runs')
    expect(await first(gw1, 'leave', 'gw2')).toBe('knockturn: error: a gateway that runs now is called "gw2"')
    expect(await first(gw2, 'join')).toMatch(/this gateway has joined fleet [0-9a-f]{16} already, as "gw2"$/)
    // Another machine with the config of the first, and without its memory.
    const folder = fleet.lab.folder()
    const text = readFileSync(gw1.gate.config, 'utf8').replace(/^path = .*$/m, `path = "${folder}/ledger"`)
    writeFileSync(join(folder, 'knockturn.toml'), text)
    const copy = ['fleet', 'join', '--config', join(folder, 'knockturn.toml')]
    const { stderr } = await gw2.host.run([process.execPath, join(BIN, 'knockturn'), ...copy], {})
    expect(stderr).toContain('a gateway that runs now is called "gw1"')
    await accept()
  })

  it('raises the base by floor: at all gateways knocks of now are stale, and later ones open', {
    timeout: 240_000,
  }, async () => {
    const [gw1, gw2] = fleet.gateways
    const { code, stdout, stderr } = await typed(gw1, 'fleet', 'floor')
    expect([code, stderr]).toEqual([0, ''])
    expect(stdout).toMatch(/^the base of the fleet is now 2.* nothing sent before the next minute or so opens$/m)
    await until(
      () => fleet.gateways.every((one) => stateOf(one)?.epoch === 2 && stateOf(one).link === null),
      'all have the later base',
      HEARD,
    )
    expect(await knock(gw2)).toBe('stale')
    // Not so often that the log leaves some out.
    const opens = () => sleep(3_000).then(async () => (await knock(gw2)) === null)
    await until(opens, 'a knock opens', HEARD)
  })

  it('sees that a gateway is dead, takes it out, and has it join again', { timeout: 240_000 }, async () => {
    const [gw1, gw2] = fleet.gateways
    await gw2.end()
    const { code, stderr } = await typed(gw1, 'fleet', 'status')
    expect([code, stderr.split('\n')[0]]).toEqual([1, 'knockturn: error: gateway "gw2" does not speak'])
    expect((await typed(gw2, 'fleet', 'leave')).stdout).toMatch(/^gateway "gw2" has left the fleet; there are left: gw1$/m)
    expect((await typed(gw1, 'fleet', 'status')).code).toBe(0)
    expect((await typed(gw2, 'fleet', 'join')).code).toBe(0)
    await gw2.start()
    await accept()
  })
})
