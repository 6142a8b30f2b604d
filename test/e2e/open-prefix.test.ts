import { beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { logged } from '../lab/gate'
import { compose, knock, verdict } from '../lab/knocks'
import { moveBehind } from './delay'
import { useGate } from './use-gate'

/* A carrier's NAT: one client whose connections come from several addresses of one block. */

const SSH = 22
const NEIGHBOUR = '203.0.114.7'

const { server, client, router, guest, gate } = useGate(['client', 'router', 'guest'], {
  serve: [SSH],
  keyOptions: ['--services', `${SSH}/tcp`, '--max', '1h', '--open-prefix', '28'],
})
let block = 0

/** The addresses of a test: those of a block that nobody has had. */
const address = (last: number) => `203.0.113.${16 * block + last}`
const address6 = (last: number) => `2001:db8:c:${block}::${last}`

beforeAll(async () => {
  await server.must(['ip', 'route', 'add', '203.0.112.0/21', 'dev', 'eth0'])
  await server.must(['ip', '-6', 'route', 'add', '2001:db8:c::/48', 'dev', 'eth0'])
  await client.addAddress(`${NEIGHBOUR}/32`)
  const since = gate.daemon.lines.length
  await server.must(['sed', '-i', 's/^open_prefix6 .*/open_prefix6 = 64/', `${gate.keys}/traveller.key`])
  await gate.daemon.line(logged('reloaded'), since)
})
beforeEach(async () => {
  block++
  for (const last of [1, 9]) {
    await client.addAddress(`${address(last)}/32`)
    await client.addAddress(`${address6(last)}/128`)
  }
})

const sees = async (from: string) => (await client.connect(server[from.includes(':') ? 'ipv6' : 'ipv4'], SSH, 500, from)).saw
/** Knocks from an address, and gives what is said of it. */
async function knocked(from: string, ...options: string[]) {
  const { touches } = await compose(client, gate.key, ...options)
  return verdict(gate.daemon, () => client.replay(touches, server[from.includes(':') ? 'ipv6' : 'ipv4'], from))
}
const open = (from: string, ...options: string[]) => knocked(from, '-p', String(SSH), '-t', '1m', ...options)

describe('a key with a prefix to open for', () => {
  it('lets another address of the block in, and none outside', async () => {
    expect(await open(address(1))).toMatchObject({ msg: 'accepted', source: address(1), address: `${address(0)}/28` })
    expect([await sees(address(1)), await sees(address(9)), await sees(NEIGHBOUR)]).toEqual(['open', 'open', 'silence'])
  })

  it('does so by IPv6', async () => {
    expect(await open(address6(1))).toMatchObject({ msg: 'accepted', address: `2001:db8:c:${block}::/64` })
    expect([await sees(address6(1)), await sees(address6(9)), await sees(NEIGHBOUR)]).toEqual(['open', 'open', 'silence'])
  })

  it('makes one lease of knocks from two addresses of the block, and closes it from either', async () => {
    const first = await open(address(1))
    expect((await open(address(9), '-t', '2m')).leases).toEqual(first.leases)
    expect(await knocked(address(9), '--close')).toMatchObject({ msg: 'accepted', leases: first.leases })
    expect([await sees(address(1)), await sees(address(9))]).toEqual(['silence', 'silence'])
  })

  it.each([
    ['IPv4', address, 'iptables'],
    ['IPv6', address6, 'ip6tables'],
  ] as const)(
    'admits one connection of the whole block with once, whatever is saved and restored (%s)',
    async (_, of, iptables) => {
      expect(await open(of(1), '--once')).toMatchObject({ msg: 'accepted', once: true })
      expect([await sees(of(9)), await sees(of(1)), await sees(of(9))]).toEqual(['open', 'silence', 'silence'])
      await server.must(['sh', '-c', `${iptables}-save | ${iptables}-restore`])
      expect([await sees(of(9)), await sees(of(1))]).toEqual(['silence', 'silence'])
    },
  )

  it('opens for the address alone where the server is in its block', async () => {
    await client.addAddress('198.51.100.12/24')
    expect(await open('198.51.100.12')).toMatchObject({ msg: 'accepted', address: '198.51.100.12' })
    expect([await sees('198.51.100.12'), await sees(client.ipv4)]).toEqual(['open', 'silence'])
  })

  it('keeps its leases over a restart of the daemon, and can close them', async () => {
    const { leases } = await open(address(1))
    await gate.daemon.end('SIGKILL')
    gate.daemon = await gate.startDaemon()
    expect(await sees(address(9))).toBe('open')
    expect(await knocked(address(9), '--close')).toMatchObject({ leases })
    expect(await sees(address(1))).toBe('silence')
  })
})

describe('a network with two ways out', () => {
  // Knocks leave by the one, and what is at the service's port by the other.
  const [ONE, OTHER] = ['203.0.112.1', '203.0.112.9']
  beforeAll(async () => {
    await moveBehind(guest, router, 0, 2)
    for (const way of [ONE, OTHER]) await router.addAddress(`${way}/32`)
    const leave = (way: string, ...what: string[]) =>
      router.must(['iptables', '-t', 'nat', '-I', 'POSTROUTING', '-o', 'eth0', ...what, '-j', 'SNAT', '--to-source', way])
    await leave(ONE)
    await leave(OTHER, '-p', 'tcp', '--dport', String(SSH))
  })

  /** Knocks until the door is open, and gives the end, and what is said of the first knock. */
  async function waited(key: string) {
    const since = gate.daemon.lines.length
    const { code } = await guest.run(knock({ key }, '-p', String(SSH), '--wait', '6'), { timeoutMs: 60_000 })
    return { code, said: JSON.parse(await gate.daemon.line(logged('accepted', { source: ONE }), since)) }
  }

  it('keeps out who has a key without a prefix, and the log has the address of the knock', async () => {
    const key = await gate.newKey('narrow', '--services', `${SSH}/tcp`)
    expect(await waited(key)).toMatchObject({ code: 3, said: { key: 'narrow', address: ONE } })
  })

  it('lets in who has a key with one', async () => {
    expect(await waited(gate.key)).toMatchObject({ code: 0, said: { address: '203.0.112.0/28' } })
  })
})
