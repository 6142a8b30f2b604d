import { join } from 'node:path'
import { beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { usualBackend } from '../lab/backend'
import { GUARD } from '../lab/gate'
import type { Host } from '../lab/host'
import { knocked } from '../lab/knocks'
import { until } from '../lab/waiters'
import { writePcap } from '../replay/packets'
import { useGate } from './use-gate'

/* A connection that a lease has let in, begun once more by its port when the lease is over: conntrack may take it for the old one. */

const SSH = 22
const ACK = 0x10

/** With the usual rules, and with the guard where those have none. */
const GATES = [
  { by: 'the usual rules', options: {}, isGuarded: usualBackend() === 'nftables' },
  ...(usualBackend() === 'iptables' ? [{ by: 'a guard of iptables', options: { guard: GUARD }, isGuarded: true }] : []),
]

describe.each(GATES)('by $by:', ({ options, isGuarded }) => {
  const { server, client, gate, lab } = useGate(['client'], { serve: [SSH], ...options })
  let macs: { from: string; to: string }
  let port = 41_000

  beforeAll(async () => {
    const mac = async (host: Host) => (await host.must(['cat', '/sys/class/net/eth0/address'])).trim()
    macs = { from: await mac(client), to: await mac(server) }
  })
  beforeEach(async () => {
    await client.moveOn()
    port++
  })

  type Family = 'ipv4' | 'ipv6'
  const FLAG = { ipv4: '-4', ipv6: '-6' }
  const open = (family: Family, ...options: string[]) =>
    knocked(client, gate.daemon, gate.key, '-r', server[family], FLAG[family], '-p', String(SSH), '-t', '1m', ...options)
  const close = (family: Family) => knocked(client, gate.daemon, gate.key, '-r', server[family], FLAG[family], '--close')
  const again = (family: Family) => client.connect(server[family], SSH, 3_000, undefined, port)

  /** Holds a connection by our port, and gives what its client would send next. */
  async function connected(family: Family) {
    const wire = await lab.wire.capture('server', 128, `tcp port ${port}`)
    const connection = await client.hold(server[family], SSH, undefined, port)
    const packets = async () => (await lab.wire.must(['tcpdump', '-nn', '-S', '-r', wire.file])).split('\n')
    /** The greeting that the server has sent tells where both are. */
    const last = async () => (await packets()).flatMap((line) => /seq (\d+):(\d+), ack (\d+)/.exec(line) ?? []).map(Number)
    await until(async () => (await last()).length > 0, 'the greeting is on the wire')
    const [, , ack, seq] = await last()
    await wire.end()
    return { connection, next: { seq: seq as number, ack: ack as number } }
  }

  /** RST, a stray ACK, and a SYN, all by the port of the connection that was. */
  async function trick(family: Family, { connection, next }: Awaited<ReturnType<typeof connected>>) {
    await connection.reset()
    const file = writePcap(
      join(lab.folder(), 'ack.pcap'),
      [{ source: client[family], port: SSH, from: port, flags: ACK, ...next }],
      {
        ...macs,
        destination: server.ipv4,
        destination6: server.ipv6,
      },
    )
    await client.must(['tcpreplay', '-q', '-i', 'eth0', file])
    return (await again(family)).saw
  }

  describe.each<Family>(['ipv4', 'ipv6'])('by %s, a RST, a stray ACK and a SYN by the same port', (family) => {
    it('open nothing when the lease is closed', async () => {
      await open(family)
      const held = await connected(family)
      await close(family)
      expect(await trick(family, held)).toBe('silence')
    })

    it('open nothing by a lease for one connection', async () => {
      await open(family, '--once')
      expect(await trick(family, await connected(family))).toBe('silence')
    })

    it('open nothing when the lease has ended by itself, with the daemon dead', async () => {
      await open(family, '-t', '3s')
      const held = await connected(family)
      await gate.daemon.end('SIGKILL')
      await new Promise((resolve) => setTimeout(resolve, 5_000))
      const saw = await trick(family, held)
      gate.daemon = await gate.startDaemon()
      expect(saw).toBe('silence')
    })

    it('open as any other connection while the lease is in force', async () => {
      await open(family)
      expect(await trick(family, await connected(family))).toBe('open')
    })

    // Where the administrator's own rules shut the port.
    it.runIf(!isGuarded)(
      'open nothing though another program has put a rule of its own in front that accepts established connections',
      async () => {
        const iptables = family === 'ipv4' ? 'iptables' : 'ip6tables'
        const own = ['INPUT', '-m', 'conntrack', '--ctstate', 'RELATED,ESTABLISHED', '-j', 'ACCEPT']
        await server.must([iptables, '-I', ...own])
        await until(
          async () => (await server.must([iptables, '-S', 'INPUT'])).split('\n')[1]?.endsWith(' -j KNOCKTURN-AGAIN') ?? false,
          'ours is in front again',
        )
        await open(family)
        const held = await connected(family)
        await close(family)
        expect(await trick(family, held)).toBe('silence')
        await server.must([iptables, '-D', ...own])
      },
    )

    it.runIf(!isGuarded)('go on to the rules of who has one of their own for that address', async () => {
      const [iptables, own] = [family === 'ipv4' ? 'iptables' : 'ip6tables', ['INPUT', '-s', client[family], '-j', 'ACCEPT']]
      await server.must([iptables, '-A', ...own])
      // Nothing of it was let in by a lease.
      expect(await trick(family, await connected(family))).toBe('open')
      await server.must([iptables, '-D', ...own])
    })
  })

  describe('a connection by a lease in force', () => {
    it('stands though the first answer is lost, and its SYN comes twice', async () => {
      const lost = ['PREROUTING', '-i', 'eth0', '-p', 'tcp', '--sport', String(SSH), '-j', 'DROP']
      await open('ipv4')
      await client.must(['iptables', '-t', 'raw', '-A', ...lost])
      const answer = client.connect(server.ipv4, SSH, 30_000)
      await new Promise((resolve) => setTimeout(resolve, 1_500))
      await client.must(['iptables', '-t', 'raw', '-D', ...lost])
      expect((await answer).saw).toBe('open')
    })

    it('can be made again by the same port when its client has crashed', async () => {
      await open('ipv4')
      const { connection } = await connected('ipv4')
      // Nobody tells the server: the client's packets are lost as it goes down.
      const lost = ['OUTPUT', '-p', 'tcp', '--dport', String(SSH), '-j', 'DROP']
      await client.must(['iptables', '-A', ...lost])
      await connection.reset()
      await client.must(['iptables', '-D', ...lost])
      expect((await client.connect(server.ipv4, SSH, 10_000, undefined, port)).saw).toBe('open')
    })

    it('lives on when the lease is closed, and nothing new does', async () => {
      await open('ipv4')
      const { connection } = await connected('ipv4')
      await close('ipv4')
      expect([await connection.isAlive(), (await client.connect(server.ipv4, SSH)).saw]).toEqual([true, 'silence'])
    })
  })
})
