import { existsSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { logged } from '../lab/gate'
import type { Host } from '../lab/host'
import { knocked } from '../lab/knocks'
import type { Child } from '../lab/processes'
import { until } from '../lab/waiters'
import { useGate } from './use-gate'

const SSH = 22
const WEB = 443
const IN_POOL = 50_000
const FAMILIES = ['iptables', 'ip6tables']
const KNOCKTURN = join(import.meta.dirname, '../../bin/knockturn')
const ESTABLISHED = '-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT'
const JUMP = '-A INPUT -j KNOCKTURN'

const { server, client, stranger, admin, gate, lab } = useGate(['client', 'stranger', 'admin'], {
  backend: 'iptables',
  serve: [SSH, WEB],
})

/** In front of all: connections that a lease has let in, and that begin once more. */
const AGAIN =
  '-A INPUT ! -i lo -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -m conntrack ! --ctstate NEW -m connlabel --label "117" -j KNOCKTURN-AGAIN'

/** Every rule of the filter tables. */
const rules = async (host: Host) =>
  (await Promise.all(FAMILIES.map((iptables) => host.must([iptables, '-S'])))).join('').split('\n')
const inputOf = (all: string[]) => all.filter((line) => line.startsWith('-A INPUT'))
const sees = async (port = SSH) => (await client.connect(server.ipv4, port)).saw

describe('knockturn firewall', () => {
  /** Only `install` needs the config. */
  const firewall = (...argv: string[]) =>
    admin.run([KNOCKTURN, 'firewall', ...argv, ...(argv[0] === 'install' ? ['--config', gate.config] : [])])

  /** An administrator who had rules before us. */
  const ALLOWED = [
    '-A INPUT -i lo -j ACCEPT',
    ESTABLISHED,
    '-A INPUT -p tcp -m tcp --dport 80 -m comment --comment "our web" -j ACCEPT',
  ]
  const give = async (lines: string[]) => {
    for (const iptables of FAMILIES) {
      await admin.must([iptables, '-F'])
      await admin.must([iptables, '-X'])
      await admin.must([`${iptables}-restore`, '--noflush'], { input: ['*filter', ...lines, 'COMMIT', ''].join('\n') })
    }
  }

  beforeEach(() => give(ALLOWED))

  it('install stands right behind the rule for established connections, and leaves every other rule as it was', async () => {
    expect((await firewall('install')).code).toBe(0)
    const [lo, established, web] = ALLOWED
    const family = [AGAIN, lo, established, JUMP, web]
    expect(inputOf(await rules(admin))).toEqual([...family, ...family])
  })

  it('install brings its own rule for established connections where there is none', async () => {
    await give(['-A INPUT -i lo -j ACCEPT'])
    await firewall('install')
    const all = await rules(admin)
    expect(inputOf(all).slice(0, 3)).toEqual([AGAIN, JUMP, '-A INPUT -i lo -j ACCEPT'])
    expect(all.find((line) => line.startsWith('-A KNOCKTURN '))).toBe(ESTABLISHED.replace('INPUT', 'KNOCKTURN'))
  })

  it('install is the same twice as once, and keeps the leases that are in force', async () => {
    await firewall('install')
    await admin.must(['iptables', '-A', 'KNOCKTURN-LEASES', '-s', client.ipv4, '-p', 'tcp', '--dport', '22', '-j', 'ACCEPT'])
    const before = await rules(admin)
    expect((await firewall('install')).code).toBe(0)
    expect(await rules(admin)).toEqual(before)
  })

  it('install puts back what was lost of it', async () => {
    await firewall('install')
    const before = await rules(admin)
    await admin.must(['iptables', '-F', 'KNOCKTURN-TAPS'])
    await admin.must(['ip6tables', '-D', 'INPUT', '-j', 'KNOCKTURN'])
    await firewall('install')
    expect(await rules(admin)).toEqual(before)
  })

  it('remove takes everything away and leaves the rest as it was', async () => {
    const before = await rules(admin)
    await firewall('install')
    expect(await rules(admin)).not.toEqual(before)
    expect((await firewall('remove')).code).toBe(0)
    expect(await rules(admin)).toEqual(before)
  })

  it.each(['install', 'remove'])('%s sweeps up what a trial that was killed has left', async (what) => {
    await firewall('install')
    const before = what === 'install' ? await rules(admin) : []
    for (const iptables of FAMILIES) {
      await admin.must([iptables, '-N', 'KNOCKTURN-CHECK'])
      await admin.must([iptables, '-A', 'KNOCKTURN-CHECK', '-j', 'ACCEPT'])
    }
    expect((await firewall(what)).code).toBe(0)
    const after = await rules(admin)
    expect(after.filter((line) => line.includes('KNOCKTURN'))).toEqual(before.filter((line) => line.includes('KNOCKTURN')))
  })

  it('remove where nothing is changes nothing', async () => {
    const before = await rules(admin)
    expect((await firewall('remove')).code).toBe(0)
    expect(await rules(admin)).toEqual(before)
  })

  it.each(['install', 'remove'])('%s --print prints what it would do and changes nothing', async (what) => {
    if (what === 'remove') await firewall('install')
    const before = await rules(admin)
    const { code, stdout } = await firewall(what, '--print')
    expect([code, stdout.match(/^\*filter$/gm)?.length]).toEqual([0, 2])
    expect(await rules(admin)).toEqual(before)
  })

  it('show shows our chains and our jump, and nothing else', async () => {
    await firewall('install')
    const { stdout } = await firewall('show')
    const ours = (await rules(admin)).filter((line) => line.includes('KNOCKTURN'))
    expect(stdout.split('\n').filter((line) => line.startsWith('-'))).toEqual(ours)
  })

  /** One line on standard error, exit 1, and nothing is changed. */
  const expectRefusal = async (says: RegExp) => {
    const before = await rules(admin)
    const { code, stdout, stderr } = await firewall('install')
    expect([code, stdout, stderr.trimEnd().split('\n').length]).toEqual([1, '', 1])
    expect(stderr).toMatch(says)
    expect(await rules(admin)).toEqual(before)
  }

  it.each(['ipv4', 'ipv6'] as const)(
    'install refuses to shut a service in the pool that somebody is connected to (%s)',
    async (family) => {
      const port = family === 'ipv4' ? IN_POOL : IN_POOL + 1
      await admin.service(port)
      const connection = await client.hold(admin[family], port)
      await expectRefusal(new RegExp(`^knockturn: error: .*port ${port}`))
      expect(await connection.isAlive()).toBe(true)
      await connection.end()
      // Its other end waits a moment until it is really gone.
      await until(async () => (await firewall('install')).code === 0, 'an installation when nobody is connected')
    },
  )

  it('install refuses to cut off a connection of ours from a port in the pool where nothing accepts established ones', async () => {
    await stranger.service(WEB)
    const range = '/proc/sys/net/ipv4/ip_local_port_range'
    const before = await admin.must(['cat', range])
    await admin.must(['sh', '-c', `echo ${IN_POOL + 100} ${IN_POOL + 200} > ${range}`])
    const connection = await admin.hold(stranger.ipv4, WEB)
    await admin.must(['sh', '-c', `echo ${before.trim()} > ${range}`])
    await give([])
    await expectRefusal(/^knockturn: error: .*ESTABLISHED,RELATED -j ACCEPT/)
    await give(ALLOWED)
    expect([(await firewall('install')).code, await connection.isAlive()]).toEqual([0, true])
    await connection.end()
  })

  /** A node process on the admin's host, as any local user can start one; it says "there" when it has what it wants. */
  const local = async (script: string) => {
    const limit = 'ulimit -n "$(ulimit -Hn)" && exec "$@"'
    const child = admin.start(['sh', '-c', limit, 'sh', process.execPath, '-e', script])
    await child.line((line) => line === 'there')
    return child
  }

  it('install refuses by hand, and warns and goes on where it is unattended', async () => {
    const port = IN_POOL + 10
    await admin.service(port)
    const connection = await client.hold(admin.ipv4, port)
    const says = new RegExp(`the connection from ${client.ipv4} to port ${port} uses a service in the pool`)
    await expectRefusal(says)
    const { code, stderr } = await firewall('install', '--unattended')
    expect([code, stderr]).toEqual([0, expect.stringMatching(new RegExp(`^knockturn: warning: .*${says.source}`))])
    expect(inputOf(await rules(admin))).toContain(JUMP)
    await connection.end()
  })

  it('install refuses under the unit’s sandbox as elsewhere, where of /proc there are processes only', async () => {
    const port = IN_POOL + 11
    await admin.service(port)
    const connection = await client.hold(admin.ipv4, port)
    const sandbox = 'mount -t proc -o subset=pid proc /proc && exec "$@"'
    const install = [KNOCKTURN, 'firewall', 'install', '--config', gate.config]
    const { code, stderr } = await admin.run(['unshare', '--mount', 'sh', '-c', sandbox, 'sh', ...install])
    expect([code, stderr]).toEqual([1, expect.stringMatching(`^knockturn: error: the connection from ${client.ipv4}`)])
    await connection.end()
  })

  describe('install is not held up by a local user who', () => {
    const connectsTo = (address: string, port: number, from = '') =>
      local(`
        const { createServer, connect } = require('node:net')
        createServer(() => {}).listen(${port}, '${address}', () =>
          connect({ host: '${address}', port: ${port}, localAddress: '${from}' || undefined }, () => console.log('there')))`)
    const installs = async (user: Child) => {
      const { code, stderr } = await firewall('install')
      const warnings = stderr.split('\n').slice(0, -1)
      expect([code, warnings.filter((line) => !line.startsWith('knockturn: warning: '))]).toEqual([0, []])
      await user.end('SIGKILL')
      return warnings
    }

    it.each(['ipv4', 'ipv6'] as const)('connects to the host’s own address (%s)', async (family) => {
      await installs(await connectsTo(admin[family], IN_POOL + 20))
    })

    it('connects from one of its addresses to another', async () => {
      await admin.addAddress('198.51.100.251/24')
      await installs(await connectsTo(admin.ipv4, IN_POOL + 21, '198.51.100.251'))
      await installs(await connectsTo('198.51.100.251', IN_POOL + 22, admin.ipv4))
    })

    it('connects to the address of an interface without a carrier', async () => {
      await admin.must(['ip', 'link', 'add', 'cold', 'type', 'veth', 'peer', 'name', 'off'])
      await admin.must(['ip', 'address', 'add', '192.0.2.1/24', 'dev', 'cold'])
      await admin.must(['ip', 'link', 'set', 'cold', 'up'])
      await until(async () => (await admin.must(['ip', 'link', 'show', 'cold'])).includes('NO-CARRIER'), 'it has no carrier')
      await installs(await connectsTo('192.0.2.1', IN_POOL + 23, admin.ipv4))
    })

    it('listens on the port by which this machine speaks to another', async () => {
      await stranger.service(WEB + 1)
      await installs(
        await local(`
          const { createServer, connect } = require('node:net')
          connect({ host: '${stranger.ipv4}', port: ${WEB + 1}, localPort: ${IN_POOL + 24} }, () =>
            createServer(() => {}).listen(${IN_POOL + 24}, '127.0.0.1', () => console.log('there')))`),
      )
    })

    it('listens on every port of the pool, of which it says little', async () => {
      const user = await local(`
        const { createServer } = require('node:net')
        const { createSocket } = require('node:dgram')
        let left = 2 * 16_384
        const one = () => --left || console.log('there')
        for (let port = 49_152; port <= 65_535; port++) {
          createServer().listen(port, one).on('error', one)
          createSocket('udp4').bind(port, one).on('error', one)
        }`)
      const warnings = await installs(user)
      const isOfSockets = (line: string) =>
        line.includes('is in use and lies in the pool') || line.includes('more warnings of this kind')
      const said = warnings.filter(isOfSockets)
      expect(said).toHaveLength(11)
      expect(said.at(-1)).toMatch(/\d{4,} more warnings of this kind: run "ss -tuan" to see them$/)
    })

    it('has thousands of connections, open and in TIME_WAIT', async () => {
      const user = await local(`
        const { createServer, connect } = require('node:net')
        let left = 4_000
        const server = createServer((socket) => socket.on('error', () => {})).listen(${IN_POOL + 25}, '${admin.ipv4}', () => {
          for (let i = 0; i < 4_000; i++)
            connect(${IN_POOL + 25}, '${admin.ipv4}', function () {
              if (i % 2) this.end()
              if (--left === 0) console.log('there')
            })
        })`)
      await installs(user)
    })
  })

  it('nothing is ever sent back from the pool: no answer to a SYN, an ACK or a datagram', async () => {
    // A connection of the client to the stranger, whose address then becomes the admin's: its packets are ACKs out of nowhere.
    const [moved, mac] = ['198.51.100.250', (await admin.must(['cat', '/sys/class/net/eth0/address'])).trim()]
    await stranger.service(IN_POOL + 2)
    await stranger.addAddress(`${moved}/24`)
    const connection = await client.hold(moved, IN_POOL + 2)
    await stranger.must(['ip', 'address', 'del', `${moved}/24`, 'dev', 'eth0'])
    await admin.addAddress(`${moved}/24`)
    await client.must(['ip', 'neigh', 'replace', moved, 'lladdr', mac, 'dev', 'eth0'])

    await firewall('install')
    const wire = lab.wire.start([
      'tcpdump',
      '-Z',
      'root',
      '--immediate-mode',
      '-l',
      '-nn',
      '-i',
      'admin',
      'not arp and (ip or ip6)',
    ])
    await wire.line((line) => line.includes('listening on'))
    for (const address of [admin.ipv4, admin.ipv6]) {
      const pool = [49_152, IN_POOL + 300, 65_535]
      await client.replay(
        pool.flatMap((port) => [
          { protocol: 'tcp', port },
          { protocol: 'udp', port },
        ]),
        address,
      )
    }
    expect(await connection.isAlive(500)).toBe(false)
    await connection.end()
    // A port outside the pool answers, as the administrator's rules let it: so all answers before are on the tape.
    for (const address of [admin.ipv4, admin.ipv6]) expect((await client.connect(address, 9)).saw).toBe('refused')
    const answer = (address: string) => (line: string) => line.includes(` ${address}.9 > `) && line.includes('Flags [R')
    await wire.line(answer(admin.ipv4))
    await wire.line(answer(admin.ipv6))
    await wire.end()

    const probes = wire.lines.filter((line) => line.includes(` > ${moved}.${IN_POOL + 2}: Flags [P`))
    expect(probes).not.toEqual([])
    const sent = wire.lines.filter((line) =>
      [moved, admin.ipv4, admin.ipv6].some(
        (address) => line.includes(` ${address}`) && new RegExp(`IP6? ${address}(\\.\\d+)? > `).test(line),
      ),
    )
    const answers = sent.filter((line) => !answer(admin.ipv4)(line) && !answer(admin.ipv6)(line) && !line.includes('neighbor'))
    expect(answers).toEqual([])
  })
})

describe('a daemon', () => {
  let daemon: Child

  const start = async () => {
    daemon = await gate.startDaemon()
  }
  const stop = (signal: NodeJS.Signals) => daemon.end(signal)
  const open = (...options: string[]) => knocked(client, daemon, gate.key, '-p', String(SSH), ...options)
  const leases = () => server.leases(client)

  beforeAll(() => {
    daemon = gate.daemon
  })
  beforeEach(async () => {
    await client.moveOn()
    if (daemon.child.exitCode !== null || daemon.child.signalCode !== null) await start()
  })

  it.each(['SIGTERM', 'SIGKILL'] as const)(
    'leaves running leases to the kernel at %s; the next one keeps them, and closes them',
    async (signal) => {
      await open()
      const before = await leases()
      await stop(signal)
      expect([await leases(), await sees()]).toEqual([before, 'open'])
      await start()
      expect([await leases(), await sees()]).toEqual([before, 'open'])
      await knocked(client, daemon, gate.key, '--close')
      expect([await leases(), await sees()]).toEqual([[], 'silence'])
    },
  )

  it('extends a lease that it has read back', async () => {
    const first = await open('-t', '1m')
    await stop('SIGTERM')
    await start()
    expect((await open('-t', '10m')).leases).toEqual(first.leases)
    expect(await leases()).toHaveLength(1)
  })

  it('ends a lease that it has read back', async () => {
    await open('-t', '6s')
    await stop('SIGKILL')
    await start()
    await until(async () => (await leases()).length === 0, 'the rule is gone')
  })

  it('keeps a lock that it has read back', async () => {
    const since = daemon.lines.length
    const key = await gate.newKey('locker', '--lock')
    await daemon.line(logged('reloaded'), since)
    await knocked(client, daemon, key, '--lock', '-t', '1h')
    await stop('SIGKILL')
    await start()
    expect(await knocked(client, daemon, key, '-p', String(SSH))).toMatchObject({ msg: 'refused', refusal: 'locked' })
    expect(await sees()).toBe('silence')
  })

  it('ends in order at SIGTERM', async () => {
    expect(await stop('SIGTERM')).toEqual({ code: 0, signal: null })
  })

  it('leaves no tcpdump behind when it is killed', async () => {
    await stop('SIGKILL')
    await until(async () => (await server.processes()).length === 0, 'nothing runs on the server')
  })

  it('sweeps the lease that ended while it was away', async () => {
    await open('-t', '5s')
    await stop('SIGKILL')
    await client.becomes(server.ipv4, SSH, 'silence')
    expect(await leases()).toHaveLength(1)
    await start()
    expect(await leases()).toEqual([])
  })

  it.each([
    ['removed', async (id: string) => rmSync(join(gate.keys, `${id}.key`))],
    ['revoked', async (id: string) => gate.knockturn('key', 'revoke', id, '--keys', gate.keys)],
  ])('sweeps the leases of a key that was %s while it was away, and keeps the others', async (what, act) => {
    const id = `${what}-away`
    const since = daemon.lines.length
    const key = await gate.newKey(id)
    await daemon.line(logged('reloaded'), since)
    await knocked(client, daemon, key, '-p', String(SSH))
    await open('-p', String(WEB))
    await stop('SIGTERM')
    await act(id)
    await start()
    const left = await leases()
    expect([left.length, left[0].key === 'traveller', await sees(), await sees(WEB)]).toEqual([1, true, 'silence', 'open'])
  })

  it('closes the leases of a key as soon as it is revoked, and opens nothing for it any more', async () => {
    const since = daemon.lines.length
    const key = await gate.newKey('revoked')
    await daemon.line(logged('reloaded'), since)
    await knocked(client, daemon, key, '-p', String(SSH))
    await open('-p', String(WEB))
    await gate.knockturn('key', 'revoke', 'revoked', '--keys', gate.keys)
    await client.becomes(server.ipv4, SSH, 'silence')
    expect([(await leases()).length, await sees(WEB)]).toEqual([1, 'open'])
    expect(await knocked(client, daemon, key, '-p', String(SSH))).toMatchObject({ msg: 'refused', refusal: 'revoked' })
    expect(await sees()).toBe('silence')
  })

  it('says that a key has a pool which the log rules do not hear', async () => {
    const since = daemon.lines.length
    await gate.newKey('elsewhere', '--pool', '20000-39999')
    await daemon.line(logged('the log rules do not cover the pools of all keys: run "knockturn firewall install"'), since)
    await gate.knockturn('key', 'revoke', 'elsewhere', '--keys', gate.keys)
  })

  it('drops no lease at SIGHUP, and hears on', async () => {
    await open()
    const before = await leases()
    const since = daemon.lines.length
    daemon.child.kill('SIGHUP')
    await daemon.line(logged('reloaded'), since)
    expect([await leases(), await sees()]).toEqual([before, 'open'])
    expect(await open('-p', String(WEB))).toMatchObject({ msg: 'accepted' })
  })

  it('starts tcpdump again when that is killed, and hears on', async () => {
    const isTcpdump = (pid: number) =>
      existsSync(`/proc/${pid}`) && readFileSync(`/proc/${pid}/comm`, 'utf8').trim() === 'tcpdump'
    const [tcpdump, ...others] = (await server.processes()).filter(isTcpdump)
    expect(others).toEqual([])
    const since = daemon.lines.length
    process.kill(tcpdump, 'SIGKILL')
    await daemon.line(logged('tcpdump restarted'), since)
    expect([await open(), await sees()]).toMatchObject([{ msg: 'accepted' }, 'open'])
  })

  it('ends without a word of its tcpdump where both get the signal, as systemd sends it', async () => {
    const isTcpdump = (pid: number) => readFileSync(`/proc/${pid}/comm`, 'utf8').trim() === 'tcpdump'
    const tcpdump = (await server.processes()).find(isTcpdump) as number
    const since = daemon.lines.length
    process.kill(tcpdump, 'SIGTERM')
    await until(() => !existsSync(`/proc/${tcpdump}`), 'tcpdump is gone')
    expect(await stop('SIGTERM')).toEqual({ code: 0, signal: null })
    expect(daemon.lines.slice(since).map((line) => JSON.parse(line).msg)).toEqual(['ended'])
  })

  it('is refused beside another on the same ledger, which goes on', async () => {
    const { code, stdout, stderr } = await server.run(gate.command)
    expect([code, stdout, stderr.trimEnd().split('\n').length]).toEqual([1, '', 2])
    expect(stderr).toMatch(/^knockdaemon: error: .*another daemon uses the ledger\nhint: stop that daemon/)
    expect(await open()).toMatchObject({ msg: 'accepted' })
  })
})
