import { join } from 'node:path'
import { beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { Host } from '../lab/host'
import { knocked } from '../lab/knocks'
import { until } from '../lab/waiters'
import { writePcap } from '../replay/packets'
import { BIN } from '../root'
import { byPort } from './by-port'
import { useGate } from './use-gate'

/* What the guard shuts, whoever publishes it, and what it spares. */

const SSH = 22
const WEB = 443
const OTHER = 8_022
const DNS = 5_353
/** The port that a container publishes, and its own. */
const PUBLISHED = 8_080
const INNER = 80
const ACK = 0x10
/** Milliseconds within which an answer would come. */
const ANSWER = 700
const NETWORK = '172.17.0'
const NETWORK6 = 'fd00:17:'
/** A network behind an interface that is spared. */
const SPARED = '192.0.2'
const SERVICES = `${SSH}/tcp,${PUBLISHED}/tcp,${DNS}/udp`

describe.each(['iptables', 'nftables'] as const)('by %s, with all ports guarded but some,', (backend) => {
  const { server, client, stranger, gate, lab } = useGate(['client', 'stranger', 'near'], {
    serve: [SSH, WEB, OTHER, DNS],
    backend,
    guard: 'all',
    firewall: `public = ["${WEB}/tcp"]\nguard_except = ["spare*", "198.51.100.4", "2001:db8:7::4"]`,
    keyOptions: ['--services', SERVICES, '--max', '1h'],
  })
  let box: Host

  beforeAll(async () => {
    box = await publish()
  })
  beforeEach(() => client.moveOn())

  /** A container behind DNAT, as Docker makes it. */
  async function publish(): Promise<Host> {
    await server.must(['ip', 'link', 'add', 'docker0', 'type', 'bridge'])
    await server.must(['ip', 'address', 'add', `${NETWORK}.1/16`, 'dev', 'docker0'])
    await server.must(['ip', 'address', 'add', `${NETWORK6}:1/64`, 'dev', 'docker0', 'nodad'])
    const made = await behind('box', 'vbox', `${NETWORK}.2/16`, `${NETWORK6}:2/64`)
    await server.must(['ip', 'link', 'set', 'vbox', 'master', 'docker0'])
    await server.must(['ip', 'link', 'set', 'docker0', 'up'])
    await made.must(['ip', 'route', 'add', 'default', 'via', `${NETWORK}.1`])
    await made.must(['ip', '-6', 'route', 'add', 'default', 'via', `${NETWORK6}:1`])
    await server.must(['sysctl', '-qw', 'net.ipv4.ip_forward=1', 'net.ipv6.conf.all.forwarding=1'])
    const nat = ['iptables', '-t', 'nat', '-A']
    const to = `${NETWORK}.2:${INNER}`
    await server.must([...nat, 'PREROUTING', '-p', 'tcp', '--dport', `${PUBLISHED}`, '-j', 'DNAT', '--to-destination', to])
    await server.must([...nat, 'POSTROUTING', '-s', `${NETWORK}.0/16`, '!', '-o', 'docker0', '-j', 'MASQUERADE'])
    await made.service(INNER)
    return made
  }

  /** A host at the end of a cable of its own, which is called so in the server. */
  async function behind(name: string, cable: string, ...addresses: string[]): Promise<Host> {
    const made = new Host(lab, name, 9)
    await made.makeNamespace()
    await server.must(['ip', 'link', 'add', cable, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', made.namespace])
    await server.must(['ip', 'link', 'set', cable, 'up'])
    for (const device of ['lo', 'eth0']) await made.must(['ip', 'link', 'set', device, 'up'])
    for (const address of addresses) await made.addAddress(address)
    await made.startAgent()
    return made
  }

  /** What comes back for a datagram to all that are on the link. */
  async function toAll() {
    const script =
      "const s=require('dgram').createSocket('udp4');s.on('message',()=>process.exit(0));" +
      `s.bind(0,()=>{s.setBroadcast(true);s.send('?',${DNS},'198.51.100.255')});` +
      `setTimeout(()=>process.exit(7),${ANSWER})`
    return (await client.run([process.execPath, '-e', script])).code === 0 ? 'open' : 'silence'
  }

  const open = (port: number, ...options: string[]) =>
    knocked(client, gate.daemon, gate.key, '-p', String(port), '-r', server.ipv4, '-4', ...options)
  const openAndHold = async () => {
    await open(SSH)
    return client.hold(server.ipv4, SSH)
  }
  let port = 41_000
  /** What comes back for an ACK that belongs to no connection. */
  async function strayAck() {
    const mac = async (host: Host) => (await host.must(['cat', '/sys/class/net/eth0/address'])).trim()
    const wire = await stranger.capture('eth0', 128, `src port ${SSH} and tcp[tcpflags] & tcp-rst != 0`)
    const file = writePcap(
      join(lab.folder(), 'ack.pcap'),
      [{ source: stranger.ipv4, port: SSH, from: ++port, flags: ACK, seq: 1_000, ack: 1_000 }],
      { from: await mac(stranger), to: await mac(server), destination: server.ipv4, destination6: server.ipv6 },
    )
    await stranger.must(['tcpreplay', '-q', '-i', 'eth0', file])
    const answers = async () => (await stranger.must(['tcpdump', '-nn', '-r', wire.file])).split('\n').filter(Boolean).length
    const saw = await until(async () => (await answers()) > 0, 'an answer', ANSWER).then(
      () => 'refused',
      () => 'silence',
    )
    await wire.end()
    return saw
  }
  const sees = async (host: Host, port: number, address = server.ipv4) => (await host.connect(address, port)).saw

  it.each(['ipv4', 'ipv6'] as const)('a new listener is shut, what is public is open, over %s', async (family) => {
    const seen = await Promise.all([SSH, WEB, OTHER].map((port) => sees(client, port, server[family])))
    expect(seen).toEqual(['silence', 'open', 'silence'])
    expect((await client.echo(server[family], DNS)).saw).toBe('silence')
  })

  it.each(['ipv4', 'ipv6'] as const)('an address that is spared needs no knock, over %s', async (family) => {
    const near = lab.hosts.near as Host
    expect(await sees(near, SSH, server[family])).toBe('open')
    expect((await near.echo(server[family], DNS)).saw).toBe('open')
  })

  it('a published port of a container is shut, and a knock opens just it, to the asked address only, until its end', async () => {
    expect([await sees(client, PUBLISHED), await sees(stranger, PUBLISHED)]).toEqual(['silence', 'silence'])
    await open(PUBLISHED)
    expect([await sees(client, PUBLISHED), await sees(stranger, PUBLISHED)]).toEqual(['open', 'silence'])
    expect([await sees(client, SSH), await sees(client, OTHER)]).toEqual(['silence', 'silence'])
    await knocked(client, gate.daemon, gate.key, '-p', String(PUBLISHED), '-r', server.ipv4, '-4', '--close')
    expect(await sees(client, PUBLISHED)).toBe('silence')
  })

  it('the network of containers is shut to a host on the link that routes to it', async () => {
    await client.must(['ip', 'route', 'add', `${NETWORK}.0/16`, 'via', server.ipv4])
    await until(async () => (await sees(client, INNER, `${NETWORK}.2`)) === 'silence', 'the daemon has seen the bridge')
    await open(PUBLISHED)
    expect(await sees(client, INNER, `${NETWORK}.2`)).toBe('silence')
    expect(await sees(client, PUBLISHED)).toBe('open')
  })

  it.each(['ipv4', 'ipv6'] as const)('that network is shut by TCP and UDP, over %s', async (family) => {
    const [network, inner] = family === 'ipv4' ? [`${NETWORK}.0/16`, `${NETWORK}.2`] : [`${NETWORK6}:/64`, `${NETWORK6}:2`]
    await client.must(['ip', 'route', 'replace', network, 'via', server[family]])
    await until(async () => (await sees(client, INNER, inner)) === 'silence', 'the daemon has seen the bridge')
    expect((await client.echo(inner, INNER)).saw).toBe('silence')
    // Nor does it help to be spared elsewhere.
    const near = lab.hosts.near as Host
    await near.must(['ip', 'route', 'replace', network, 'via', server[family]])
    expect(await sees(near, INNER, inner)).toBe('silence')
    // From the host itself both are open.
    expect([await sees(server, INNER, inner), (await server.echo(inner, INNER)).saw]).toEqual(['open', 'open'])
  })

  it('a container reaches what is public of the host by its bridge, and nothing else', async () => {
    for (const address of [`${NETWORK}.1`, `${NETWORK6}:1`])
      expect([await sees(box, WEB, address), await sees(box, SSH, address)]).toEqual(['open', 'silence'])
  })

  it('an interface that is spared needs no knock, and another does', async () => {
    await server.must(['ip', 'link', 'delete', 'spare7']).catch(() => {})
    const peer = await behind('peer', 'spare7', `${SPARED}.2/24`)
    await server.must(['ip', 'address', 'add', `${SPARED}.1/24`, 'dev', 'spare7'])
    expect([await sees(peer, SSH, `${SPARED}.1`), (await peer.echo(`${SPARED}.1`, DNS)).saw]).toEqual(['open', 'open'])
    await server.must(['ip', 'link', 'set', 'spare7', 'down'])
    await server.must(['ip', 'link', 'set', 'spare7', 'name', 'other7', 'up'])
    await until(async () => (await sees(peer, WEB, `${SPARED}.1`)) === 'open', 'the cable is up')
    expect([await sees(peer, SSH, `${SPARED}.1`), (await peer.echo(`${SPARED}.1`, DNS)).saw]).toEqual(['silence', 'silence'])
  })

  it('a datagram to all that are on the link is dropped, too', async () => {
    expect(await toAll()).toBe('silence')
    await open(DNS)
    // With a lease it comes through: so it is answered at all.
    await until(async () => (await toAll()) === 'open', 'an answer')
  })

  it('what the kernel is not to keep track of is dropped, too', async () => {
    const untracked = [
      ['-p', 'udp', '--dport', `${DNS}`],
      ['-p', 'tcp', '--dport', `${SSH}`],
    ]
    const each = async (how: string) => {
      for (const match of untracked) await server.must(['iptables', '-t', 'raw', how, 'PREROUTING', ...match, '-j', 'NOTRACK'])
    }
    await each('-A')
    const seen = [(await client.echo(server.ipv4, DNS)).saw, await sees(client, SSH)]
    await each('-D')
    expect(seen).toEqual(['silence', 'silence'])
  })

  it('containers reach the host’s own network and the way out', async () => {
    await stranger.service(OTHER)
    expect(await sees(box, OTHER, stranger.ipv4)).toBe('open')
  })

  it('what it would drop is counted by port and network, and nothing is dropped for it', async () => {
    const trial = server.start([process.execPath, join(BIN, 'knockturn'), 'guard', 'try', '--config', gate.config])
    await trial.line((line) => line.startsWith('counting'))
    await Promise.all([sees(client, SSH), sees(client, WEB), sees(client, SSH, server.ipv6), client.echo(server.ipv4, DNS)])
    expect(await sees(lab.hosts.near as Host, SSH)).toBe('open')
    await trial.end('SIGINT')
    const counted = trial.lines.filter((line) => /^\d+\t/.test(line)).map((line) => line.split('\t').slice(1).join(' '))
    expect(counted.sort()).toEqual(
      [`${SSH}/tcp 198.51.100.0/24`, `${SSH}/tcp 2001:db8:7::/48`, `${DNS}/udp 198.51.100.0/24`].sort(),
    )
    expect(await server.must(['nft', 'list', 'tables'])).not.toContain('knockturn_try')
  })

  it.each([
    ['ipv4', 'that is closed', []],
    ['ipv6', 'that is closed', []],
    ['ipv4', 'for one connection', ['--once']],
    ['ipv6', 'for one connection', ['--once']],
  ] as const)('over %s, a RST, a stray ACK and a SYN by the same port open nothing by a lease %s', async (family, _, once) => {
    const { connected, trick } = byPort({ lab, server, client }, SSH)
    const way = ['-p', String(SSH), '-r', server[family], family === 'ipv4' ? '-4' : '-6']
    await knocked(client, gate.daemon, gate.key, ...way, ...once)
    const held = await connected(family, ++port)
    if (once.length === 0) await knocked(client, gate.daemon, gate.key, ...way, '--close')
    expect(await trick(family, held)).toBe('silence')
  })

  it('a lease ends by itself with the daemon dead, and the guard stays', async () => {
    await open(PUBLISHED, '-t', '3s')
    await gate.daemon.end('SIGKILL')
    await client.becomes(server.ipv4, PUBLISHED, 'silence')
    expect([await sees(stranger, PUBLISHED), await sees(stranger, SSH)]).toEqual(['silence', 'silence'])
    gate.daemon = await gate.startDaemon()
  })

  it('what was counting when it was killed goes with the rest of the firewall', async () => {
    const trial = server.start([process.execPath, join(BIN, 'knockturn'), 'guard', 'try', '--config', gate.config])
    await trial.line((line) => line.startsWith('counting'))
    await trial.end('SIGKILL')
    await gate.daemon.end()
    await gate.knockturn('firewall', 'remove')
    expect(await server.must(['nft', 'list', 'tables'])).not.toContain('knockturn')
    await gate.knockturn('firewall', 'install', '--config', gate.config)
    gate.daemon = await gate.startDaemon()
  })

  it('running connections live on where nothing has kept track of connections before', async () => {
    await gate.daemon.end()
    await gate.knockturn('firewall', 'remove')
    await server.must(['nft', 'flush', 'ruleset'])
    const [idle, busy] = [await client.hold(server.ipv4, SSH), await client.hold(server.ipv4, SSH)]
    const says: boolean[] = []
    const talking = (async () => {
      while (says.length < 20) says.push(await busy.isAlive())
    })()
    gate.daemon = await gate.startDaemon()
    await talking
    expect(await sees(client, SSH)).toBe('silence')
    expect([says.every(Boolean), await idle.isAlive(), await busy.isAlive()]).toEqual([true, true, true])
    // As long as they live, a packet of no connection may be one of an old connection's.
    expect(await strayAck()).toBe('refused')
    await Promise.all([idle.end(), busy.end()])
    await until(async () => (await strayAck()) === 'silence', 'stray packets are silenced')
    const later = await openAndHold()
    expect([await strayAck(), await later.isAlive()]).toEqual(['silence', true])
    await later.end()
  })
})
