import { afterAll, beforeEach, describe, expect, it } from 'vitest'
import { knock, knocked } from '../lab/knocks'
import { until } from '../lab/waiters'
import { legacyTools } from './conformance'
import { useGate } from './use-gate'

const SSH = 22
const WEB = 443
const PATH = process.env.PATH ?? ''

describe.each([
  ['nf_tables', async () => ''],
  ['legacy', legacyTools],
] as const)('a lease for one connection, by iptables (%s)', (backend, toolsOf) => {
  const { server, client, stranger, gate } = useGate(['client', 'stranger'], async (lab) => {
    process.env.PATH = [await toolsOf(lab), PATH].filter(Boolean).join(':')
    // The old one wants more than our unit gives: a lock file in /run, and raw sockets.
    return { serve: [SSH, WEB], allowRoot: backend === 'legacy' }
  })
  afterAll(() => {
    process.env.PATH = PATH
  })
  beforeEach(() => client.moveOn())

  const sees = async (family: 'ipv4' | 'ipv6' = 'ipv4', port = SSH) => (await client.connect(server[family], port)).saw
  const once = (family: 'ipv4' | 'ipv6' = 'ipv4') =>
    knocked(client, gate.daemon, gate.key, '-r', server[family], family === 'ipv4' ? '-4' : '-6', '-p', String(SSH), '--once')

  it('is made with the iptables that is meant', async () => {
    expect(await server.must(['iptables', '--version'])).toContain(`(${backend})`)
  })

  it.each(['ipv4', 'ipv6'] as const)('admits one connection and no second, and the first lives on (%s)', async (family) => {
    await once(family)
    const first = await client.hold(server[family], SSH)
    expect([await sees(family), await first.isAlive()]).toEqual(['silence', true])
    await first.end()
    expect(await sees(family)).toBe('silence')
  })

  it('is for who knocked', async () => {
    await once()
    expect([(await stranger.connect(server.ipv4, SSH)).saw, await sees()]).toEqual(['silence', 'open'])
  })

  it('admits one more connection for one more knock', async () => {
    await once()
    expect([await sees(), await sees()]).toEqual(['open', 'silence'])
    await once()
    expect([await sees(), await sees()]).toEqual(['open', 'silence'])
  })

  it('is not used up by a connection whose answer is lost at first', async () => {
    const lost = ['PREROUTING', '-i', 'eth0', '-p', 'tcp', '--sport', String(SSH), '-j', 'DROP']
    const admitted = async () => {
      const rules = await server.must(['iptables', '-nvL', 'KNOCKTURN-LEASES'])
      return rules.split('\n').some((line) => line.includes(client.ipv4) && /^ +1 /.test(line))
    }
    await once()
    await client.must(['iptables', '-t', 'raw', '-A', ...lost])
    const answer = client.connect(server.ipv4, SSH, 30_000)
    await until(admitted, 'the connection is admitted')
    await client.must(['iptables', '-t', 'raw', '-D', ...lost])
    expect((await answer).saw).toBe('open')
  })

  it('is not armed again by the second pass of its knock', async () => {
    await client.must(knock(gate, '-p', String(SSH), '--once'))
    expect([await sees(), await sees()]).toEqual(['open', 'silence'])
  })

  it('is not armed again by leases that are opened and closed', async () => {
    await once()
    expect(await sees()).toBe('open')
    await knocked(stranger, gate.daemon, gate.key, '-p', String(SSH))
    expect(await sees()).toBe('silence')
    await knocked(stranger, gate.daemon, gate.key, '--close')
    expect(await sees()).toBe('silence')
    await knocked(client, gate.daemon, gate.key, '-p', String(WEB))
    expect([await sees(), await sees('ipv4', WEB)]).toEqual(['silence', 'open'])
  })

  it.each([
    ['ipv4', 'iptables-save | iptables-restore'],
    ['ipv6', 'ip6tables-save | ip6tables-restore'],
  ] as const)('is not armed again by saving and restoring the rules (%s)', async (family, command) => {
    await once(family)
    expect(await sees(family)).toBe('open')
    const before = await server.leases(client)
    await server.must(['sh', '-c', command])
    expect(await server.leases(client)).toEqual(before)
    expect(await sees(family)).toBe('silence')
  })

  it('is not armed again by a restart of the daemon', async () => {
    await once()
    expect(await sees()).toBe('open')
    await gate.daemon.end()
    gate.daemon = await gate.startDaemon()
    expect([await sees(), (await server.leases(client)).length]).toEqual(['silence', 1])
  })
})
