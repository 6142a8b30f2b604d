import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { logged } from '../lab/gate'
import { knock } from '../lab/knocks'
import { until } from '../lab/waiters'
import { useGate } from './use-gate'

/* Machines whose tables are not as we left them: without IPv6, with rules that only nft can read, with flows that are not tracked. */

const SSH = 22
const BIN = join(import.meta.dirname, '../../bin')

const { server, client, gate } = useGate(['client'], { backend: 'iptables', serve: [SSH] })

beforeEach(() => client.moveOn())

/** Only `install` needs the config. */
const firewall = (argv: string[], env = {}) => {
  const config = argv[0] === 'install' ? ['--config', gate.config] : []
  return server.run([join(BIN, 'knockturn'), 'firewall', ...argv, ...config], { env })
}
const check = (env = {}) => server.run([...gate.command, '--check'], { env })
const opens = async () => {
  await client.must(knock(gate, '-r', server.ipv4, '-p', String(SSH), '-t', '1m'))
  await client.becomes(server.ipv4, SSH, 'open')
}
const restart = async (env = {}) => {
  // It may have been ended before.
  await gate.daemon.end()
  gate.daemon = server.start(gate.command, { env })
  return gate.daemon.line(logged('ready'))
}
const ours = async (iptables: string) =>
  (await server.must([iptables, '-S'])).split('\n').filter((line) => line.includes('KNOCKTURN'))

describe('where ip6tables has no table', () => {
  let bin: string
  let env: { PATH: string }

  beforeAll(() => {
    bin = mkdtempSync('/run/no-ipv6-')
    chmodSync(bin, 0o755)
    for (const name of ['ip6tables', 'ip6tables-restore', 'ip6tables-save'])
      writeFileSync(
        join(bin, name),
        `#!/bin/sh\necho "${name}: can't initialize ip6tables table 'filter': Table does not exist" >&2\nexit 3\n`,
        {
          mode: 0o755,
        },
      )
    env = { PATH: `${bin}:${process.env.PATH}` }
  })
  afterAll(() => rmSync(bin, { recursive: true }))

  describe('and an interface has an IPv6 address', () => {
    it.each([['install'], ['remove']])('firewall %s changes nothing of IPv4 either', async (what) => {
      const before = await server.must(['iptables', '-S'])
      const { code, stderr } = await firewall([what], env)
      expect([code, stderr]).toEqual([1, expect.stringMatching(/^knockturn: error: ip6tables .*: ip6tables: can't initialize/)])
      expect(await server.must(['iptables', '-S'])).toBe(before)
    })

    it('the daemon does not start', async () => {
      await gate.daemon.end()
      const { code, stderr } = await server.run(gate.command, { env })
      expect([code, stderr]).toEqual([1, expect.stringContaining("can't initialize ip6tables table")])
      await restart()
    })

    it('--check says that this could not be looked at', async () => {
      const { stdout } = await check(env)
      expect(stdout).toMatch(
        /^note: cannot tell whether the services are open to everyone over IPv6: ip6tables .*can't initialize/m,
      )
    })
  })

  describe('and there is no IPv6 address', () => {
    const SYSCTL = 'net.ipv6.conf.all.disable_ipv6'
    beforeAll(() => server.must(['sysctl', '-q', '-w', `${SYSCTL}=1`]))
    afterAll(async () => {
      await server.must(['sysctl', '-q', '-w', `${SYSCTL}=0`])
      await server.addAddress(`${server.ipv6}/64`)
      await restart()
    })
    const SAYS = 'this machine has no IPv6: ip6tables is not used'

    it('firewall remove and install do their work for IPv4, and say so', async () => {
      // It would put back at once what is removed.
      await gate.daemon.end()
      for (const what of ['remove', 'install']) {
        const { code, stderr } = await firewall([what], env)
        expect([code, stderr]).toEqual([0, expect.stringContaining(`knockturn: warning: ${SAYS}`)])
        expect((await ours('iptables')).length > 0).toBe(what === 'install')
      }
    })

    it('a knock opens, and the daemon says so once', async () => {
      await restart(env)
      await opens()
      await server.must(['iptables', '-F', 'KNOCKTURN'])
      await gate.daemon.line(logged('another program changed the firewall: our rules have been restored'))
      expect(gate.daemon.lines.filter((line) => line.includes(SAYS))).toHaveLength(1)
    })

    it('--check finds no fault, and says so', async () => {
      const { code, stdout, stderr } = await check(env)
      expect([code, stderr, stdout]).toEqual([0, '', expect.stringContaining(`note: ${SAYS}`)])
    })
  })
})

describe('where nft has made a rule that iptables cannot read', () => {
  const nft = (...argv: string[]) => server.must(['nft', ...argv])
  const RULE = ['ct', 'state', 'vmap', '{ established : accept }']
  const handles = async (chain: string) =>
    [...(await nft('-a', 'list', 'chain', 'ip', 'filter', chain)).matchAll(/ct state vmap .* # handle (\d+)/g)].map(([, n]) => n)

  describe.each([
    ['in FORWARD', 'FORWARD'],
    ['in INPUT', 'INPUT'],
  ])('%s', (_, chain) => {
    const SAYS = `iptables: iptables cannot read a rule in chain ${chain}: look at it with "nft -a list chain ip filter ${chain}"`
    beforeAll(async () => {
      // The table has no FORWARD before anybody has said something of it.
      await server.must(['iptables', '-P', 'FORWARD', 'DROP'])
      await nft('add', 'rule', 'ip', 'filter', chain, ...RULE)
      expect((await server.run(['iptables', '-S'])).stderr).toContain('incompatible')
    })
    afterAll(async () => {
      for (const handle of await handles(chain)) await nft('delete', 'rule', 'ip', 'filter', chain, 'handle', handle)
    })

    it('a daemon that starts says so once, puts back what is flushed, and opens', async () => {
      await restart()
      await opens()
      await nft('flush', 'chain', 'ip', 'filter', 'KNOCKTURN')
      await gate.daemon.line(logged('another program changed the firewall: our rules have been restored'))
      await opens()
      const told = `"msg":${JSON.stringify(SAYS).slice(0, -1)}`
      expect(gate.daemon.lines.filter((line) => line.includes(told))).toHaveLength(1)
      expect(gate.daemon.lines.filter((line) => line.includes('"level":50'))).toEqual([])
    })

    it('install, show and remove do their work, leave that rule alone, and say so', async () => {
      // It would put back what is removed.
      await gate.daemon.end()
      for (const what of ['install', 'show', 'remove', 'install']) {
        const { code, stderr } = await firewall([what])
        expect([code, stderr]).toEqual([0, expect.stringContaining(SAYS)])
      }
      expect(await handles(chain)).toHaveLength(1)
      const input = await nft('list', 'chain', 'ip', 'filter', 'INPUT')
      expect(input.match(/jump KNOCKTURN$/gm)).toHaveLength(1)
      expect(input.match(/jump KNOCKTURN-AGAIN$/gm)).toHaveLength(1)
      await restart()
    })

    it('--check says so', async () => {
      expect((await check()).stdout).toContain(`note: ${SAYS}`)
    })
  })

  it('in a chain of ours, install says which, and changes nothing', async () => {
    await nft('add', 'rule', 'ip', 'filter', 'KNOCKTURN-TAPS', ...RULE)
    const before = await nft('-a', 'list', 'table', 'ip', 'filter')
    const { code, stderr } = await firewall(['install'])
    expect([code, stderr]).toEqual([1, expect.stringContaining('cannot read a rule in chain KNOCKTURN-TAPS')])
    expect(await nft('-a', 'list', 'table', 'ip', 'filter')).toBe(before)
    for (const handle of await handles('KNOCKTURN-TAPS'))
      await nft('delete', 'rule', 'ip', 'filter', 'KNOCKTURN-TAPS', 'handle', handle)
  })
})

describe('answers of a flow that is not tracked', () => {
  const FROM = 50_053
  it('reach this machine by a port of the pool', async () => {
    await client.service(53)
    // As a busy resolver is set up, and an administrator who lets its answers in.
    for (const [chain, port] of [
      ['OUTPUT', '--dport'],
      ['PREROUTING', '--sport'],
    ] as const)
      await server.must(['iptables', '-t', 'raw', '-A', chain, '-p', 'udp', port, '53', '-j', 'NOTRACK'])
    await server.must(['iptables', '-A', 'INPUT', '-p', 'udp', '--sport', '53', '-j', 'ACCEPT'])
    const asked =
      "const s=require('dgram').createSocket('udp4');s.on('message',()=>process.exit(0));" +
      `s.bind(${FROM},()=>{for(let i=0;i<5;i++)s.send('?',53,'${client.ipv4}')});setTimeout(()=>process.exit(1),5000)`
    expect((await server.run([process.execPath, '-e', asked])).code).toBe(0)
  })

  it('and a knock among them is heard', async () => {
    const since = gate.daemon.lines.length
    await client.must(knock(gate, '-r', server.ipv4, '-p', String(SSH), '--udp'))
    await gate.daemon.line(logged('accepted'), since)
    await until(async () => (await client.connect(server.ipv4, SSH)).saw === 'open', 'the door is open')
  })
})
