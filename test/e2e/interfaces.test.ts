import { beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { logged } from '../lab/gate'
import type { Host } from '../lab/host'
import { knock } from '../lab/knocks'
import { useGate } from './use-gate'

/* Interfaces come and go, and addresses and routes change, while a daemon runs: what is guarded stays shut, and a knock opens it. */

const SSH = 22
/** Another network on the same wire, which the server's second interface is in. */
const OTHER = (host: number) => `203.0.113.${host}`
const ANOTHER = (host: number) => `192.0.2.${host}`

describe.each(['nftables', 'iptables'] as const)('the guard of %s and its daemon, while', (backend) => {
  const { lab, server, client, stranger, gate } = useGate(['client', 'stranger'], {
    backend,
    guard: [`${SSH}/tcp`],
    serve: [SSH],
  })
  const ip = (...argv: string[]) => server.must(['ip', ...argv])
  let clients = 2

  beforeEach(async () => {
    // The client has another address each time: what it has opened before is nobody's business.
    for (const [host, address] of [
      [client, ++clients],
      [stranger, 99],
    ] as const) {
      await host.moveOn()
      for (const net of [OTHER, ANOTHER]) await host.addAddress(`${net(address)}/24`)
    }
  })

  /** Makes the server's second interface. */
  async function plugIn(name = 'eth1') {
    await lab.wire.must(['ip', 'link', 'add', 'extra', 'type', 'veth', 'peer', 'name', name, 'netns', server.namespace])
    await lab.wire.must(['ip', 'link', 'set', 'extra', 'master', 'switch', 'up'])
    await ip('link', 'set', name, 'up')
    await ip('address', 'add', `${OTHER(1)}/24`, 'dev', name)
  }
  const sees = async (host: Host, address: string) => (await host.connect(address, SSH)).saw
  /** Whether the port at an address is shut to a stranger, and opens to the client alone by a knock there. */
  async function holds(address: string) {
    const before = [await sees(client, address), await sees(stranger, address)]
    const since = gate.daemon.lines.length
    await client.must(knock(gate, '-r', address, '-p', `${SSH}`))
    // By which of its addresses it goes is the client's business.
    await gate.daemon.line(logged('accepted'), since)
    return [...before, await sees(client, address), await sees(stranger, address)]
  }
  const WELL = ['silence', 'silence', 'open', 'silence']

  it('an interface is added', async () => {
    await plugIn()
    expect(await holds(OTHER(1))).toEqual(WELL)
  })

  it('it gets another address, and an old one goes', async () => {
    await ip('address', 'add', `${ANOTHER(1)}/24`, 'dev', 'eth1')
    await ip('address', 'delete', `${OTHER(1)}/24`, 'dev', 'eth1')
    expect(await holds(ANOTHER(1))).toEqual(WELL)
  })

  it('it is renamed', async () => {
    await ip('link', 'set', 'eth1', 'down')
    await ip('link', 'set', 'eth1', 'name', 'wan0')
    await ip('link', 'set', 'wan0', 'up')
    expect(await holds(ANOTHER(1))).toEqual(WELL)
  })

  it('it is removed, and another one comes in its place', async () => {
    await ip('link', 'delete', 'wan0')
    expect(await holds(server.ipv4)).toEqual(WELL)
    await plugIn('wan0')
    expect(await holds(OTHER(1))).toEqual(WELL)
  })

  it('the default route changes, and goes', async () => {
    await ip('route', 'add', 'default', 'via', client.ipv4)
    expect(await holds(server.ipv4)).toEqual(WELL)
    await client.moveOn()
    await ip('route', 'replace', 'default', 'via', OTHER(99), 'dev', 'wan0')
    expect(await holds(server.ipv4)).toEqual(WELL)
    await client.moveOn()
    await ip('route', 'delete', 'default')
    expect(await holds(server.ipv4)).toEqual(WELL)
  })

  it('the machine’s own address changes, by IPv4 and by IPv6', async () => {
    await server.moveOn()
    expect(await holds(server.ipv4)).toEqual(WELL)
    await client.moveOn()
    expect(await holds(server.ipv6)).toEqual(WELL)
  })

  it('and it is the same daemon, to which nothing of it was worth a word', () => {
    const said = gate.daemon.lines.filter((line) => line.includes('another program') || line.includes('exited'))
    expect([said, gate.daemon.child.exitCode]).toEqual([[], null])
  })

  describe('a daemon that starts before any interface is up', () => {
    beforeAll(async () => {
      await gate.daemon.end()
      for (const name of ['wan0', 'eth0', 'lo']) await ip('link', 'set', name, 'down')
      await gate.knockturn('firewall', 'install', '--unattended', '--config', gate.config)
      gate.daemon = await gate.startDaemon()
      for (const name of ['lo', 'eth0', 'wan0']) await ip('link', 'set', name, 'up')
      // IPv6 has forgotten its address.
      await server.moveOn()
    })

    it.each(['ipv4', 'ipv6'] as const)('hears and holds when they are, by %s', async (version) => {
      expect(await holds(server[version])).toEqual(WELL)
    })
  })
})
