// Attacks on the rules themselves: packets of odd forms, ways around them, and what other programs do to them.

import { logged } from '../lab/gate'
import type { Host } from '../lab/host'
import { knocked } from '../lab/knocks'
import { standing } from '../lab/standing'
import { until } from '../lab/waiters'
import type { Attack } from './attack'
import { honestly, onOurs } from './on-ours'
import { type Segment, segment } from './packets'
import { SSH } from './stage'

/** What is knocked for while it is tried what a lease opens. */
const LONG = ['-p', String(SSH), '-t', '2m']

// ---- packets of odd forms

const [SYN, PSH, URG, ECE_CWR] = [0x02, 0x08, 0x20, 0xc0]
/** Bytes of a SYN in the first of two fragments: the ports; its flags are in the second. */
const PORTS_ONLY = 8
/** Linux drops smaller fragments of IPv6 than the least MTU, and one that ends within the TCP header. */
const [LEAST_6, MORE_THAN_LEAST] = [1_240, 'x'.repeat(1_300)]

type Made = (to: Segment) => Buffer[]
/** A SYN in each form in which Linux answers it. */
const FORMS: Record<string, Made> = {
  plain: (to) => segment(to),
  'with ECN': (to) => segment({ ...to, flags: SYN | ECE_CWR }),
  'with PSH': (to) => segment({ ...to, flags: SYN | PSH }),
  'with URG': (to) => segment({ ...to, flags: SYN | URG }),
  'with data': (to) => segment({ ...to, data: 'hello' }),
}
/** And those that are of one version of IP. */
const FORMS_OF: Record<4 | 6, Record<string, Made>> = {
  4: {
    ...FORMS,
    'in two fragments': (to) => segment(to, PORTS_ONLY),
    'in two fragments, the last first': (to) => segment(to, PORTS_ONLY).reverse(),
  },
  6: {
    ...FORMS,
    'in two fragments': (to) => segment({ ...to, data: MORE_THAN_LEAST }, LEAST_6),
    'in two fragments, the last first': (to) => segment({ ...to, data: MORE_THAN_LEAST }, LEAST_6).reverse(),
    'behind an extension header': (to) => segment({ ...to, extensions: 1 }),
    'behind nine extension headers': (to) => segment({ ...to, extensions: 9 }),
    'behind an extension header, in two fragments': (to) => segment({ ...to, extensions: 1, data: MORE_THAN_LEAST }, LEAST_6),
  },
}

const oddForms: Attack = {
  kind: 'bypass',
  name: 'SYNs of odd forms at a shut port',
  what: 'A stranger sends SYNs with ECN, PSH, URG or data, in fragments and behind IPv6 extension headers to a port that is shut.',
  run: onOurs(async (stage, door) => {
    const { user, attacker, server, lab } = stage
    const honest = { tried: 0, opened: 0 }
    const broken: string[] = []
    let [tried, opened] = [0, 0]
    let from = 20_000
    for (const version of [4, 6] as const) {
      const forms = FORMS_OF[version]
      const [to, stranger, friend] =
        version === 4 ? [server.ipv4, attacker.ipv4, user.ipv4] : [server.ipv6, attacker.ipv6, user.ipv6]
      const wire = await lab.wire.capture('server', 128, `src host ${to} and tcp`)
      /** The forms of which the server has answered a SYN from here: by a SYN of its own. */
      const answered = async (ports: Map<number, string>) => {
        const lines = (await lab.wire.must(['tcpdump', '-nn', '-r', wire.file])).split('\n')
        return lines.flatMap((line) => ports.get(Number(/\.(\d+): Flags \[S[A-Z]*\./.exec(line)?.[1])) ?? [])
      }
      /** Sends a SYN of each form. @returns the forms, by the port that they come from */
      const send = async (source: string) => {
        const ports = new Map(Object.keys(forms).map((form) => [from++, form]))
        const packets = [...ports].flatMap(
          ([port, form]) => forms[form]?.({ source, destination: to, from: port, port: SSH }) ?? [],
        )
        await attacker.must(['tcpreplay', '-q', '-i', 'eth0', stage.packIp(packets)])
        return ports
      }
      const shut = await send(stranger)
      await knocked(user, door.daemon, door.gate.key, '-r', to, ...LONG)
      const leased = await send(friend)
      honest.tried += leased.size
      const all = async () => new Set(await answered(leased)).size === leased.size
      await until(all, 'a SYN of each form is answered').catch(() => {})
      const heard = new Set(await answered(leased))
      honest.opened += heard.size
      for (const form of leased.values())
        if (!heard.has(form)) broken.push(`IPv${version}: with a lease, no answer to a SYN ${form}`)
      tried += shut.size
      const got = new Set(await answered(shut))
      opened += got.size
      for (const form of got) broken.push(`IPv${version}: a SYN ${form} was answered`)
      await wire.end()
    }
    return { tried, opened, honest, broken }
  }),
}

// ---- ways around the rules

/** Sends a datagram from one address of a host to whoever hears it, and exits with 0 if an echo comes back. */
const ECHO = `
  const [from, to, port, wait] = process.argv.slice(1)
  const isIPv6 = to.includes(':')
  const socket = require('node:dgram').createSocket(isIPv6 ? 'udp6' : 'udp4')
  socket.on('message', () => process.exit(0))
  socket.bind(0, from, () => {
    socket.setBroadcast(true)
    socket.setMulticastInterface(isIPv6 ? '::%eth0' : from)
    socket.send('echo', port, to)
  })
  setTimeout(() => process.exit(1), wait)
`
/** Milliseconds within which a door that is open answers. */
const ANSWER = 500
const echoes = async (host: Host, from: string, to: string, port = SSH) =>
  (await host.run([process.execPath, '-e', ECHO, from, to, String(port), String(ANSWER)])).code === 0

/** A service of UDP with a socket for each family: one for both hears no multicast of IPv4. */
const HEARS_ALL = 161
const SERVICE = `
  for (const type of ['udp4', 'udp6']) {
    const socket = require('node:dgram').createSocket({ type, ipv6Only: type === 'udp6' })
    socket.on('message', (data, { address, port }) => socket.send(data, port, address))
    socket.bind(${HEARS_ALL}, () => console.log(type))
  }
`
/** The addresses at which all hosts of the wire hear a datagram, and the one at which each router of it does. */
const EVERYONE = { ipv4: ['198.51.100.255', '224.0.0.1'], ipv6: ['ff02::1%eth0', '2001:db8:7::'] } as const
const FAMILIES = ['ipv4', 'ipv6'] as const

const toEveryone: Attack = {
  kind: 'bypass',
  name: 'datagrams to every host on the wire',
  what: "A stranger sends to the broadcast, multicast and anycast addresses at which a service hears by UDP, because its port is shut at the server's own address.",
  run: onOurs(
    async ({ user, attacker, server }, door) => {
      const honest = { tried: 0, opened: 0 }
      let [tried, opened] = [0, 0]
      // As a host of containers is: a router hears at one address more, which it tells neighbours only after a random delay.
      await server.must(['sysctl', '-qw', 'net.ipv6.neigh.eth0.proxy_delay=0', 'net.ipv6.conf.all.forwarding=1'])
      const service = server.start([process.execPath, '-e', SERVICE])
      for (const type of ['udp4', 'udp6']) await service.line((line) => line === type)
      for (const family of FAMILIES) {
        const addresses = [server[family], ...EVERYONE[family]]
        for (const to of addresses) {
          tried++
          opened += Number(await echoes(attacker, attacker[family], to, HEARS_ALL))
        }
        const what = ['-p', String(HEARS_ALL), '--protocol', 'udp', '-t', '2m']
        await knocked(user, door.daemon, door.gate.key, '-r', server[family], ...what)
        for (const to of addresses) {
          honest.tried++
          honest.opened += Number(await echoes(user, user[family], to, HEARS_ALL))
        }
      }
      return { tried, opened, honest }
    },
    ['--services', `${HEARS_ALL}/udp`],
  ),
}

/** Has the server's kernel not keep track of what comes to the door and goes out of it. */
async function untrack(server: Host) {
  for (const iptables of ['iptables', 'ip6tables'])
    for (const protocol of ['tcp', 'udp'])
      for (const [chain, port] of [
        ['PREROUTING', '--dport'],
        ['OUTPUT', '--sport'],
      ] as const)
        await server.must([iptables, '-t', 'raw', '-A', chain, '-p', protocol, port, String(SSH), '-j', 'NOTRACK'])
}

const untracked: Attack = {
  kind: 'bypass',
  name: 'packets that conntrack does not follow',
  what: 'A stranger connects to a port whose packets the administrator has exempted from connection tracking, by TCP and by UDP.',
  run: onOurs(
    async ({ user, attacker, server }, door) => {
      const honest = { tried: 0, opened: 0 }
      let [tried, opened] = [0, 0]
      await untrack(server)
      for (const family of FAMILIES) {
        tried += 2
        opened += Number((await attacker.connect(server[family], SSH)).saw === 'open')
        opened += Number(await echoes(attacker, attacker[family], server[family]))
        for (const protocol of ['tcp', 'udp'])
          await knocked(user, door.daemon, door.gate.key, '-r', server[family], ...LONG, '--protocol', protocol)
        honest.tried += 2
        honest.opened += Number((await user.connect(server[family], SSH)).saw === 'open')
        honest.opened += Number(await echoes(user, user[family], server[family]))
      }
      return { tried, opened, honest }
    },
    ['--services', `${SSH}/tcp,${SSH}/udp`],
  ),
}

/** Of the host behind the server: the port that strangers see, and its own. */
const [PUBLISHED, INSIDE] = [8_080, 80]

const behindNat: Attack = {
  kind: 'bypass',
  name: 'connections to a port that is forwarded to a container',
  what: 'A stranger connects to a guarded port that the server forwards by DNAT, as Docker publishes it, and which never meets INPUT: before, during and after the lease of somebody else.',
  needsGuard: true,
  run: onOurs(
    async (stage, door) => {
      const { user, attacker, server, lab } = stage
      const { container } = lab.hosts
      await container.service(INSIDE)
      await server.must(['sh', '-c', 'echo 1 > /proc/sys/net/ipv4/ip_forward'])
      const nat = `table ip nat {
        chain in { type nat hook prerouting priority dstnat; tcp dport ${PUBLISHED} dnat to ${container.ipv4}:${INSIDE}; }
        chain out { type nat hook postrouting priority srcnat; ip daddr ${container.ipv4} masquerade; }
      }`
      await server.must(['nft', '-f', '-'], { input: nat })
      const sees = async (host: Host) => (await host.connect(server.ipv4, PUBLISHED)).saw === 'open'
      const knock = (...options: string[]) => knocked(user, door.daemon, door.gate.key, ...options)
      let opened = Number(await sees(attacker)) + Number(await sees(user))
      await knock('-p', String(PUBLISHED), '-t', '2m')
      const honest = { tried: 1, opened: Number(await sees(user)) }
      opened += Number(await sees(attacker))
      await knock('--close')
      opened += Number(await sees(user))
      return { tried: 4, opened, honest }
    },
    ['--services', `${PUBLISHED}/tcp`],
    ['container'],
  ),
}

/** Tables of others: with names like ours, in front of ours, and with what would let anybody in, if an accept of theirs counted. */
const OTHERS = (attacker: Host) => `
  table ip knockturn {
    set leases4 { type ipv4_addr . inet_proto . inet_service; elements = { ${attacker.ipv4} . tcp . ${SSH} } }
    set open4_32 { type ipv4_addr . inet_proto . inet_service; elements = { ${attacker.ipv4} . tcp . ${SSH} } }
    chain guard { type filter hook prerouting priority -300; ip saddr . meta l4proto . th dport @open4_32 accept; }
    chain open { accept; }
  }
  table inet others {
    chain guard { type filter hook prerouting priority -111; tcp dport ${SSH} accept; }
    chain input { type filter hook input priority -10; tcp dport ${SSH} accept; }
  }
`

const accepts: Attack = {
  kind: 'bypass',
  name: 'accepts in tables of other programs',
  what: 'Another program has tables in front of ours, one of them by our name, that accept what a stranger sends to the door; then it goes on to ours.',
  run: onOurs(async (stage, door) => {
    const { attacker, server } = stage
    const { honest, knock } = honestly(stage, door)
    await server.must(['nft', '-f', '-'], { input: OTHERS(attacker) })
    let opened = Number((await attacker.connect(server.ipv4, SSH)).saw === 'open')
    // The daemon has changed its own table since.
    await knock()
    opened += Number((await attacker.connect(server.ipv4, SSH)).saw === 'open')
    return { tried: 2, opened, honest }
  }),
}

// ---- what other programs do to our table

/** Milliseconds within which the daemon has looked at the firewall twice, and put it in order. */
const LOOK = 12_000
const TABLE = 'inet knockturn'

const usedUp: Attack = {
  kind: 'bypass',
  name: 'a second connection, when the ruleset was loaded anew',
  what: 'The one connection of a lease has been used, and another program deletes our table, flushes the ruleset, or loads one that it has saved: the lease must not begin anew.',
  backend: 'nftables',
  run: onOurs(async (stage, door) => {
    const { user, attacker, server, another } = stage
    const ways: Record<string, () => Promise<unknown>> = {
      'our table was deleted': () => server.must(['nft', `delete table ${TABLE}`]),
      'the ruleset was flushed': () => server.must(['nft', 'flush ruleset']),
      'a saved ruleset was loaded': async () => {
        const saved = await server.must(['nft', 'list', 'ruleset'])
        await server.must(['nft', '-f', '-'], { input: `flush ruleset\n${saved}` })
      },
    }
    const honest = { tried: 0, opened: 0 }
    const broken: string[] = []
    let opened = 0
    for (const [way, change] of Object.entries(ways)) {
      const [lasting, once] = [await another(user), await another(user)]
      const sees = async (address: string) => (await user.connect(server.ipv4, SSH, undefined, address)).saw === 'open'
      for (const [address, ...options] of [[lasting], [once, '--once']]) {
        await door.client(address, ...LONG, '--passes', '1', ...options)
        await door.daemon.line(logged('accepted', { source: address }))
        honest.tried++
        honest.opened += Number(await sees(address))
      }
      await change()
      const isInOrder = async () => {
        const leases = (await standing(server)).map(({ address }) => address)
        const { saw } = await attacker.connect(server.ipv4, SSH, ANSWER)
        return saw === 'silence' && leases.includes(lasting) && !leases.includes(once)
      }
      await until(isInOrder, 'the table is in order', LOOK).catch(() => {})
      if (await sees(once)) {
        opened++
        broken.push(`a second connection, when ${way}`)
      }
      honest.tried++
      honest.opened += Number(await sees(lasting))
    }
    return { tried: Object.keys(ways).length, opened, honest, broken }
  }),
}

const added: Attack = {
  kind: 'bypass',
  name: 'rules and elements of others in our table',
  what: 'Another program puts rules and elements into our table that let a stranger in: the daemon takes them away when it looks.',
  backend: 'nftables',
  run: onOurs(async (stage, door) => {
    const { user, attacker, server, another } = stage
    const { honest, knock } = honestly(stage, door)
    const rules = await server.must(['nft', 'list', 'chain', 'inet', 'knockturn', 'guard'])
    const mark = /comment "(\w+ \d+\/\d+)"/.exec(rules)?.[1]
    const forged = `deadbeef:traveller:${'0'.repeat(32)}:${Math.floor(Date.now() / 1_000) + 3_600}:32:`
    const accept = `tcp dport ${SSH} accept`
    /** What is added, for the door of an address; and whether it opens at once. */
    const ways: [string, (door: string) => string, boolean][] = [
      ['an element that packets meet', (door) => `add element ${TABLE} open4_32 { ${door} }`, true],
      ['an element among leases, without a comment', (door) => `add element ${TABLE} leases4 { 0x7 . ${door} }`, false],
      [
        'an element among leases, with a comment',
        (door) => `add element ${TABLE} leases4 { 0xdeadbeef . ${door} comment "${forged}" }`,
        false,
      ],
      ['a rule in front of the guard', () => `insert rule ${TABLE} guard ${accept}`, true],
      ['a rule with a comment of ours', () => `insert rule ${TABLE} guard ${accept} comment "${mark}"`, true],
      ['a rule among those of leases', () => `add rule ${TABLE} open ${accept}`, true],
    ]
    // Its lease makes the sets, and lasts.
    await knocked(user, door.daemon, door.gate.key, ...LONG)
    const broken: string[] = []
    for (const [what, line, opens] of ways) {
      const address = await another(attacker)
      const sees = async (state: string) => (await attacker.connect(server.ipv4, SSH, ANSWER, address)).saw === state
      // Until then the daemon does nothing.
      door.daemon.child.kill('SIGSTOP')
      await server.must(['nft', '-f', '-'], { input: `${line(`${address} . tcp . ${SSH}`)}\n` })
      if ((await sees('open')) !== opens) broken.push(`it is not ${opens ? 'open' : 'shut'} before the daemon looks: ${what}`)
      door.daemon.child.kill('SIGCONT')
      await until(() => sees('silence'), 'it is shut', LOOK).catch(() => broken.push(`it stays open: ${what}`))
    }
    await knock()
    return { tried: ways.length, opened: 0, honest, broken }
  }),
}

export const bypass: Attack[] = [oddForms, toEveryone, untracked, behindNat, accepts, usedUp, added].map((attack) => ({
  ...attack,
  isOfRules: true,
}))
