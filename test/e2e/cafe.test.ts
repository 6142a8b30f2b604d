import { appendFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { loadKeyFile } from '../../src/keys/keyring'
import { windowAt } from '../../src/protocol/key'
import { passcode } from '../../src/protocol/totp'
import { logged } from '../lab/gate'
import type { Host } from '../lab/host'
import { knock } from '../lab/knocks'
import { portal, proxy, reject } from './cafe'
import { moveBehind } from './delay'
import { useGate } from './use-gate'

/* What the client says, and does, where the café's router answers or rejects what it should send on. */

const SSH = 22
/** A service of the router's. */
const OTHER = 8_888
const PIN = '0417'
/** Round trips to the router, in milliseconds. */
const NEAR = 40
const FAR = 80
const BIN = join(import.meta.dirname, '../../bin')

const CLOSED = 'and so do the closed ports of the knock: something on the path answers for the server'
/** What was seen, and what to do. */
const ANSWERED = [
  /^knockclient: note: something on the path answers every connection: /,
  /^hint: try --udp, or --datagram 443; or log in/,
] as const
const LOGIN = [
  /^knockclient: note: the ports of the knock are rejected at once, /,
  /^hint: log in to this network first, if it has a login page; else try /,
] as const

const { server, router, near, far, gate } = useGate(['router', 'near', 'far'], {
  serve: [SSH],
  keyOptions: ['--services', `${SSH}/tcp`],
})
/** Guests of the café by their round trip, and the router's device to each. */
const guests = new Map<number, { host: Host; device: string }>()
/** Takes the middlebox of a test away. */
let away: () => Promise<unknown> = async () => {}

beforeAll(async () => {
  appendFileSync(join(gate.keys, 'traveller.key'), `\n[passcode]\npin = "${PIN}"\nservices = ["${SSH}/tcp"]\nonce = false\n`)
  const since = gate.daemon.lines.length
  gate.daemon.child.kill('SIGHUP')
  await gate.daemon.line(logged('reloaded'), since)
  await gate.knockturn('firewall', 'install', '--config', gate.config)
  const placed = [
    [near, NEAR],
    [far, FAR],
  ] as const
  for (const [n, [host, ms]] of placed.entries()) guests.set(ms, { host, device: await moveBehind(host, router, ms / 2, n + 2) })
})
beforeEach(() => router.moveOn())
afterEach(async () => {
  await away()
  away = async () => {}
})

const guest = (ms: number) => guests.get(ms) as { host: Host; device: string }
type Family = 4 | 6
const at = (host: Host, family: Family) => (family === 4 ? host.ipv4 : host.ipv6)
const wait = (host: Host, family: Family, seconds: number, ...options: string[]) =>
  host.run(knock(gate, '-r', at(server, family), '-p', String(SSH), '--wait', String(seconds), ...options), { timeoutMs: 60_000 })
/** Ends with this code and reports this error, first what was seen, and as its first hint what to do about that. */
const complaint = (family: Family, code: number, said: string, [seen, hint]: readonly [RegExp, RegExp]) => [
  ...[code, `knockclient: error: ${at(server, family)} port ${SSH} ${said}`],
  ...[expect.stringMatching(seen), expect.stringMatching(hint)],
]
const complaintOf = ({ code, stderr }: { code: number | null; stderr: string }) => {
  const lines = stderr.split('\n')
  return [code, ...lines.slice(0, 2), lines.find((line) => line.startsWith('hint: '))]
}

describe.each<[number, Family]>([
  [NEAR, 4],
  [FAR, 4],
  [NEAR, 6],
])('a proxy that accepts every connection, at %i ms, by IPv%i', (ms, family) => {
  beforeEach(async () => {
    away = await proxy(router, guest(ms).device)
  })

  it('has no port said to be open', async () => {
    expect(complaintOf(await wait(guest(ms).host, family, 10))).toEqual(complaint(family, 3, `answers, ${CLOSED}`, ANSWERED))
  })

  it('gives exec no door to run a command behind', async () => {
    const exec = ['exec', at(server, family), '-p', String(SSH), '-k', gate.key, '-r', at(server, family), '--', 'echo', 'run']
    const ended = await guest(ms).host.run([join(BIN, 'knockclient'), ...exec])
    expect([...complaintOf(ended), ended.stdout]).toEqual([...complaint(family, 3, `answers, ${CLOSED}`, ANSWERED), ''])
  })

  it('gives connect no connection to hand over', async () => {
    const connect = ['connect', at(server, family), String(SSH), '-k', gate.key, '-r', at(server, family)]
    const ended = await guest(ms).host.run([join(BIN, 'knockclient'), ...connect])
    expect([...complaintOf(ended), ended.stdout]).toEqual([...complaint(family, 3, `answers, ${CLOSED}`, ANSWERED), ''])
  })

  it('has the knock arrive all the same, and the user warned', async () => {
    const since = gate.daemon.lines.length
    const { code, stderr } = await guest(ms).host.run(knock(gate, '-r', at(server, family), '-p', String(SSH)))
    await gate.daemon.line(logged('accepted', { source: at(router, family) }), since)
    expect([code, stderr]).toEqual([
      0,
      expect.stringMatching(/^knockclient: warning: something on the path answers every connection/),
    ])
  })

  it('lets --udp through, which opens as the hint says', async () => {
    expect((await wait(guest(ms).host, family, 10, '--udp')).code).toBe(0)
    expect(await guest(ms).host.connect(at(server, family), SSH, 5_000)).toMatchObject({
      greeting: `welcome, this is port ${SSH}`,
    })
  })
})

describe('a port of the pool that the router leads to another machine', () => {
  it('does not keep an open door from being seen', async () => {
    const { host, device } = guest(FAR)
    await router.service(OTHER)
    const { stdout } = await host.run(knock(gate, '-p', String(SSH), '--dry-run'))
    // Of the rendezvous, which each knock of this window touches.
    const [port] = stdout.split('\n')
    const rule = ['PREROUTING', '-i', device, '-p', 'tcp', '--dport', port, '-j', 'REDIRECT', '--to-ports', String(OTHER)]
    await router.must(['iptables', '-t', 'nat', '-A', ...rule])
    away = () => router.must(['iptables', '-t', 'nat', '-D', ...rule])
    expect(await host.connect(server.ipv4, Number(port))).toMatchObject({ saw: 'open' })
    expect(await wait(host, 4, 10)).toMatchObject({ code: 0, stderr: '' })
  })
})

describe('connect through a proxy', () => {
  it('gets in with --udp, as the hint says', async () => {
    away = await proxy(router, guest(FAR).device)
    const connect = ['connect', server.ipv4, String(SSH), '-k', gate.key, '--udp']
    // At the end of an input, this proxy ends all.
    const kept = ['sh', '-c', 'sleep 4 | "$@"', 'sh', join(BIN, 'knockclient'), ...connect]
    expect((await guest(FAR).host.run(kept)).stdout).toBe(`welcome, this is port ${SSH}\n`)
  })
})

describe('a passcode through a proxy at 80 ms', () => {
  it('arrives, and the user is warned', async () => {
    away = await proxy(router, guest(FAR).device)
    const { key } = await loadKeyFile(gate.key)
    const since = gate.daemon.lines.length
    const input = `${PIN}\n${passcode(key, windowAt(Date.now() / 1000, key.period))}\n`
    const { stderr } = await guest(FAR).host.run([join(BIN, 'knockclient'), '--passcode', '-r', server.ipv4], { input })
    await gate.daemon.line(logged('accepted', { source: router.ipv4 }), since)
    expect(stderr).toMatch(
      /^knockclient: warning: something on the path answers every connection: .*\nhint: try --udp; or log in/m,
    )
  })
})

describe.each<Family>([4, 6])('a portal that answers everything itself, by IPv%i', (family) => {
  it('has nothing said to be open, and the user sent to its login page', async () => {
    away = await portal(router, guest(FAR).device, 8_080 + family)
    expect(complaintOf(await wait(guest(FAR).host, family, 10))).toEqual(complaint(family, 3, `answers, ${CLOSED}`, ANSWERED))
  })
})

describe.each<[string, Family]>([
  ['icmp-port-unreachable', 4],
  ['tcp-reset', 4],
  ['icmp6-port-unreachable', 6],
  ['tcp-reset', 6],
])('a portal that rejects everything by %s, by IPv%i', (how, family) => {
  beforeEach(async () => {
    away = await reject(router, guest(NEAR).device, how, family)
  })

  it('has the user sent to its login page first', async () => {
    expect(complaintOf(await wait(guest(NEAR).host, family, 30))).toEqual(complaint(family, 1, 'refuses connections', LOGIN))
  })

  it('has the user warned of it behind a plain knock', async () => {
    const { code, stderr } = await guest(NEAR).host.run(knock(gate, '-r', at(server, family), '-p', String(SSH)))
    expect([code, stderr]).toEqual([
      0,
      expect.stringMatching(
        /^knockclient: warning: the ports of the knock are rejected at once.*\nhint: log in to this network first/,
      ),
    ])
  })
})

describe.each<[string, Family]>([
  ['icmp-admin-prohibited', 4],
  ['icmp6-adm-prohibited', 6],
])('a portal that forbids everything by %s, by IPv%i', (how, family) => {
  beforeEach(async () => {
    away = await reject(router, guest(NEAR).device, how, family)
  })

  it('has the user warned of it behind a plain knock', async () => {
    const { code, stderr } = await guest(NEAR).host.run(knock(gate, '-r', at(server, family), '-p', String(SSH)))
    expect([code, stderr]).toEqual([
      0,
      expect.stringMatching(
        /^knockclient: warning: the ports of the knock are rejected at once.*\nhint: log in to this network first/,
      ),
    ])
  })

  it('has the user sent to its login page where nothing has opened', async () => {
    const { code, stderr } = await wait(guest(NEAR).host, family, 5)
    expect([code, stderr]).toEqual([3, expect.stringMatching(/^hint: log in to this network first/m)])
  })
})

describe('a network that says "unreachable" of what was sent', () => {
  const plain = () => [...knock(gate, '-p', String(SSH)), '--wait', '30']
  const connect = () => [join(BIN, 'knockclient'), 'connect', server.ipv4, String(SSH), '-k', gate.key]

  it.each([
    ['a knock', plain, 'port 22 has opened'],
    ['connect', connect, 'connected to'],
  ])('is waited for by %s until it lets its guest through', async (_, command, end) => {
    away = await reject(router, guest(NEAR).device, 'icmp-net-unreachable')
    // Routers send no more than fifty such messages at once.
    const waiting = guest(NEAR).host.start([...command(), '-v', '--pace', '5'])
    await waiting.line((line) => line.endsWith('pass 1') || line.includes('error'))
    await away()
    away = async () => {}
    await waiting.line((line) => line.includes(end) || line.includes('error'))
    expect(waiting.lines.filter((line) => line.includes('error'))).toEqual([])
    await waiting.end()
  })
})
