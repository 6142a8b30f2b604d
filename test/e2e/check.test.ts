import { chmodSync, mkdtempSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { logged, PRIVILEGES } from '../lab/gate'
import { knocked } from '../lab/knocks'
import type { Child } from '../lab/processes'
import { until } from '../lab/waiters'
import { useGate } from './use-gate'
import { xtablesWithout } from './xtables'

const SSH = 22
const FAMILIES = ['iptables', 'ip6tables']
/** Where something is missing, a check runs iptables dozens of times. */
const PATIENCE = 60_000
/** Nobody's privileges: those of the daemon without its one capability. */
const PLAIN = PRIVILEGES.map((word) => word.replace(',+net_admin', ''))
const NO_TIME =
  'the kernel cannot end leases (no match "time"): the daemon ends them, and all of them when it is stopped; if it is killed, open ports stay open until it runs again'

const { server, client, gate } = useGate(['client'], { backend: 'iptables', serve: [SSH] })
let text: string
let daemon: Child | undefined

beforeAll(async () => {
  await gate.daemon.end()
  text = readFileSync(gate.config, 'utf8')
})
beforeEach(() => client.moveOn())
afterEach(async () => {
  await daemon?.end('SIGKILL')
  daemon = undefined
  writeFileSync(gate.config, text)
})

/** A folder of programs that come before the system's. @returns the environment in which they do */
function shadow(programs: Record<string, string>) {
  const folder = mkdtempSync(join(gate.folder, 'bin-'))
  for (const [name, script] of Object.entries(programs)) {
    writeFileSync(join(folder, name), `#!/bin/sh\n${script}\n`)
    chmodSync(join(folder, name), 0o755)
  }
  chmodSync(folder, 0o755)
  return { env: { PATH: `${folder}:${process.env.PATH}:/usr/sbin:/sbin` } }
}

/** An iptables that can't make rules with a match or target. */
const without = (name: string) => shadow(xtablesWithout(name, join(gate.folder, `no-${name}`)))

/** Writes the config with these lines for [taps], and what may stand behind them. */
const configure = (taps: string[]) => writeFileSync(gate.config, text.replace(/\[taps\][^[]*/, `[taps]\n${taps.join('\n')}\n`))
const LOGGED = ['source = "file"', 'file = "knocks.log"', 'target = "log"']
const install = () => gate.knockturn('firewall', 'install', '--config', gate.config)
const rules = async () => (await Promise.all(FAMILIES.map((iptables) => server.must([iptables, '-S'])))).join('')
const check = async (options: { env?: NodeJS.ProcessEnv } = {}, before: readonly string[] = PRIVILEGES) => {
  const { code, stdout, stderr } = await server.run([...before, ...gate.knockdaemon, '--config', gate.config, '--check'], {
    timeoutMs: PATIENCE,
    ...options,
  })
  return { code, notes: stdout.split('\n').slice(0, -1), faults: stderr.split('\n').slice(0, -1) }
}
const WELL = () => ({ code: 0, notes: [`${gate.config}: no fault`], faults: [] })
/** A fault alone. */
const fault = (says: string | RegExp, ...hint: RegExp[]) => ({
  code: 1,
  notes: [],
  faults: [says, ...hint].map((one) => expect.stringMatching(one)),
})
const start = async (options?: { env?: NodeJS.ProcessEnv }) => {
  daemon = server.start(gate.command, options)
  await daemon.line(logged('ready'))
  return daemon
}

describe('--check of a server in order', () => {
  it.each([
    ['the daemon’s user', PRIVILEGES],
    ['root', []],
  ])('finds nothing as %s, and leaves everything as it was', async (_, before) => {
    const files = () => readdirSync(gate.folder).map((name) => [name, statSync(join(gate.folder, name)).uid])
    const was = [await rules(), files(), readFileSync(gate.ledger, 'utf8')]
    expect(await check({}, before)).toEqual(WELL())
    expect([await rules(), files(), readFileSync(gate.ledger, 'utf8')]).toEqual(was)
    expect(await server.processes()).toEqual([])
  })

  it.each([
    ['datagrams are heard', ['source = "nflog"', '[datagram]', 'ports = [53, 443]']],
    ['the kernel’s log is heard', LOGGED],
  ])('finds nothing where %s', async (_, taps) => {
    writeFileSync(join(gate.folder, 'knocks.log'), '')
    configure(taps)
    await install()
    expect(await check()).toEqual(WELL())
    writeFileSync(gate.config, text)
    await install()
  })

  it.each([
    ['the daemon’s user', PRIVILEGES],
    ['root', []],
  ])('finds no fault beside the daemon, and says that it runs (%s)', async (_, before) => {
    const running = await start()
    const since = running.lines.length
    const { code, notes, faults } = await check({}, before)
    expect([code, notes.at(-1), faults]).toEqual([0, WELL().notes[0], []])
    expect(notes.slice(0, -1)).toEqual([
      expect.stringMatching(/^note: a daemon is running \(process \d+\): it uses the ledger and/),
    ])
    expect((await knocked(client, running, gate.key, '-p', String(SSH))).msg).toBe('accepted')
    expect(running.lines.slice(since).map((line) => JSON.parse(line).msg)).toEqual(['accepted'])
  })

  it('says what it has no right to try, and claims nothing of that', async () => {
    expect(await check({}, PLAIN)).toEqual({
      code: 0,
      notes: [
        'note: not checked whether the services are open to everyone: reading the firewall requires CAP_NET_ADMIN',
        "note: not checked: whether the firewall accepts the daemon's rules: this requires cap_net_admin: run this as root",
        'note: not checked: whether tcpdump can read NFLOG group 5: this requires cap_net_admin: run this as root',
        `${gate.config}: no fault in what was checked`,
      ],
      faults: [],
    })
  })

  it('says that it cannot see who holds the ledger, and tries no capture then', async () => {
    await start()
    const { code, notes, faults } = await check({}, PLAIN)
    expect([code, faults, notes.at(-1)]).toEqual([0, [], `${gate.config}: no fault in what was checked`])
    expect(notes.slice(0, -1)).toEqual([
      expect.stringContaining('not checked whether the services are open to everyone'),
      `note: not checked: which process uses ${gate.ledger}, and whether taps arrive: run this as root to see; if it is the daemon, all is well`,
      expect.stringContaining("not checked: whether the firewall accepts the daemon's rules"),
    ])
  })

  // In a user's own namespace nobody is root.
  if (process.getuid?.() === 0) {
    it('judges keys and ledger as the daemon’s user, also for root', async () => {
      chmodSync(gate.config, 0o600)
      try {
        expect(await check({}, [])).toEqual(
          fault(/knockturn\.toml: the daemon's user cannot read it: EACCES/, /^hint: run "chmod a\+r .*"$/),
        )
      } finally {
        chmodSync(gate.config, 0o644)
      }
    })
  }
})

describe('--check names what is wrong, and its remedy, where', () => {
  it.each([
    ['hashlimit', 'xt_hashlimit'],
    ['conntrack', 'xt_conntrack'],
    ['comment', 'xt_comment'],
    ['NFLOG', 'xt_NFLOG and nfnetlink_log'],
  ])('the kernel has no %s', async (name, module) => {
    expect(await check(without(name))).toEqual(
      fault(
        `^knockdaemon: error: iptables and ip6tables: cannot create rules with "${name}", which ours need: `,
        new RegExp(`^hint: load the kernel's ${module} with "modprobe`),
      ),
    )
    expect(await rules()).not.toContain('KNOCKTURN-CHECK')
  })

  it('the kernel has no LOG, where its log is heard', async () => {
    writeFileSync(join(gate.folder, 'knocks.log'), '')
    configure(LOGGED)
    expect(await check(without('LOG'))).toEqual(
      fault(
        /cannot create rules with "LOG", which ours need: /,
        /^hint: load the kernel's xt_LOG and nf_log_syslog with "modprobe -a xt_LOG nf_log_syslog"/,
      ),
    )
  })

  it.each([
    ['time', NO_TIME],
    ['connlabel', 'the kernel cannot mark connections (no match "connlabel"): '],
  ])('the kernel has no %s, which is no fault', async (name, says) => {
    const { code, notes, faults } = await check(without(name))
    expect([code, notes[0].startsWith(`note: iptables and ip6tables: ${says}`), notes[1], faults]).toEqual([
      0,
      true,
      WELL().notes[0],
      [],
    ])
    expect(await rules()).not.toContain('KNOCKTURN-CHECK')
  })

  it('iptables itself lacks a match that our rules have already, and so cannot read them', async () => {
    const { env } = without('hashlimit')
    const script = readFileSync(join(env.PATH.split(':')[0], 'iptables-restore'), 'utf8').replace(/^#.*\n/, '')
    const both = Object.fromEntries(
      FAMILIES.flatMap((one) => [one, `${one}-restore`]).map((one) => [one, script.replace('iptables-restore', one)]),
    )
    const { notes, ...found } = await check(shadow(both))
    expect({ ...found, notes: [] }).toEqual(
      fault(/cannot create rules with "hashlimit", which ours need: /, /^hint: load the kernel's xt_hashlimit/),
    )
    // Nor can be told what they let in.
    expect(notes.map((note) => /cannot tell whether the services are open to everyone over IPv\d: /.test(note))).toEqual([
      true,
      true,
    ])
  })

  it('setpriv is BusyBox’s', async () => {
    const busybox = 'echo "setpriv: unrecognized option: pdeathsig" >&2; echo "BusyBox v1.36.1 multi-call binary." >&2; exit 1'
    // The daemon's own privileges are given by the other one.
    const { env } = shadow({ setpriv: busybox })
    const command = PRIVILEGES.map((word) => (word === 'setpriv' ? '/usr/bin/setpriv' : word))
    expect(await check({ env }, command)).toEqual(
      fault(
        /^knockdaemon: error: setpriv cannot start tcpdump: unrecognized option: pdeathsig$/,
        /^hint: install setpriv of util-linux 2.33/,
      ),
    )
  })

  it('another program has the group', async () => {
    const other = server.start(['tcpdump', '-Z', 'root', '-i', 'nflog:5', '-w', '/dev/null'])
    await other.line((line) => line.includes('listening on'))
    expect(await check()).toEqual(
      fault(
        /^knockdaemon: error: tcpdump cannot read NFLOG group 5: ./,
        /^hint: if another program has the group .*, set another \[taps\] group/,
      ),
    )
    await other.end()
  })

  it('another program has the ledger', async () => {
    const other = server.start(['flock', '--exclusive', '--no-fork', gate.ledger, 'sh', '-c', 'echo there; exec sleep 600'])
    await other.line((line) => line === 'there')
    expect(await check({}, [])).toEqual(
      fault(
        /ledger: the ledger is in use by process \d+ \(sleep\), which is not a daemon$/,
        /^hint: stop that process, or set \[ledger\] path/,
      ),
    )
    await other.end()
  })
})

describe('a daemon whose kernel cannot end leases', () => {
  const open = (on: Child, ...options: string[]) => knocked(client, on, gate.key, '-p', String(SSH), ...options)
  const sees = async () => (await client.connect(server.ipv4, SSH)).saw
  // Such a kernel has no rule with that match, of no earlier test either.
  beforeEach(() => Promise.all(FAMILIES.map((iptables) => server.must([iptables, '-F', 'KNOCKTURN-LEASES']))))

  it('says so, opens, and ends them on time itself', async () => {
    const running = await start(without('time'))
    for (const family of FAMILIES) await running.line(logged(`${family}: ${NO_TIME}`, { level: 40 }))
    const { until: end } = await open(running, '-t', '3s')
    const rules = await server.must(['iptables', '-S', 'KNOCKTURN-LEASES'])
    expect([rules.includes('-m time'), rules.includes(`:${Date.parse(end) / 1000}"`), await sees()]).toEqual([
      false,
      true,
      'open',
    ])
    await running.line(logged('expired'))
    expect([await server.leases(client), await sees()]).toEqual([[], 'silence'])
    expect(Date.now()).toBeGreaterThanOrEqual(Date.parse(end))
  })

  it('ends them when it is stopped, since nobody else would', async () => {
    const running = await start(without('time'))
    await open(running, '-t', '10m')
    expect(await sees()).toBe('open')
    await running.end('SIGTERM')
    expect(running.lines.some(logged('closed'))).toBe(true)
    expect([await server.leases(client), await sees()]).toEqual([[], 'silence'])
  })

  it('leaves those that are until closed', async () => {
    const key = await gate.newKey('until-closed', '--services', '22/tcp', '--allow-until-closed')
    const running = await start(without('time'))
    await knocked(client, running, key, '-p', String(SSH), '-t', '0')
    await running.end('SIGTERM')
    expect(await sees()).toBe('open')
    await knocked(client, await start(without('time')), key, '--close')
  })

  it('leaves one open when it is killed, and ends it on time when it is back', async () => {
    const running = await start(without('time'))
    const { until: end } = await open(running, '-t', '20s')
    await running.end('SIGKILL')
    expect(await sees()).toBe('open')
    const next = await start(without('time'))
    await next.line(logged('restored', { kept: 1 }))
    await next.line(logged('expired'), 0, 60_000)
    expect([Date.now() >= Date.parse(end), await server.leases(client), await sees()]).toEqual([true, [], 'silence'])
  })

  it('leaves those to the kernel that a kernel with that match has been given', async () => {
    const running = await start()
    await open(running, '-t', '10m')
    await running.end('SIGTERM')
    const next = await start(without('time'))
    await next.end('SIGTERM')
    expect(await sees()).toBe('open')
    await until(async () => (await open(await start(), '--close')).msg === 'accepted', 'it is closed')
  })
})
