import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { usualBackend } from '../lab/backend'
import type { Host } from '../lab/host'
import { knock } from '../lab/knocks'
import { moveAway } from './delay'
import { useGate } from './use-gate'

/* What the client says of a port that is open, where the answer takes its time. */

const SSH = 22
const WEB = 443
const NOBODY = 8_004
const KNOCKCLIENT = fileURLToPath(new URL('../../bin/knockclient', import.meta.url))
/** Milliseconds each way. */
const WAY = 40
const LONG_WAY = 160
/** So that a reset is heard of after 2 s, as on Windows, which says the SYN twice more before it tells. */
const WINDOWS_WAY = 1_000

const { server, client, remote, windows, gate, lab } = useGate(['client', 'remote', 'windows'], {
  serve: [SSH, WEB],
  keyOptions: ['--services', `${SSH}/tcp,${NOBODY}/tcp`],
})
/** A key that the server does not have. */
let wrong: string

beforeAll(async () => {
  wrong = join(lab.folder(), 'wrong.key')
  const other = (_: string, head: string, digit: string) => `${head}${digit === 'A' ? 'B' : 'A'}`
  writeFileSync(wrong, readFileSync(gate.key, 'utf8').replace(/^(secret = ")(.)/m, other), { mode: 0o600 })
  await moveAway(client, WAY)
  await moveAway(remote, LONG_WAY)
  await moveAway(windows, WINDOWS_WAY)
})
beforeEach(async () => {
  for (const host of [client, remote]) {
    await host.moveOn()
    // Who is who on the wire takes a round trip of its own, once.
    for (const address of [server.ipv4, server.ipv6]) await host.connect(address, NOBODY)
  }
})

type Family = 'ipv4' | 'ipv6'
const said = (stderr: string) => stderr.split('\n').map((line) => line.replace(/^ *\d+ ms {2}/, ''))
const wait = (host: Host, family: Family, key: string, ...options: string[]) =>
  host.run(knock({ key }, '-r', server[family], '-v', '--wait', ...options), { timeoutMs: 60_000 })

describe.each<Family>(['ipv4', 'ipv6'])('a round trip of 80 ms by %s', (family) => {
  const opened = () => `${server[family]} port ${SSH} has opened`
  const already = () =>
    `${server[family]} port ${SSH} was already open: only the server's log shows whether it accepted this knock`

  it('has a port that the knock opens', async () => {
    const { code, stderr } = await wait(client, family, gate.key, '10', '-p', String(SSH))
    expect([code, said(stderr)]).toEqual([0, expect.arrayContaining([opened()])])
  })

  it('has a port open to a wrong key by another lease, which is not said to have opened', async () => {
    expect((await wait(client, family, gate.key, '10', '-p', String(SSH))).code).toBe(0)
    const { code, stderr } = await wait(client, family, wrong, '10', '-p', String(SSH))
    expect([code, said(stderr)]).toEqual([0, expect.arrayContaining([already()])])
    expect(said(stderr)).not.toContain(opened())
  })

  it('has it so for exec, too', async () => {
    expect((await wait(client, family, gate.key, '10', '-p', String(SSH))).code).toBe(0)
    const exec = ['exec', server[family], '-p', String(SSH), '-k', wrong, '-r', server[family], '-v', '--', 'true']
    const { code, stderr } = await client.run([KNOCKCLIENT, ...exec])
    expect([code, said(stderr)]).toEqual([0, expect.arrayContaining([already()])])
  })
})

describe('what is sent', () => {
  it.each([[[]], [['--udp']]])(
    'with %j begins with the attempt in front, and the knock waits for no answer to it',
    async (way) => {
      // Nobody answers: the knock is not granted.
      const tape = await client.capture()
      await wait(client, 'ipv4', gate.key, '2', '-p', String(WEB), '--force', ...way)
      await tape.end()
      const ports = (await tape.taps()).map(({ port }) => port)
      expect([ports[0], ports.slice(1, 53).filter((port) => port < 49_152)]).toEqual([WEB, []])
    },
  )
})

// Of the administrator's own rules of iptables.
describe.runIf(usualBackend() === 'iptables')('a firewall that rejects what it does not let in', () => {
  const rule = ['INPUT', '-p', 'tcp', '--dport', String(SSH), '-j', 'REJECT', '--reject-with', 'tcp-reset']
  beforeAll(() => server.must(['iptables', '-A', ...rule]))
  afterAll(() => server.must(['iptables', '-D', ...rule]))

  it('has a port that the knock opens, though it refuses before', async () => {
    const { code, stderr } = await wait(client, 'ipv4', gate.key, '10', '-p', String(SSH))
    expect([code, said(stderr)]).toEqual([0, expect.arrayContaining([`${server.ipv4} port ${SSH} has opened`])])
  })

  it('has a wrong key refused: that it may be the firewall is said', async () => {
    const { code, stderr } = await client.run(knock({ key: wrong }, '-p', String(SSH), '--wait', '60'), { timeoutMs: 50_000 })
    expect([code, stderr.split('\n')]).toEqual([
      1,
      [
        `knockclient: error: ${server.ipv4} port ${SSH} refuses connections`,
        'knockclient: note: either no service listens on port 22, or a firewall rejects what it does not let in',
        "hint: start the service on port 22, or read the server's log",
        '',
      ],
    ])
  })
})

describe('a reset that is told of after 2 s', () => {
  const rule = ['INPUT', '-p', 'tcp', '--dport', String(NOBODY), '-j', 'REJECT', '--reject-with', 'tcp-reset']
  beforeAll(() => server.must(['iptables', '-A', ...rule]))
  afterAll(() => server.must(['iptables', '-D', ...rule]))
  const platform = (name: string) =>
    `data:text/javascript,Object.defineProperty(process, 'platform', { value: ${JSON.stringify(name)} })`

  /** What a knock in vain says on a system. */
  async function saidOn(name: string) {
    const [program = '', ...args] = knock(gate, '-p', String(NOBODY), '--wait', '4')
    return (await windows.run([process.execPath, '--import', platform(name), program, ...args], { timeoutMs: 60_000 })).stderr
  }

  it.each([
    ['win32', 'refuses connections'],
    ['linux', 'has not answered within 4 s'],
  ])('is heard on %s, or not', async (name, said) => {
    expect(await saidOn(name)).toContain(`knockclient: error: ${server.ipv4} port ${NOBODY} ${said}\n`)
  })

  it('is heard of the ports of a knock on win32, too, as of a portal', async () => {
    const portal = ['INPUT', '-s', windows.ipv4, '-p', 'tcp', '-j', 'REJECT', '--reject-with', 'tcp-reset']
    await server.must(['iptables', '-I', ...portal])
    const stderr = await saidOn('win32')
    await server.must(['iptables', '-D', ...portal])
    expect(stderr).toMatch(
      /^knockclient: note: the ports of the knock are rejected at once(.*\n)*hint: log in to this network first, if it has a login page/m,
    )
  })
})

describe('a round trip of 320 ms', () => {
  it('is no reason to give a port up that has opened', async () => {
    const { code, stderr } = await wait(remote, 'ipv4', gate.key, '10', '-p', String(SSH))
    expect([code, said(stderr)]).toEqual([0, expect.arrayContaining([`${server.ipv4} port ${SSH} has opened`])])
  })

  it('is none to say of one that was open that it has opened', async () => {
    expect((await wait(remote, 'ipv4', gate.key, '10', '-p', String(SSH))).code).toBe(0)
    const { stderr } = await wait(remote, 'ipv4', wrong, '10', '-p', String(SSH))
    expect(stderr).toContain(`${server.ipv4} port ${SSH} was already open: only the server's log shows`)
  })
})

describe('two ports', () => {
  it('of which one is not granted: the other is told of at once, and what to do at the end', async () => {
    const waiting = client.start(knock(gate, '-v', '-p', `${WEB},${SSH}`, '--wait', '4', '--force'))
    await waiting.line((line) => line.endsWith(`${server.ipv4} port ${SSH} has opened`))
    expect(waiting.lines.filter((line) => line.includes('error'))).toEqual([])
    expect(await waiting.exited).toMatchObject({ code: 3 })
    await waiting.line((line) => line.startsWith('hint: '))
    expect(waiting.lines.slice(-4)).toEqual([
      `knockclient: error: ${server.ipv4} port ${SSH} has opened; port ${WEB} has not answered within 4 s`,
      `knockclient: note: port ${SSH} opened, so key and clock are right`,
      `knockclient: note: port ${WEB} did not: the key may not grant it, or this network may block it`,
      "hint: read the server's log: it says what was refused, and why",
    ])
  })

  it('of which one has no service: it is not waited for', async () => {
    const { code, stderr } = await client.run(knock(gate, '-p', `${NOBODY},${SSH}`, '--wait', '60'), { timeoutMs: 50_000 })
    expect({ code, stderr }).toEqual({
      code: 1,
      stderr: expect.stringMatching(
        new RegExp(
          `^knockclient: error: ${server.ipv4} port ${SSH} has opened; port ${NOBODY} refuses connections\nknockclient: note: .*\nhint: start the service on port ${NOBODY}, or .*\n$`,
        ),
      ),
    })
  })
})
