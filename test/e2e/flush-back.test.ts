import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { logged } from '../lab/gate'
import { knocked } from '../lab/knocks'
import type { Child } from '../lab/processes'
import { until } from '../lab/waiters'
import { gateOf, leave, REAL, SSH } from './conformance'
import { useGate } from './use-gate'

/* A firewall that another program flushes while a stranger tries the door. The figures are for whoever reads them: a busy machine has others. */

/** Tries a second of a stranger who waits for the door to open, and for how many milliseconds each waits. */
const TRIES = 500
const TRY = 200

const TABLE = ['inet', 'knockturn']

describe.each(REAL)('$name that is flushed', (driver) => {
  const { name, backend } = driver
  const { server, client, stranger, gate } = useGate(['client', 'stranger'], (lab) => gateOf(driver, lab))
  let daemon: Child
  beforeAll(() => {
    daemon = gate.daemon
  })
  afterAll(leave)
  beforeEach(() => client.moveOn())

  const sees = async (port = SSH) => (await client.connect(server.ipv4, port)).saw
  const open = (...options: string[]) => knocked(client, daemon, gate.key, '-t', '1h', ...options)

  const isThere = async (argv: string[], what: string) => (await server.run(argv)).stdout.includes(what)
  const [table, base] = backend === 'iptables with a guard' ? ['mangle', 'PREROUTING'] : ['filter', 'INPUT']
  const iptables = (chain: string) => ['iptables', '-w', '-t', table as string, '-S', chain]
  const areRulesBack = () =>
    backend === 'nftables'
      ? isThere(['nft', 'list', 'chain', ...TABLE, 'gate'], 'drop')
      : isThere(iptables(base as string), '-j KNOCKTURN')
  const isLeaseBack = () =>
    backend === 'nftables'
      ? isThere(['nft', 'list', 'set', ...TABLE, 'open4_32'], client.ipv4)
      : isThere(iptables('KNOCKTURN-LEASES'), client.ipv4)

  /** A stranger who tries the door all the time. @returns what ends that, and gives how many tries there were, and how many got in */
  const hammer = () => {
    const tries: Promise<{ saw: string }>[] = []
    let isOver = false
    const began = performance.now()
    const trying = (async () => {
      while (!isOver) {
        while (tries.length < ((performance.now() - began) * TRIES) / 1_000) tries.push(stranger.connect(server.ipv4, SSH, TRY))
        await sleep(2)
      }
    })()
    return {
      count: () => tries.length,
      async end() {
        isOver = true
        await trying
        const seen = await Promise.all(tries)
        return { tries: seen.length, got: seen.flatMap(({ saw }, i) => (saw === 'open' ? i : [])) }
      },
    }
  }

  it('shuts again to the stranger who tries all the time, and opens again to who has knocked', async () => {
    await open('-p', String(SSH))
    const since = daemon.lines.length
    const stranger = hammer()
    await until(() => stranger.count() > TRIES / 2, 'the stranger is trying')
    await driver.flush(server)
    const rules = await until(areRulesBack, 'the rules are back')
    const leases = await until(isLeaseBack, 'the lease is back')
    const back = stranger.count()
    await until(() => stranger.count() > back + TRIES, 'the stranger has gone on trying')
    const { tries, got } = await stranger.end()
    console.log(
      `${name}: rules back in ${Math.round(rules)} ms, leases in ${Math.round(leases)} ms more, ${got.length} of ${tries} tries (${TRIES} a second) got in`,
    )
    expect(got.filter((i) => i > back)).toEqual([])
    expect(await sees()).toBe('open')
    await daemon.line(logged('another program changed the firewall: our rules have been restored'), since)
  })

  it.each(['used', 'unused'])('puts no lease back that is for one connection (%s)', async (was) => {
    await open('-p', String(SSH), '--once')
    if (was === 'used') expect(await sees()).toBe('open')
    const since = daemon.lines.length
    await driver.flush(server)
    await daemon.line(logged('closed', { reason: 'another program removed its rule' }), since)
    await until(areRulesBack, 'the rules are back')
    expect(await sees()).toBe('silence')
  })

  const monitors = async () => {
    const found = await server.run(['pgrep', '-x', '-f', 'nft monitor'])
    const pids = await server.processes()
    return found.stdout.split('\n').flatMap((pid) => (pids.includes(Number(pid)) ? Number(pid) : []))
  }
  const monitor = () => until(async () => (await monitors()).length === 1, 'nft monitor runs')

  if (name !== 'iptables-legacy') {
    it('is followed again when nft has been killed', async () => {
      await monitor()
      const [before = 0] = await monitors()
      const since = daemon.lines.length
      process.kill(before, 'SIGKILL')
      await daemon.line((line) => line.includes('nft exited, restarting: killed by SIGKILL'), since)
      await daemon.line((line) => line.includes('nft restarted'), since)
      const after = await monitors()
      expect([after.length, after.includes(before)]).toEqual([1, false])
      await open('-p', String(SSH))
      await driver.flush(server)
      await until(isLeaseBack, 'the lease is back')
      expect(await sees()).toBe('open')
    })

    it.each(['SIGTERM', 'SIGKILL'] as const)('is followed no longer when the daemon has had %s', async (signal) => {
      await monitor()
      await daemon.end(signal)
      await until(async () => (await monitors()).length === 0, 'nft monitor has ended')
      daemon = await gate.startDaemon()
    })
  }

  if (backend === 'nftables') {
    describe('in part', () => {
      const rules = () => server.must(['nft', '-s', '-t', 'list', 'table', ...TABLE])
      const handle = async (chain: string) =>
        /# handle (\d+)$/m.exec(
          (await server.must(['nft', '-a', 'list', 'chain', ...TABLE, chain])).replace(/^.*\{.*$/gm, ''),
        )?.[1]
      afterEach(() => knocked(client, daemon, gate.key, '--close'))

      it.each([
        ['used', 'the list of leases', 'flush set inet knockturn leases4'],
        ['unused', 'the list of leases', 'flush set inet knockturn leases4'],
        ['used', 'its limit', 'flush map inet knockturn once4_32_0; delete limit inet knockturn once_ID'],
      ])('loses a lease for one connection (%s) with %s, and the next knock opens', async (was, _, change) => {
        const { leases } = await open('-p', String(SSH), '--once')
        if (was === 'used') expect(await sees()).toBe('open')
        const since = daemon.lines.length
        await server.must(['nft', change.replace('ID', `${leases[0]}`)])
        await daemon.line(logged('closed', { reason: 'another program removed its rule' }), since)
        await until(async () => (await sees()) === 'silence', 'the door is shut')
        expect(await open('-p', String(SSH), '--once')).toMatchObject({ msg: 'accepted' })
        expect([await sees(), await sees()]).toEqual(['open', 'silence'])
      })

      it('keeps a lease for one connection that has been used', async () => {
        await open('-p', String(SSH), '--once')
        expect(await sees()).toBe('open')
        await server.must(['nft', 'flush', 'map', ...TABLE, 'once4_32_0'])
        await until(() => isThere(['nft', 'list', 'map', ...TABLE, 'once4_32_0'], client.ipv4), 'it is back')
        expect(await sees()).toBe('silence')
      })

      it.each([
        ['one rule', async () => ['delete', 'rule', ...TABLE, 'gate', 'handle', `${await handle('gate')}`]],
        ['the rules of the gate', async () => ['flush', 'chain', ...TABLE, 'gate']],
        ['the rules of leases', async () => ['flush', 'chain', ...TABLE, 'open']],
        ['all rules', async () => ['flush', 'table', ...TABLE]],
        ['what packets meet', async () => ['flush', 'set', ...TABLE, 'open4_32']],
        ['the list of leases', async () => ['flush', 'set', ...TABLE, 'leases4']],
        ['one lease', async () => ['delete', 'element', ...TABLE, 'open4_32', `{ ${client.ipv4} . tcp . ${SSH} }`]],
        ['nothing, but adds a rule', async () => ['insert', 'rule', ...TABLE, 'gate', 'accept']],
      ])('has it back: %s', async (_, change) => {
        await open('-p', String(SSH))
        const before = await rules()
        const since = daemon.lines.length
        await server.must(['nft', ...(await change())])
        await until(async () => (await rules()) === before, 'the rules are as they were')
        await until(isLeaseBack, 'the lease is back')
        expect([await sees(), (await stranger.connect(server.ipv4, SSH)).saw]).toEqual(['open', 'silence'])
        expect(daemon.lines.slice(since).filter(logged('closed'))).toEqual([])
      })
    })
  }
})
