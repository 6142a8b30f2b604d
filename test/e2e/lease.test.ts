import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { GUARD, logged } from '../lab/gate'
import type { Host } from '../lab/host'
import { knocked } from '../lab/knocks'
import { until } from '../lab/waiters'
import { BIN } from '../root'
import { useGate } from './use-gate'

/* An administrator looks what is open, and shuts it: with a daemon, and without one. */

const SSH = 22
const WEB = 443
/** A service that says something all the time, as many do: who may not speak to it any more still hears it. */
const TALK = 2_222

const TALKS = `require('net').createServer((socket) => {
  socket.on('error', () => {})
  const timer = setInterval(() => socket.write('hello\\n'), 200)
  socket.on('close', () => clearInterval(timer))
}).listen(${TALK}, '::', () => console.log('talks'))`
const HEARS = (address: string, port: number) => `const socket = require('net').connect(${port}, '${address}')
socket.on('data', (data) => console.log('heard ' + data.toString().trim().split('\\n').at(-1)))
socket.on('error', (error) => console.log('ended ' + error.code))
socket.on('close', () => console.log('closed'))`

const services = ['--services', `${SSH}/tcp,${WEB}/tcp,${TALK}/tcp`, '--lock']

describe.each([
  ['nftables', 'nftables', GUARD],
  ['iptables with a guard', 'iptables', GUARD],
  ['iptables', 'iptables', null],
] as const)('with %s', (_, backend, guard) => {
  const made = useGate(['client', 'neighbour'], { serve: [SSH, WEB], keyOptions: services, backend, guard })
  const { server, client, neighbour, gate } = made
  const knockturn = (...words: string[]) =>
    server.run([process.execPath, join(BIN, 'knockturn'), ...words, '--config', gate.config], {})
  const listed = async () => JSON.parse((await knockturn('lease', 'list', '--json')).stdout).leases
  const sees = async (host: Host, port = SSH, address = server.ipv4) => (await host.connect(address, port)).saw
  const open = (host: Host, port: number, key = gate.key, ...more: string[]) =>
    knocked(host, gate.daemon, key, '-p', `${port}`, ...more)
  let mate = ''
  beforeAll(async () => {
    mate = await gate.newKey('mate', ...services)
    await gate.daemon.line(logged('reloaded', { keys: 2 }))
    const talks = server.start([process.execPath, '-e', TALKS])
    await talks.line((line) => line === 'talks')
    await client.service(TALK)
  })
  let isDead = false
  const killDaemon = async () => {
    await gate.daemon.end('SIGKILL')
    isDead = true
  }
  const restart = async () => {
    if (isDead) gate.daemon = await gate.startDaemon()
    isDead = false
  }
  afterEach(restart)
  /** Who was not there before. */
  beforeEach(() => Promise.all([client.moveOn(), neighbour.moveOn()]))
  /** Somebody who listens to the service that talks. */
  const listen = async (host: Host, address = server.ipv4) => {
    const child = host.start([process.execPath, '-e', HEARS(address, TALK)])
    await child.line((line) => line === 'heard hello')
    return child
  }
  /** Whether they hear it now. */
  const hears = async (child: Awaited<ReturnType<typeof listen>>) => {
    const since = child.lines.length
    return child
      .line((line) => line === 'heard hello', since, 3_000)
      .then(
        () => true,
        () => false,
      )
  }

  it('a daemon that was killed leaves its leases to be seen, and one of them is closed by its id alone', async () => {
    const said = await open(client, SSH)
    await open(client, WEB)
    await open(neighbour, SSH)
    await killDaemon()
    const leases = await listed()
    expect(leases.map(({ key, address, service }: Record<string, string>) => [key, address, service]).sort()).toEqual(
      [
        ['traveller', client.ipv4, '22/tcp'],
        ['traveller', client.ipv4, '443/tcp'],
        ['traveller', neighbour.ipv4, '22/tcp'],
      ].sort(),
    )
    const closed = await knockturn('lease', 'close', said.leases[0])
    expect(closed).toMatchObject({ code: 0, stdout: `closed ${said.leases[0]}: 22/tcp for ${client.ipv4}, key traveller\n` })
    expect(closed.stderr).toContain('no daemon is running')
    expect([await sees(client), await sees(client, WEB), await sees(neighbour)]).toEqual(['silence', 'open', 'open'])
    expect(await knockturn('lease', 'close', said.leases[0])).toMatchObject({ code: 1, stdout: '' })
    await restart()
    expect([await sees(client), await sees(client, WEB), await sees(neighbour)]).toEqual(['silence', 'open', 'open'])
  })

  it.each([
    ['over IPv4, with a daemon', 'ipv4', '-4', true],
    ['over IPv6, without one', 'ipv6', '-6', false],
  ] as const)(
    '--kill ends what a service says to whoever came in by the lease, %s, and nothing that is somebody else’s',
    async (_, family, flag, isAlive) => {
      await open(client, WEB, gate.key, flag, '-r', server[family])
      await open(client, TALK, gate.key, flag, '-r', server[family])
      await open(neighbour, TALK, gate.key, flag, '-r', server[family])
      const [mine, theirs] = [await listen(client, server[family]), await listen(neighbour, server[family])]
      const web = await client.hold(server[family], WEB)
      // From this host to the client, at a port of the same number.
      const outgoing = await server.hold(client[family], TALK)
      if (!isAlive) await killDaemon()
      const { code, stdout, stderr } = await knockturn('lease', 'close', '--address', client[family], '--kill', '--json')
      const { by, closed, connections } = JSON.parse(stdout)
      expect([code, by, stderr]).toEqual([0, isAlive ? 'daemon' : 'firewall', ''])
      expect(closed.map(({ service }: { service: string }) => service).sort()).toEqual(['2222/tcp', '443/tcp'])
      expect(connections.ended.map(({ peer, localPort }: Record<string, unknown>) => [peer, localPort]).sort()).toEqual([
        [client[family], TALK],
        [client[family], WEB],
      ])
      expect(await mine.line((line) => line.startsWith('ended') || line === 'closed')).toMatch(/^(ended ECONNRESET|closed)$/)
      expect([await hears(theirs), await outgoing.isAlive(), await web.isAlive(500)]).toEqual([true, true, false])
      expect([await sees(client, TALK, server[family]), await sees(neighbour, TALK, server[family])]).toEqual(['silence', 'open'])
      await outgoing.end()
      await Promise.all([mine, theirs].map((child) => child.end()))
    },
  )

  it('--kill spares the connections for which another key has a lease, and says so', async () => {
    await open(client, TALK)
    await open(client, TALK, mate)
    const shared = await listen(client)
    await killDaemon()
    const { code, stdout, stderr } = await knockturn('lease', 'close', '--key', 'traveller', '--address', client.ipv4, '--kill')
    expect([code, stdout]).toEqual([0, expect.stringContaining('ended 0 connections\n')])
    expect(stderr).toContain(`connections from ${client.ipv4} to ${TALK}/tcp go on: leases of mate are still open there`)
    expect(await hears(shared)).toBe(true)
    const last = await knockturn('lease', 'close', '--key', 'mate', '--kill')
    expect(last).toMatchObject({ code: 0, stdout: expect.stringContaining('ended 1 connection\n') })
    await shared.line((line) => line === 'closed')
  })

  it('--kill spares the session in which it is typed, and no other of the same client', async () => {
    await open(client, WEB)
    const [ours, other] = [await client.hold(server.ipv4, WEB, undefined, 40_001), await client.hold(server.ipv4, WEB)]
    const session = `SSH_CONNECTION=${client.ipv4} 40001 ${server.ipv4} ${WEB}`
    const words = ['lease', 'close', '--address', client.ipv4, '--kill', '--config', gate.config]
    const { code, stderr } = await server.run(['env', session, process.execPath, join(BIN, 'knockturn'), ...words])
    expect([code, stderr]).toEqual([0, expect.stringContaining(`this session (from ${client.ipv4} to ${WEB}/tcp) goes on`)])
    expect([await ours.isAlive(), await other.isAlive(500)]).toEqual([true, false])
    await ours.end()
  })

  it('a daemon closes what is named and nothing else, and its list says so', async () => {
    await open(client, SSH)
    await open(client, WEB)
    await open(neighbour, WEB, mate)
    const { code, stdout, stderr } = await knockturn('lease', 'close', '--key', 'traveller', '--address', `${client.ipv4}`)
    expect([code, stderr, stdout.match(/^closed /gm)?.length]).toEqual([0, '', 2])
    expect([await sees(client), await sees(client, WEB), await sees(neighbour, WEB)]).toEqual(['silence', 'silence', 'open'])
    const isListed = async () => (await listed()).some(({ address }: { address: string }) => address === client.ipv4)
    await until(async () => !(await isListed()), 'the list of leases has no lease of the client')
  })

  it('without --kill what has begun goes on, and is told of', async () => {
    await open(client, TALK)
    const mine = await listen(client)
    await killDaemon()
    const { code, stdout } = await knockturn('lease', 'close', '--address', client.ipv4)
    expect([code, await hears(mine), await sees(client, TALK)]).toEqual([0, true, 'silence'])
    expect(stdout).toContain('1 connection that came in by it is still open')
    await mine.end()
  })

  it.each([
    ['of a daemon that lives', true],
    ['that a daemon has left', false],
  ])('a lock %s is listed, and removed for good', async (_, isAlive) => {
    await knocked(client, gate.daemon, gate.key, '--lock', '-t', '1h')
    if (!isAlive) await killDaemon()
    const list = async (): Promise<{ address: string }[]> => JSON.parse((await knockturn('lock', 'list', '--json')).stdout).locks
    const isListed = async () => (await list()).some(({ address }) => address === client.ipv4)
    await until(isListed, 'the lock is listed')
    expect(await knockturn('lock', 'remove', neighbour.ipv4)).toMatchObject({ code: 1, stdout: '' })
    const removed = await knockturn('lock', 'remove', client.ipv4)
    expect(removed).toMatchObject({ code: 0, stdout: `removed the lock of traveller on ${client.ipv4}\n` })
    await until(async () => !(await isListed()), 'the lock is listed no more')
    await restart()
    expect(await open(client, SSH)).toMatchObject({ msg: 'accepted' })
  })
})

describe('a lease of UDP, which has no connections', () => {
  const DNS = 5_353
  const { server, client, neighbour, gate } = useGate(['client', 'neighbour'], {
    serve: [DNS],
    keyOptions: ['--services', `${DNS}/udp`],
    backend: 'nftables',
    guard: GUARD,
  })
  const open = () => knocked(client, gate.daemon, gate.key, '-p', `${DNS}`, '--protocol', 'udp')
  const words = () => ['lease', 'close', '--address', client.ipv4, '--kill', '--config', gate.config]
  /** A folder with a program in the place of conntrack, which writes down how it was called. */
  const fake = (exit: number, said: string) => {
    const folder = mkdtempSync(join(gate.folder, 'fake-'))
    const script = `#!/bin/sh\necho "$@" >> ${folder}/calls\n${said}\nexit ${exit}\n`
    writeFileSync(join(folder, 'conntrack'), script, { mode: 0o755 })
    const run = () =>
      server.run(['env', `PATH=${folder}:${process.env.PATH}`, process.execPath, join(BIN, 'knockturn'), ...words()])
    return { run, calls: () => readFileSync(join(folder, 'calls'), 'utf8').trim().split('\n') }
  }

  it('is closed, and that its flows cannot be ended without conntrack is said and is a failure', async () => {
    await open()
    const { code, stderr } = await server.run([process.execPath, join(BIN, 'knockturn'), ...words()])
    expect([code, stderr]).toEqual([
      1,
      `knockturn: warning: what goes on at ${DNS}/udp cannot be ended: conntrack is not installed\n`,
    ])
    expect((await client.echo(server.ipv4, DNS)).saw).toBe('silence')
  })

  it('has conntrack forget the flows of its address to its port of this host, and no others', async () => {
    await open()
    const { run, calls } = fake(0, 'echo "udp 17 29 src=..."')
    expect(await run()).toMatchObject({ code: 0, stderr: '', stdout: expect.stringContaining(' 1 flow ') })
    const flow = `-p udp --orig-src ${client.ipv4} --orig-dst ${server.ipv4} --orig-port-dst ${DNS}`
    expect(calls()).toEqual([`-D -f ipv4 ${flow}`])
    expect(calls().join()).not.toContain(neighbour.ipv4)
  })

  it('has nothing to forget where conntrack knows of no flow', async () => {
    await open()
    const none = fake(1, 'echo "conntrack v1.4.7 (conntrack-tools): 0 flow entries have been deleted." >&2')
    expect(await none.run()).toMatchObject({ code: 0, stderr: '' })
  })

  it('is a failure where conntrack fails', async () => {
    await open()
    const { code, stderr } = await fake(1, 'echo "conntrack v1.4.7: Operation failed: not permitted" >&2').run()
    expect([code, stderr]).toEqual([1, expect.stringContaining(`what goes on at ${DNS}/udp cannot be ended: conntrack -D`)])
  })
})
