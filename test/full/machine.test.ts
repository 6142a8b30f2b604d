import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { logged } from '../lab/gate'
import type { Host } from '../lab/host'
import { compose, knock, knocked, verdict } from '../lab/knocks'
import { type Lab, makeLab } from '../lab/lab'
import type { Child } from '../lab/processes'
import type { Touch } from '../lab/taps'
import { until } from '../lab/waiters'
import { Machine } from './machine'
import { commands } from './manual.mjs'

const SSH = 22
/** Seconds that a client knocks on: the daemon's first minute without a ledger, and some. */
const PATIENT = '150'
/** How the machine's administrator keeps rules of their own over a reboot, in the place of netfilter-persistent. */
const OWN_RULES = `[Unit]
DefaultDependencies=no
Before=network-pre.target
Wants=network-pre.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=iptables-restore /etc/iptables.rules
ExecStart=ip6tables-restore /etc/ip6tables.rules
[Install]
WantedBy=multi-user.target
`

let lab: Lab
let machine: Machine
let client: Host
let stranger: Host
/** The client's copy of the key. */
let key: string
/** What the first `knockdaemon --check` printed, before anything was closed. */
let firstCheck: Awaited<ReturnType<Machine['run']>>
/** The journal of the unit, as it comes. */
let journal: Child

/** Boots it, or reboots it; something listens behind its door. */
async function start(boot: () => Promise<void>) {
  await boot()
  await machine.host.startAgent()
  await machine.host.service(SSH)
}
async function follow() {
  journal = machine.start(['journalctl', '-u', 'knockdaemon', '-b', '-o', 'cat', '-f', '-n', 'all'])
  await journal.line(logged('ready'))
}

beforeAll(async () => {
  lab = await makeLab(['client', 'stranger'])
  ;({ client, stranger } = lab.hosts as { client: Host; stranger: Host })
  machine = new Machine(lab)
  await start(() => machine.boot())
  // docs/by-hand.md, word for word; test/full/install.mjs has followed its first commands.
  const [, , user = ''] = commands('Install')
  await machine.follow(user)
  const [newKey = ''] = commands('Make the first key')
  await machine.follow(newKey)
  const [check = ''] = commands('Check the installation')
  firstCheck = await machine.run(['sh', '-c', `cd /opt/knockturn; ${check}`])
  const [bySystemd = ''] = commands('Start the daemon')
  await machine.follow(bySystemd)
  const [shut = '', , save = ''] = commands('Close the ports yourself')
  await machine.follow(shut + save)
  machine.write('/etc/systemd/system/own-rules.service', OWN_RULES)
  await machine.must(['systemctl', 'enable', 'own-rules'])
  await machine.follow('(umask 077; bin/knockturn key export alice > /root/alice.key)')
  key = join(machine.root, 'root/alice.key')
  await follow()
})
afterAll(() => lab?.end())
beforeEach(async () => {
  await client.moveOn()
  await stranger.moveOn()
})

const door = () => ['-r', machine.host.ipv4, '-p', String(SSH), '-t', '10m']
const sees = async (host: Host) => (await host.connect(machine.host.ipv4, SSH)).saw
const doors = async () => [await sees(client), await sees(stranger)]
const OPEN = ['open', 'silence']
const SHUT = ['silence', 'silence']
const open = () => knocked(client, journal, key, ...door())
const unit = () => machine.show('knockdaemon', 'ActiveState', 'MainPID', 'NRestarts', 'Result')
const systemctl = (...argv: string[]) => machine.must(['systemctl', ...argv])
const rules = () => machine.must(['iptables', '-S'])
const leasesIn = (text: string) => text.split('\n').filter((line) => line.startsWith('-A KNOCKTURN-LEASES '))
const count = async (name: string) => Number((await machine.run(['pgrep', '--count', '--exact', name])).stdout)

/** A knock that opens for the client, as an attacker on the wire has recorded it. */
async function overheard() {
  const { touches } = await compose(client, key, ...door())
  expect(await verdict(journal, () => client.replay(touches, machine.host.ipv4))).toMatchObject({ msg: 'accepted' })
  return touches
}
const replayed = async (touches: Touch[]) => (await verdict(journal, () => stranger.replay(touches, machine.host.ipv4))).refusal

/** Does something that has the daemon start again. @returns the unit's journal from then until it hears */
async function restarted(act: () => Promise<unknown>) {
  const since = journal.lines.length
  await act()
  await journal.line(logged('ready'), since)
  return journal.lines.slice(since)
}

describe('installed by the manual', () => {
  it('there was no fault but that the door was open still', () => {
    expect([firstCheck.code, firstCheck.stderr.split('\n').filter((line) => line.includes('error:'))]).toEqual([
      1,
      [expect.stringContaining('22/tcp is open to everyone over IPv4 and IPv6')],
    ])
  })

  it('nothing is opened in the first minute, where there was no ledger, and then for whom it knows', async () => {
    await client.run(knock({ key }, ...door()))
    expect(await doors()).toEqual(SHUT)
    const { code } = await client.run(knock({ key }, ...door(), '--wait', PATIENT), { timeoutMs: 200_000 })
    expect([code, ...(await doors())]).toEqual([0, ...OPEN])
  })

  it('there is no fault any more', async () => {
    const [check = ''] = commands('Is it closed?')
    expect(await machine.run(['bash', '-c', `cd /opt/knockturn; ${check}`])).toMatchObject({ code: 0 })
  })

  it('the unit has started without a complaint of systemd’s', async () => {
    expect(await machine.must(['journalctl', '-u', 'knockdaemon', '-b', '-p', 'warning', '-o', 'cat'])).toBe('')
  })

  it('it hears no knock of another key', async () => {
    await machine.follow(
      '(umask 077; bin/knockturn key new mallory --server elsewhere --keys /root/elsewhere --services 22/tcp > /dev/null)',
    )
    const other = join(machine.root, 'root/elsewhere/mallory.key')
    await client.must(knock({ key: other }, ...door(), '--passes', '1'))
    await open()
    expect(journal.lines.filter((line) => line.includes('mallory'))).toEqual([])
  })
})

describe('its sandbox', () => {
  const ofDaemon = async (file: string) => machine.must(['cat', `/proc/${(await unit()).MainPID}/${file}`])
  /** What root may do where the daemon lives. */
  const inside = async (...argv: string[]) =>
    machine.run(['nsenter', '-t', (await unit()).MainPID as string, '--mount', '--root', ...argv])

  it('leaves it CAP_NET_ADMIN, and no way to more', async () => {
    const status = await ofDaemon('status')
    const field = (name: string) => new RegExp(`^${name}:\\s*(.*)$`, 'm').exec(status)?.[1]
    const one = '0000000000001000'
    expect(['CapPrm', 'CapEff', 'CapBnd', 'CapAmb', 'NoNewPrivs', 'Seccomp'].map(field)).toEqual([one, one, one, one, '1', '2'])
  })

  it('shows it no process of others, and nothing of the kernel', async () => {
    expect(await ofDaemon('mountinfo')).toMatch(/ \/proc .* proc rw,hidepid=invisible,subset=pid$/m)
    expect((await inside('cat', '/proc/meminfo')).code).toBe(1)
  })

  it.each(['/etc', '/opt/knockturn', '/usr', '/root', '/home'])('lets it write nothing in %s', async (folder) => {
    expect((await inside('touch', `${folder}/written`)).stderr).toContain('Read-only file system')
  })

  it('lets it write where its ledger is', async () => {
    expect((await inside('touch', '/var/lib/knockturn/written')).code).toBe(0)
  })

  it('keeps it from all that is IP', async () => {
    const shown = await machine.show('knockdaemon', 'RestrictAddressFamilies', 'IPAddressDeny', 'SocketBindDeny')
    const sets = Object.entries(shown).map(([name, value]) => [name, value.split(' ').sort()])
    expect(Object.fromEntries(sets)).toEqual({
      RestrictAddressFamilies: ['AF_NETLINK', 'AF_UNIX'],
      IPAddressDeny: ['0.0.0.0/0', '::/0'],
      SocketBindDeny: ['any'],
    })
  })
})

describe('the unit', () => {
  it('brings a daemon back that was killed, with the leases and all that was spent', async () => {
    const touches = await overheard()
    const before = await unit()
    const lines = await restarted(() => systemctl('kill', '--signal=KILL', '--kill-whom=main', 'knockdaemon'))
    expect(await unit()).toMatchObject({ ActiveState: 'active', NRestarts: String(Number(before.NRestarts) + 1) })
    expect(lines.filter(logged('restored', { swept: 0 }))).toHaveLength(1)
    expect([await replayed(touches), ...(await doors()), await count('tcpdump')]).toEqual(['replayed', ...OPEN, 1])
  })

  it('leaves doors open while the daemon is dead, and opens none', async () => {
    const touches = await overheard()
    const since = journal.lines.length
    await systemctl('kill', '--signal=KILL', '--kill-whom=all', 'knockdaemon')
    await stranger.run(knock({ key }, ...door(), '--passes', '1'))
    expect(await doors()).toEqual(OPEN)
    await journal.line(logged('ready'), since)
    expect([await replayed(touches), ...(await doors())]).toEqual(['replayed', ...OPEN])
  })

  it('is restarted under an open door: who is in stays in, and can come in at any moment', async () => {
    const touches = await overheard()
    const connection = await client.hold(machine.host.ipv4, SSH)
    let isDone = false
    const restart = restarted(() => systemctl('restart', 'knockdaemon')).finally(() => (isDone = true))
    const seen = new Set<string>()
    while (!isDone) seen.add(await sees(client))
    const lines = await restart
    expect([...seen]).toEqual(['open'])
    expect([lines.filter(logged('ended')).length, lines.filter(logged('restored', { swept: 0 })).length]).toEqual([1, 1])
    expect([await connection.isAlive(), await replayed(touches), ...(await doors())]).toEqual([true, 'replayed', ...OPEN])
    await connection.end()
  })

  it('is reloaded: a new key opens, by the same daemon', async () => {
    const { MainPID } = await unit()
    await machine.follow('bin/knockturn key new bob --host gate.example --services 22/tcp')
    await machine.follow('(umask 077; bin/knockturn key export bob > /root/bob.key)')
    await journal.line(logged('reloaded', { keys: 2 }))
    const since = journal.lines.length
    await systemctl('reload', 'knockdaemon')
    await journal.line(logged('reloaded'), since)
    expect(await knocked(client, journal, join(machine.root, 'root/bob.key'), ...door())).toMatchObject({
      msg: 'accepted',
      key: 'bob',
    })
    expect(await unit()).toMatchObject({ MainPID })
  })

  it('is stopped while knocks come in: in order, with nothing left that runs', async () => {
    const since = journal.lines.length
    let isOver = false
    const knocks = [client, stranger].map(async (host) => {
      while (!isOver) await host.run(knock({ key }, ...door(), '--passes', '1'))
    })
    await journal.line(logged('accepted'), since)
    await systemctl('stop', 'knockdaemon')
    isOver = true
    await Promise.all(knocks)
    await until(() => journal.lines.slice(since).some((line) => line.includes('Stopped')), 'systemd says so')
    const said = journal.lines
      .slice(since)
      .filter((line) => line.startsWith('{'))
      .map((line) => JSON.parse(line))
    expect(said.at(-1)).toMatchObject({ msg: 'ended' })
    expect(said.filter(({ level }) => level > 30)).toEqual([])
    expect(await unit()).toMatchObject({ ActiveState: 'inactive', Result: 'success', MainPID: '0' })
    expect([await count('tcpdump'), await count('node')]).toEqual([0, 0])
  })

  it('is stopped: doors stay open for whom they were, and none is opened', async () => {
    await restarted(() => systemctl('start', 'knockdaemon'))
    await open()
    await systemctl('stop', 'knockdaemon')
    const before = leasesIn(await rules())
    await stranger.run(knock({ key }, ...door(), '--passes', '1'))
    expect([leasesIn(await rules()), ...(await doors())]).toEqual([before, ...OPEN])
    const lines = await restarted(() => systemctl('start', 'knockdaemon'))
    expect([lines.filter(logged('restored', { kept: before.length })).length, ...(await doors())]).toEqual([1, ...OPEN])
  })
})

describe('a reboot', () => {
  let touches: Touch[]
  beforeAll(async () => {
    touches = await overheard()
    await start(() => machine.reboot())
    await follow()
  })

  it('takes the leases away, and what was said before opens nothing', async () => {
    expect(leasesIn(await rules())).toEqual([])
    expect([await replayed(touches), ...(await doors())]).toEqual(['replayed', ...SHUT])
  })

  it('brings daemon, log rules and the administrator’s own rules back, in their order', async () => {
    expect(await unit()).toMatchObject({ ActiveState: 'active', NRestarts: '0' })
    expect((await rules()).split('\n').filter((line) => /^-[PA] INPUT/.test(line))).toEqual([
      '-P INPUT DROP',
      expect.stringContaining('KNOCKTURN-AGAIN'),
      '-A INPUT -i lo -j ACCEPT',
      '-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT',
      '-A INPUT -j KNOCKTURN',
    ])
  })

  it('is followed by no minute without a door: the ledger is there', async () => {
    expect([(await open()).msg, ...(await doors())]).toEqual(['accepted', ...OPEN])
  })
})

describe('uninstalled by the manual', () => {
  it('nothing of it is left', async () => {
    const [uninstall = ''] = commands('Uninstall')
    await machine.follow(uninstall)
    expect(await rules()).not.toContain('KNOCKTURN')
    const folders = ['opt/knockturn', 'etc/knockturn', 'var/lib/knockturn', 'etc/systemd/system/knockdaemon.service']
    expect(folders.filter((path) => existsSync(join(machine.root, path)))).toEqual([])
    expect((await machine.run(['getent', 'passwd', 'knockturn'])).code).toBe(2)
    expect(await sees(stranger)).toBe('open')
  })
})
