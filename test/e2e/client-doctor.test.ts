import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeAll, describe, expect, it } from 'vitest'
import type { SentBy } from '../../src/client/doctor/doctor'
import type { Check } from '../../src/system/check'
import { logged } from '../lab/gate'
import type { Tape } from '../lab/host'
import { knock } from '../lab/knocks'
import { portal, redirect, reject } from './cafe'
import { moveAway, moveBehind } from './delay'
import { serveDate } from './time'
import { useGate } from './use-gate'

/* What `knockclient doctor` says of a network, and what it sends there: real packets through a café's router, to a server that is far away. */

const SSH = 22
/** A service that is open to everyone. */
const WEB = 443
const PORTAL = 8_080
/** Milliseconds from the server to the wire: those of its answers that the router's have not. */
const FAR = 40
const BIN = join(import.meta.dirname, '../../bin')
/** A login page. */
const PAGE = `
const lead = (_, response) => response.writeHead(302, { location: 'http://login.cafe.example/' }).end()
require('node:http').createServer(lead).listen(${PORTAL}, '::', () => console.log('listening'))`

const { server, router, guest, gate } = useGate(['router', 'guest'], {
  serve: [SSH, WEB],
  guard: [`${SSH}/tcp`],
  keyOptions: ['--services', `${SSH}/tcp`],
})
/** The router's device to the guest. */
let device = ''
/** Takes what a test has put in the way out of it. */
let away: () => Promise<unknown> = async () => {}

beforeAll(async () => {
  await moveAway(server, FAR)
  device = await moveBehind(guest, router, 1, 2)
})
afterEach(async () => {
  await away()
  away = async () => {}
})

interface Report {
  readonly code: number | null
  readonly checks: Readonly<Record<string, Check>>
  readonly sent: readonly SentBy[]
}

const commandOf = (...options: string[]) => [
  ...[join(BIN, 'knockclient'), 'doctor', '-k', gate.key, '-r', server.ipv4, '--json'],
  ...options,
]
const doctor = (...options: string[]) => reported(commandOf(...options))

async function reported(argv: string[], env: NodeJS.ProcessEnv = {}): Promise<Report> {
  const { code, stdout } = await guest.run(argv, { timeoutMs: 60_000, env })
  const { checks, sent } = JSON.parse(stdout)
  return { code, sent, checks: Object.fromEntries(checks.map((check: Check) => [check.name, check])) }
}
const TCP = 'TCP to high ports, IPv4'
const UDP = 'UDP to high ports, IPv4'

const namesOf = (ports: readonly { protocol: string; port: number }[]) =>
  [...new Set(ports.map(({ protocol, port }) => `${port}/${protocol}`))].sort()
/** What has left the guest while something was done. */
async function recorded<T>(act: () => Promise<T>): Promise<[T, Awaited<ReturnType<Tape['taps']>>]> {
  const tape = await guest.capture()
  const result = await act()
  const taps = await tape.taps()
  await tape.end()
  return [result, taps.filter(({ source }) => source === guest.ipv4 || source === guest.ipv6)]
}

describe('in a network that sends everything on', () => {
  it('nothing is a fault, and nothing that only the server can see is said to be well', async () => {
    const { code, checks } = await doctor()
    expect([code, checks.IPv4.verdict, checks[TCP].verdict, checks[UDP].verdict, checks['TCP to port 22, IPv4'].verdict]).toEqual(
      [0, 'ok', 'unknown', 'unknown', 'unknown'],
    )
  })

  it('what it says that it has sent is what arrives at the server', async () => {
    const tape = await server.capture()
    const { sent } = await doctor()
    const arrived = (await tape.taps()).filter(({ source, destination }) => source === router.ipv4 && destination === server.ipv4)
    await tape.end()
    // tcpdump takes that for DNS, and prints it otherwise.
    const isReadable = (name: string) => name !== '53/udp'
    expect(namesOf(arrived)).toEqual(namesOf(sent.flatMap(({ ports }) => ports)).filter(isReadable))
  })

  it('nobody but the server is sent anything', async () => {
    const [, taps] = await recorded(() => doctor())
    expect([...new Set(taps.map(({ destination }) => destination))]).toEqual([server.ipv4])
  })

  it('by IPv6 the same is found', async () => {
    const { code, checks, sent } = await doctor('-r', server.ipv6)
    expect([code, checks.IPv6.verdict, checks['TCP to high ports, IPv6'].verdict, sent.map(({ address }) => address)]).toEqual([
      0,
      'ok',
      'unknown',
      [server.ipv6],
    ])
  })

  it('a service that answers is well, and a port that the server refuses is noted', async () => {
    const { checks } = await doctor()
    expect([checks[`TCP to port ${WEB}, IPv4`].verdict, checks['TCP to port 53, IPv4'].verdict]).toEqual(['ok', 'note'])
  })
})

describe('a server of both families', () => {
  it('is tried by both at once', async () => {
    const hosts = join(guest.lab.folder(), 'hosts')
    writeFileSync(hosts, `${server.ipv4} gate.example\n${server.ipv6} gate.example\n`)
    // `ip netns exec` has mounts of its own.
    const named = ['sh', '-c', 'mount --bind "$0" /etc/hosts && exec "$@"', hosts, ...commandOf('-r', 'gate.example')]
    const { code, checks, sent } = await reported(named)
    expect([code, checks.name.verdict, checks.IPv4.verdict, checks.IPv6.verdict, sent.map(({ address }) => address)]).toEqual([
      0,
      'ok',
      'ok',
      'ok',
      [server.ipv4, server.ipv6],
    ])
  })
})

describe('the clock', () => {
  it.each([
    ['right', 0, 0, 'ok'],
    ['more than a window behind', 95, 1, 'fault'],
  ])('is found to be %s by the server that was named', async (_, ahead, code, verdict) => {
    const { url, env } = await serveDate(router, ahead)
    const found = await reported(commandOf('--time-source', url), env)
    expect([found.code, found.checks.clock.verdict]).toEqual([code, verdict])
  })
})

describe('what is sent', () => {
  it('is no knock, and nothing that opens when it is sent again', async () => {
    const since = gate.daemon.lines.length
    const [, taps] = await recorded(() => doctor())
    const touches = taps.map(({ protocol, port }) => ({ protocol, port }))
    await guest.replay([...touches, ...touches, ...touches], server.ipv4)
    // A real knock behind it, of which the daemon does hear.
    await guest.must(knock(gate, '-r', server.ipv4, '-p', String(SSH), '-t', '30s'))
    await gate.daemon.line(logged('accepted'), since)
    const heard = gate.daemon.lines.slice(since).filter((line) => logged('accepted')(line) || logged('refused')(line))
    expect(heard).toHaveLength(1)
    await guest.must(knock(gate, '-r', server.ipv4, '--close'))
    await guest.becomes(server.ipv4, SSH, 'silence')
  })
})

describe('where the café answers everything', () => {
  it('high ports are a fault, a service proves nothing, and the login page is found', async () => {
    const page = router.start([process.execPath, '-e', PAGE])
    await page.line((line) => line === 'listening')
    const back = await redirect(router, device, PORTAL)
    away = async () => {
      await back()
      await page.end()
    }
    const { code, checks } = await doctor()
    expect([code, checks[TCP].verdict, checks[`TCP to port ${WEB}, IPv4`].verdict, checks['login page']]).toEqual([
      1,
      'fault',
      'unknown',
      {
        name: 'login page',
        verdict: 'fault',
        evidence: 'port 80 answers 302 and leads to "login.cafe.example", and high ports are answered, too: that is a login page',
        remedy: expect.stringContaining('in a browser'),
      },
    ])
  })

  it('a portal that says nothing at port 80 is still a fault of high ports', async () => {
    away = await portal(router, device, PORTAL + 1)
    const { code, checks } = await doctor()
    expect([code, checks[TCP].verdict, checks['login page'].verdict]).toEqual([1, 'fault', 'unknown'])
  })
})

describe.each(['tcp-reset', 'icmp-port-unreachable', 'icmp-admin-prohibited'])('where the café rejects TCP by %s', (how) => {
  it('high ports are a fault by TCP, and UDP is not', async () => {
    away = await reject(router, device, how)
    const { code, checks } = await doctor()
    expect([code, checks[TCP].verdict, checks[UDP].verdict]).toEqual([1, 'fault', 'unknown'])
  })
})

describe('where the café rejects', () => {
  const rejecting = async (...rule: string[]) => {
    const all = ['FORWARD', '-i', device, ...rule]
    await router.must(['iptables', '-I', ...all])
    away = () => router.must(['iptables', '-D', ...all])
  }
  const HIGH = ['--dport', '49152:65535', '-j', 'REJECT']

  it('high ports by TCP alone, it is said to be nearer than the service that answers', async () => {
    await rejecting('-p', 'tcp', ...HIGH, '--reject-with', 'tcp-reset')
    const { checks } = await doctor()
    expect(checks[TCP].evidence).toMatch(/; whoever rejects them is nearer than who answers at port 443: \d+ ms, against \d+ ms$/)
  })

  it('high ports by UDP, it is said how many routers away at most', async () => {
    await rejecting('-p', 'udp', ...HIGH)
    const { code, checks } = await doctor()
    expect([code, checks[UDP].evidence]).toEqual([1, expect.stringMatching(/; whoever rejects them is at most 1 router away: /)])
  })
})

describe('where there is no way by IPv6', () => {
  it('it is a fault of a server that has nothing else', async () => {
    await guest.must(['ip', '-6', 'route', 'del', 'default'])
    away = () => guest.must(['ip', '-6', 'route', 'add', 'default', 'via', '2001:db8:2::1'])
    const { code, checks } = await doctor('-r', server.ipv6)
    expect([code, checks.IPv6.verdict]).toEqual([1, 'fault'])
  })
})
