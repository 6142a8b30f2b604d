import { createHash, randomBytes } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { logged } from '../lab/gate'
import type { Host } from '../lab/host'
import type { Child } from '../lab/processes'
import { until } from '../lab/waiters'
import { serveSsh } from './sshd'
import { useGate } from './use-gate'

const SSH = 22
/** Services of the test's own: one reads all, then answers; one says all, then reads; one breaks off; one never ends. */
const LISTENER = 8_001
const TALKER = 8_002
const BREAKER = 8_003
const BABBLER = 8_006
/** Granted, and nobody serves it; served, and not granted. */
const NOBODY = 8_004
const PRIVATE = 8_005
const UP = randomBytes(8 * 1024 * 1024)

const granted = [SSH, LISTENER, TALKER, BREAKER, BABBLER, NOBODY].map((port) => `${port}/tcp`).join(',')

const { server, client, wrong, first, second, third, gate, lab } = useGate(['client', 'wrong', 'first', 'second', 'third'], {
  id: 'gate',
  keyOptions: ['--services', granted, '--max', '1h'],
})
const guests = [first, second, third]
/** A key whose host has a name. */
let named: string
let services: Child
let site: Awaited<ReturnType<typeof serveSsh>>

const digest = (data: Buffer) => createHash('sha256').update(data).digest('hex')
const file = (name: string) => site.file(name)
const command = (script: string) => site.inside('sh', '-c', script)
const shell = (host: Host, script: string) => host.run(command(script), { env: site.env, timeoutMs: 60_000 })
const start = (script: string) => client.start(command(script), { env: site.env })
/** The command line of ssh to the gate. */
const ssh = (...options: string[]) => [...site.ssh(...options), 'gate'].join(' ')

const SERVICES = `
const { createHash } = require('node:crypto')
const { createServer } = require('node:net')
const { Readable } = require('node:stream')
// One that looks whether the port is open leaves with a reset.
const serve = (port, take) =>
  createServer({ allowHalfOpen: true }, (socket) => Promise.resolve(take(socket.on('error', () => {}))).catch(() => {})).listen(port, '::')
serve(${LISTENER}, async (socket) => {
  const hash = createHash('sha256')
  for await (const data of socket.iterator({ destroyOnReturn: false })) hash.update(data)
  socket.end(hash.digest('hex'))
})
serve(${TALKER}, async (socket) => {
  socket.end('that is all')
  let bytes = 0
  for await (const data of socket) bytes += data.length
  console.log('heard ' + bytes)
})
serve(${BREAKER}, (socket) => socket.on('error', () => {}).once('data', () => socket.resetAndDestroy()))
serve(${BABBLER}, (socket) => Readable.from((function* () { for (;;) yield 'babble' })()).on('error', () => {}).pipe(socket.on('error', () => {})))
serve(${PRIVATE}, (socket) => socket.end())
console.log('serving')
`

beforeAll(async () => {
  named = await gate.newKey('named', '--host', 'gate.example', '--services', granted)
  await gate.daemon.line(logged('reloaded', { keys: 2 }))
  const both = [server.ipv4, server.ipv6]
  site = await serveSsh(lab, gate.key, [SSH, 2222], {
    'gate.example': both,
    'alias.example': both,
    'wrong.example': [wrong.ipv4],
    // Whose owner gives it the gate's address behind their own.
    'twofold.example': [wrong.ipv4, server.ipv4],
  })
  writeFileSync(file('up'), UP)
  await server.must(['mkfifo', file('pipe')])
  services = server.start([process.execPath, '-e', SERVICES])
  await services.line((line) => line === 'serving')
})
beforeEach(() => client.moveOn())

const connect = (port: number, ...options: string[]) => `knockclient connect gate ${port} ${options.join(' ')}`
const exec = (port: number, ...command: string[]) => `knockclient exec gate -p ${port} ${command.join(' ')}`

const sees = async () => (await client.connect(server.ipv4, SSH, 300)).saw

describe('ssh gate, with one line in its configuration', () => {
  it('gets in, and nothing is said but by the other side', async () => {
    expect(await shell(client, `${ssh()} echo in`)).toMatchObject({ code: 0, stdout: 'in\n', stderr: '' })
  })

  it.each(['ipv4', 'ipv6'] as const)('gets in by %s', async (family) => {
    const proxy = `-o 'ProxyCommand knockclient connect ${server[family]} %p -k ${named}'`
    expect(await shell(client, `${ssh(proxy)} true`)).toMatchObject({ code: 0, stderr: '' })
  })

  it.each(['gate.example', 'alias.example'])('gets in where its HostName is %s, an alias', async (name) => {
    expect(await shell(client, `${ssh('-o', `HostName=${name}`)} true`)).toMatchObject({ code: 0, stderr: '' })
  })

  it('carries megabytes both ways at once, intact', async () => {
    expect(await shell(client, `${ssh()} cat < ${file('up')} > ${file('down')}`)).toMatchObject({ code: 0, stderr: '' })
    expect(digest(readFileSync(file('down')))).toBe(digest(UP))
  })

  it("takes the command's exit code along", async () => {
    expect((await shell(client, `${ssh()} exit 7`)).code).toBe(7)
  })

  it('opens for this one connection, and for no second', async () => {
    const session = start(`exec ${ssh()} 'echo in; cat' <> ${file('pipe')}`)
    await session.line((line) => line === 'in')
    expect(await sees()).toBe('silence')
    expect(await server.leases(client)).toMatchObject([{ once: true }])
    await session.end()
    expect(await sees()).toBe('silence')
  })

  it('opens for more than one with --no-once, and --close shuts the door at the end', async () => {
    const proxy = "-o 'ProxyCommand knockclient connect %h %p --no-once --close'"
    const session = start(`exec ${ssh(proxy)} 'echo in; read line; echo "$line"' <> ${file('pipe')}`)
    await session.line((line) => line === 'in')
    expect(await sees()).toBe('open')
    writeFileSync(file('pipe'), 'that is all\n')
    await session.line((line) => line === 'that is all')
    await client.becomes(server.ipv4, SSH, 'silence')
  })

  it('loses a tenth of its packets, and gets in 30 times of 30, within 10 seconds each', async () => {
    await server.lose(0.1)
    try {
      const entries: { code: number | null; ms: number }[] = []
      const enter = async (host: Host) => {
        for (let i = 0; i < 10; i++) entries.push(await shell(host, `${ssh()} true`))
      }
      await Promise.all(guests.map(enter))
      expect(entries.map(({ code }) => code)).toEqual(Array.from({ length: 30 }, () => 0))
      expect(Math.max(...entries.map(({ ms }) => ms))).toBeLessThan(10_000)
    } finally {
      await server.lose(0)
    }
  })
})

describe('ssh gate, which is to leave a master in the background (ControlPersist)', () => {
  const persisting = (port: number, ...options: string[]) =>
    ssh(
      '-o',
      'ControlMaster=auto',
      '-o',
      `ControlPath=${file('master')}`,
      '-o',
      'ControlPersist=5',
      '-p',
      String(port),
      ...options,
    )
  const impatient = `-o 'ProxyCommand knockclient connect %h %p --force --wait 1'`

  /** What a terminal has shown of a command of the client's. */
  async function shown(script: string): Promise<string> {
    writeFileSync(file('typed'), script)
    const { stdout } = await shell(client, `SHELL=/bin/sh exec script -qec 'sh ${file('typed')}' /dev/null < /dev/null`)
    return stdout.replaceAll('\r\n', '\n')
  }

  it('shows on the terminal that the door has not opened, and what could be found out', async () => {
    expect((await shown(`${persisting(PRIVATE, impatient)} true`)).split('\n').slice(0, 6)).toEqual([
      expect.stringMatching(/^knockclient: error: 198\S+ port 8005 has not answered within 1 s$/),
      expect.stringMatching(/^knockclient: note: the ports of the knock are silent: /),
      expect.stringMatching(/^knockclient: note: some networks drop them for minutes after /),
      'knockclient: note: it is not known whether this clock is right',
      expect.stringMatching(/^knockclient: note: port 8005 is silent: /),
      expect.stringMatching(/^hint: try --udp, /),
    ])
  })

  it('shows on the terminal that the key is another host’s', async () => {
    expect(await shown(`${persisting(SSH, '-o', 'HostName=wrong.example')} true`)).toMatch(
      /^knockclient: error: the key gate is for /,
    )
  })

  it('shows on the terminal which option of its ProxyCommand is wrong', async () => {
    const misspelt = `-o 'ProxyCommand knockclient connect %h %p --wiat 1'`
    expect(await shown(`${persisting(SSH, misspelt)} true`)).toMatch(/^knockclient: error: unknown option '--wiat'/)
  })

  it('shows nothing but the other side’s words where it gets in', async () => {
    expect(await shown(`${persisting(SSH)} echo in`)).toBe('in\n')
  })

  it('leaves it to ssh to say that a connection has broken that stood: the terminal is the session’s', async () => {
    expect(await shown(`${persisting(BREAKER)} true`)).toMatch(/^kex_exchange_identification: (?!.*knockclient)/s)
  })

  it('shows nothing to who has sent standard error away', async () => {
    expect(await shown(`${persisting(PRIVATE, impatient)} true 2> /dev/null`)).toBe('')
  })

  it('gives up as ever where there is no terminal', async () => {
    const piped = `sleep 3 | knockclient connect gate ${PRIVATE} --force --wait 1 2> /dev/null; echo $?`
    expect((await shell(client, `(setsid --wait sh -c '${piped}') | cat`)).stdout).toBe('3\n')
  })
})

describe('knockclient connect', () => {
  it('tells the service the end of its input, and hears the answer', async () => {
    const { code, stdout, stderr } = await shell(client, `${connect(LISTENER)} < ${file('up')}`)
    expect({ code, stdout, stderr }).toEqual({ code: 0, stdout: digest(UP), stderr: '' })
  })

  it('passes on the end of what the service says, and what is said to it after that', async () => {
    // The reader of its output ends first, and only then lets the writer of its input begin.
    const script = `mkfifo ${file('go')}; (read word < ${file('go')}; cat ${file('up')}) | ${connect(TALKER)} | (cat; echo now > ${file('go')})`
    expect(await shell(client, script)).toMatchObject({ code: 0, stdout: 'that is all', stderr: '' })
    await services.line((line) => line === `heard ${UP.length}`)
  })

  it('says in one line that the connection has broken', async () => {
    const { code, stdout, stderr } = await shell(client, `echo hello | ${connect(BREAKER)}`)
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' })
    expect(stderr).toMatch(/^knockclient: error: 198\S+ port 8003: the connection broke: .*ECONNRESET\n$/)
  })

  it('says that the service refuses, and what to do', async () => {
    const { code, stderr } = await shell(client, `${connect(NOBODY)} < /dev/null`)
    expect({ code, stderr }).toEqual({
      code: 1,
      stderr: expect.stringMatching(
        new RegExp(
          `^knockclient: error: ${server.ipv4} port ${NOBODY} refuses connections\nknockclient: note: .*\nhint: start the service on port ${NOBODY}, or .*\n$`,
        ),
      ),
    })
  })

  it('says that the door has not opened, and what could be found out, on standard error', async () => {
    const { code, stdout, stderr } = await shell(client, `${connect(PRIVATE, '--force', '--wait', '1')} < /dev/null`)
    expect({ code, stdout }).toEqual({ code: 3, stdout: '' })
    expect(stderr.split('\n')).toEqual([
      expect.stringMatching(/^knockclient: error: 198\S+ port 8005 has not answered within 1 s$/),
      expect.stringMatching(/^knockclient: note: the ports of the knock are silent: /),
      expect.stringMatching(/^knockclient: note: some networks drop them for minutes after /),
      'knockclient: note: it is not known whether this clock is right',
      expect.stringMatching(/^knockclient: note: port 8005 is silent: it is closed, or /),
      expect.stringMatching(/^hint: try --udp, /),
      'hint: check the clock with --time-source https://HOST',
      expect.stringMatching(/^hint: read the server's log: /),
      '',
    ])
  })

  it('ends quietly when nobody reads its output any more', async () => {
    const script = `(${connect(BABBLER)} <> ${file('pipe')}; echo $? >&2) | head -c 6`
    expect(await shell(client, script)).toMatchObject({ stdout: 'babble', stderr: '1\n' })
  })

  it('knocks anew where its one connection has been lost on the way', async () => {
    const lost = ['PREROUTING', '-i', 'eth0', '-p', 'tcp', '--sport', String(LISTENER), '-j', 'DROP']
    const since = gate.daemon.lines.length
    const accepted = logged('accepted', { source: client.ipv4 })
    await client.must(['iptables', '-t', 'raw', '-A', ...lost])
    const session = start(`${connect(LISTENER)} < /dev/null`)
    await until(() => gate.daemon.lines.slice(since).filter(accepted).length > 1, 'a second knock', 20_000)
    await client.must(['iptables', '-t', 'raw', '-D', ...lost])
    await session.line((line) => line === digest(Buffer.alloc(0)), 0, 30_000)
    expect(await session.exited).toEqual({ code: 0, signal: null })
  })

  it('keeps the door open for as long as the connection lives, with --renew', async () => {
    const session = start(`exec ${connect(LISTENER, '--renew', '-t', '9s', '-v')} <> ${file('pipe')}`)
    await session.line((line) => line.includes('connected to'))
    const end = async () => Number((await server.leases(client))[0]?.until)
    const first = await end()
    await until(async () => (await end()) > first, 'the lease is made longer')
    expect((await client.connect(server.ipv4, LISTENER)).saw).toBe('open')
    await session.end()
  })
})

describe('a machine that has moved to another network', () => {
  const NAMES = [
    ['connect', () => connect(LISTENER, '--renew', '--close', '-t', '3s', '-v'), 'connected to'],
    ['connect, by UDP', () => connect(LISTENER, '--udp', '--renew', '--close', '-t', '3s', '-v'), 'connected to'],
    ['exec', () => `${exec(LISTENER, '--close', '--', 'sh', '-c', "'echo running; cat'")}`, 'running'],
  ] as const

  it.each(NAMES)('has nothing opened or closed there by %s', async (name, script, begun) => {
    const session = start(`exec ${script()} <> ${file('pipe')}`)
    await session.line((line) => line.includes(begun))
    await client.moveOn()
    const since = gate.daemon.lines.length
    if (name !== 'exec') await session.line((line) => / (knocked|could not knock) again/.test(line))
    await session.end()
    const said = session.lines.filter((line) =>
      line.includes('could not close the port, which stays open until its time is up: '),
    )
    expect(said).toEqual([expect.stringContaining('EADDRNOTAVAIL')])
    // What was sent before has been heard when this knock is.
    await shell(client, `knockclient -k gate -p ${SSH} --wait`)
    const heard = gate.daemon.lines.slice(since).filter(logged('accepted', { source: client.ipv4 }))
    expect(heard.map((line) => JSON.parse(line).service)).toEqual([`${SSH}/tcp`])
  })
})

describe('sshd, whose complaints fail2ban counts', () => {
  const open = `knockclient -k gate -p ${SSH} --wait`
  /** What it complains of while something is done, such as a connection that was of no use to who made it. The door is open before it. */
  async function complaints(work: () => Promise<unknown>): Promise<string[]> {
    // It has said what it has to say of earlier connections when it has served another.
    const serve = () => shell(client, `${ssh('-o', 'ProxyCommand=none', '-o', `HostName=${server.ipv4}`)} true`)
    await shell(client, open)
    await serve()
    const since = site.sshd.lines.length
    await work()
    await serve()
    return site.sshd.lines.slice(since).filter((line) => /^kex_exchange_identification|^Connection (closed|reset) by/.test(line))
  }

  it('has none of connect, though the port be open for more than one connection', async () => {
    const script = Array.from(
      { length: 5 },
      () => `${ssh()} true && ${ssh("-o 'ProxyCommand knockclient connect %h %p --no-once'")} true`,
    )
    expect(await complaints(() => shell(client, script.join(' && ')))).toEqual([])
  })

  it.each([
    ['--wait', open],
    ['exec', `knockclient exec gate -p ${SSH} -- true`],
  ])('has each look of %s ended by a reset', async (_, command) => {
    const ends = `src host ${client.ipv4} and dst port ${SSH} and tcp[tcpflags] & (tcp-fin|tcp-rst) != 0`
    const tcpdump = server.start(['tcpdump', '-Z', 'root', '--immediate-mode', '-l', '-nn', '-i', 'eth0', ends])
    await tcpdump.line((line) => line.includes('listening on'))
    const since = tcpdump.lines.length
    for (let i = 0; i < 6; i++) {
      await shell(client, `${command} && knockclient -k gate -p ${SSH} --close`)
      await until(async () => (await server.leases(client)).length === 0, 'the door is shut')
    }
    await until(() => tcpdump.lines.slice(since).length >= 6, 'they have ended')
    await tcpdump.end('SIGINT')
    const ended = tcpdump.lines.slice(since).flatMap((line) => line.match(/Flags \[[^\]]*\]/) ?? [])
    expect(ended.filter((flags) => !flags.includes('R'))).toEqual([])
  })
})

describe('a host that is not the key’s', () => {
  /** What arrives at it from the client while something is done. */
  async function arriving(work: () => Promise<void>) {
    const tape = await wrong.capture()
    try {
      await work()
      const mark = 20_000
      await client.replay([{ protocol: 'udp', port: mark }], wrong.ipv4)
      await until(async () => (await tape.taps()).some(({ port }) => port === mark), 'the mark on the tape')
      return (await tape.taps()).filter(({ source, port }) => source === client.ipv4 && port !== mark)
    } finally {
      await tape.end()
    }
  }
  const refusal = (host: string) =>
    `knockclient: error: the key gate is for ${server.ipv4}, and ${host} is another host\nhint: use another key, or -r ${host} if you mean that host\n`

  it.each<[string, (host: string) => string]>([
    ['connect', (host) => `knockclient connect ${host} ${SSH}`],
    ['connect, with -k', (host) => `knockclient connect ${host} ${SSH} -k gate`],
    ['connect, with --key-fd', (host) => `knockclient connect ${host} ${SSH} --key-fd 9 9< ${gate.key}`],
    ['exec', (host) => `knockclient exec ${host} -p ${SSH} -- true`],
  ])('hears nothing of a knock that is said to it by mistake: %s', async (_, words) => {
    const taps = await arriving(async () => {
      for (const host of [wrong.ipv4, 'wrong.example'])
        expect(await shell(client, words(host))).toMatchObject({ code: 2, stdout: '', stderr: refusal(host) })
    })
    expect(taps).toEqual([])
  })

  it('hears nothing of ssh, where every host has the ProxyCommand', async () => {
    const taps = await arriving(async () => {
      const { code, stderr } = await shell(client, `${ssh('-o', 'HostName=wrong.example')} true`)
      expect({ code, stderr }).toEqual({ code: 255, stderr: expect.stringContaining(refusal('wrong.example')) })
    })
    expect(taps).toEqual([])
  })

  it('hears nothing where its name has the address of the key’s, too: the knock goes there', async () => {
    const taps = await arriving(async () => {
      expect(await shell(client, `${ssh('-o', 'HostName=twofold.example')} true`)).toMatchObject({ code: 0, stderr: '' })
    })
    expect(taps).toEqual([])
  })

  it('hears the knock that -r means for it', async () => {
    const taps = await arriving(async () => {
      await shell(client, `knockclient connect gate ${SSH} -r wrong.example --wait 1 < /dev/null`)
    })
    expect(taps.length).toBeGreaterThan(8)
  })
})

describe('knockclient exec', () => {
  it('lets rsync in by ssh, and shuts the door behind it', async () => {
    const plain = `ssh -F ${file('ssh_config')} -o ProxyCommand=none -o HostName=${server.ipv4}`
    const copy = exec(SSH, '--close', '--', 'rsync', '-a', '-e', `'${plain}'`, file('up'), `gate:${file('copy')}`)
    expect(await shell(client, copy)).toMatchObject({ code: 0, stdout: '', stderr: '' })
    expect(digest(readFileSync(file('copy')))).toBe(digest(UP))
    await client.becomes(server.ipv4, SSH, 'silence')
  })

  it("takes the command's exit code", async () => {
    expect((await shell(client, exec(LISTENER, '--', 'sh', '-c', "'exit 7'"))).code).toBe(7)
  })

  it('passes signals on to the command', async () => {
    const script = `'trap "echo ended; exit 9" TERM; echo running; while :; do sleep 0.1; done'`
    const running = start(`exec ${exec(LISTENER, '--', 'sh', '-c', script)}`)
    await running.line((line) => line === 'running')
    expect(await running.end()).toEqual({ code: 9, signal: null })
    // Its last words may come behind its end.
    await running.line((line) => line === 'ended')
  })

  it('says that there is no such command', async () => {
    const { code, stderr } = await shell(client, exec(LISTENER, '--', 'no-such-command'))
    expect(code).toBe(1)
    expect(stderr).toMatch(/^knockclient: error: no-such-command: cannot be run: spawn no-such-command E\w+\nhint: .*\n$/)
  })

  it('runs nothing where the door does not open', async () => {
    const { code, stdout, stderr } = await shell(client, exec(PRIVATE, '--force', '--wait', '1', '--', 'echo', 'run'))
    expect({ code, stdout }).toEqual({ code: 3, stdout: '' })
    expect(stderr).toMatch(
      /has not answered within 1 s\n(knockclient: note: .*\n)+knockclient: note: port 8005 is silent.*\nhint: /,
    )
  })
})
