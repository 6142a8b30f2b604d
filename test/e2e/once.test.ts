import { afterAll, beforeEach, describe, expect, it } from 'vitest'
import { knock, knocked } from '../lab/knocks'
import { until } from '../lab/waiters'
import { gateOf, leave, REAL, SSH, WEB } from './conformance'
import { useGate } from './use-gate'

describe.each(REAL)('a lease for one connection, by $name', (driver) => {
  const { server, client, stranger, gate } = useGate(['client', 'stranger'], (lab) => gateOf(driver, lab))
  afterAll(leave)
  beforeEach(() => client.moveOn())

  const sees = async (family: 'ipv4' | 'ipv6' = 'ipv4', port = SSH) => (await client.connect(server[family], port)).saw
  const once = (family: 'ipv4' | 'ipv6' = 'ipv4') =>
    knocked(client, gate.daemon, gate.key, '-r', server[family], family === 'ipv4' ? '-4' : '-6', '-p', String(SSH), '--once')

  it('is made with the tools that are meant', async () => {
    const { legacy, others } = { legacy: '(legacy)', others: '(nf_tables)' }
    expect(await server.must(['iptables', '--version'])).toContain(driver.name === 'iptables-legacy' ? legacy : others)
    await once()
    const nft = (await server.must(['nft', 'list', 'ruleset'])).includes('table inet knockturn')
    expect([nft, await server.leases(client)]).toMatchObject([driver.backend === 'nftables', [{ once: true }]])
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
    const admitted = async () => (await server.must(['ss', '-Htn', 'state', 'syn-recv'])).includes(client.ipv4)
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

  it.runIf(driver.backend === 'iptables').each([
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

  // What is saved of a limit is not whether it has been used.
  it.runIf(driver.backend === 'nftables')('ends where a saved table is put back, and others stay', async () => {
    await once()
    expect(await sees()).toBe('open')
    await knocked(client, gate.daemon, gate.key, '-p', String(WEB))
    const kept = (await server.leases(client)).filter((lease) => !lease.once)
    await server.must(['sh', '-c', '(echo flush ruleset; nft list ruleset) | nft -f -'])
    await until(async () => (await server.leases(client)).length === 1, 'the lease is taken away')
    expect([await server.leases(client), await sees(), await sees('ipv4', WEB)]).toEqual([kept, 'silence', 'open'])
    await once()
    expect([await sees(), await sees()]).toEqual(['open', 'silence'])
  })

  it('is not armed again by a restart of the daemon', async () => {
    await once()
    expect(await sees()).toBe('open')
    await gate.daemon.end()
    gate.daemon = await gate.startDaemon()
    expect([await sees(), (await server.leases(client)).length]).toEqual(['silence', 1])
  })
})
