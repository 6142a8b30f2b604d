import { copyFileSync, mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { logged } from '../lab/gate'
import type { Host } from '../lab/host'
import { knocked } from '../lab/knocks'
import { type Lab, makeLab } from '../lab/lab'
import { type Child, must } from '../lab/processes'
import { scratch } from '../system/scratch'
import { layersOf } from './image.mjs'
import { Machine } from './machine'
import { build, COMMIT, DEB, packaged, traces, VERSION } from './package'
import { ENVIRONMENT, furnish, mountRoot } from './root.mjs'

/* The packages, on machines that have never seen Knockturn. */

const SSH = 22
/** A version above every real one. */
const HIGHER = '999.0.0'
/** An administrator's own rules. */
const OWN_RULES = 'add table inet own { chain input { type filter hook input priority 0; tcp dport 25 drop; }; }'
const CONFIG = `server = "gate.example"\n[firewall]\nbackend = "nftables"\nguard = ["${SSH}/tcp"]\n`
/** The daemon's first start, without a minute in which nothing opens. */
const FIRST_START = '[Service]\nExecStart=\nExecStart=/usr/bin/knockdaemon --new-ledger\n'
const EXAMPLE = 'usr/share/doc/knockturn/examples/knockturn.toml'
const NPM_FOLDERS = [
  '/usr/local/lib/node_modules',
  '/usr/local/share/man/man1',
  '/usr/local/share/man/man5',
  '/usr/local/share/man/man8',
]
const DROP_IN = '/etc/systemd/system/knockdaemon.service.d'

type Packages = Awaited<ReturnType<typeof build>>
let lab: Lab
let client: Host
let stranger: Host
let first: Packages
let second: Packages
let higher: Packages

beforeAll(async () => {
  lab = await makeLab(['client', 'stranger'])
  ;({ client, stranger } = lab.hosts as { client: Host; stranger: Host })
  const other = { umask: '077', env: { TZ: 'Asia/Tokyo', LC_ALL: 'C', SOURCE_DATE_EPOCH: '1' } }
  ;[first, second, higher] = await Promise.all([build(scratch()), build(scratch(), VERSION, other), build(scratch(), HIGHER)])
})
afterAll(() => lab?.end())

describe('both packages', () => {
  it.each(['deb', 'tarball'] as const)('are the same, byte for byte, whoever builds them, when and where: the %s', (kind) => {
    expect(readFileSync(first[kind]).equals(readFileSync(second[kind]))).toBe(true)
  })

  it('lintian has nothing against the one of Debian', async () => {
    const { root } = mountRoot(layersOf('lintian'))
    furnish(root)
    copyFileSync(DEB, join(root, 'root/knockturn.deb'))
    const lintian = ['lintian', '--allow-root', '--fail-on', 'error,warning', '/root/knockturn.deb']
    expect(await must(['chroot', root, ...lintian], { env: ENVIRONMENT, timeoutMs: 120_000 })).toBe('')
  })
})

describe('the package of Debian, on a bare machine', () => {
  let machine: Machine
  let before: string[]
  let ownRules: string
  let journal: Child
  const systemctl = (...argv: string[]) => machine.must(['systemctl', ...argv])
  const apt = (...argv: string[]) => machine.must(['apt-get', '-y', ...argv], { timeoutMs: 120_000 })
  /** Our units, as far as systemd remembers any. */
  const knownUnits = () => machine.must(['systemctl', 'list-units', '--all', '--no-legend', '--plain', 'knock*'])
  const daemon = () => machine.show('knockdaemon', 'ActiveState', 'UnitFileState', 'MainPID')
  const saw = async (host: Host) => (await host.connect(machine.host.ipv4, SSH)).saw
  const doors = async () => [await saw(client), await saw(stranger)]
  const OPEN = ['open', 'silence']
  const open = () =>
    knocked(client, journal, join(machine.root, 'root/alice.key'), '-r', machine.host.ipv4, '-p', `${SSH}`, '-t', '10m')
  const sh = (script: string) => machine.must(['sh', '-euc', script])
  const start = async (...argv: string[]) => {
    const since = journal.lines.length
    await systemctl(...argv)
    await journal.line(logged('ready'), since)
  }
  const enable = () => start('enable', '--now', 'knockturn-guard', 'knockdaemon')

  beforeAll(async () => {
    machine = new Machine(lab, 'bare')
    await machine.boot()
    await machine.host.startAgent()
    await machine.must(['nft', OWN_RULES])
    ownRules = await machine.must(['nft', '-s', 'list', 'ruleset'])
    before = await traces(machine)
    journal = machine.start(['journalctl', '-u', 'knockdaemon', '-o', 'cat', '-f', '-n', 'all'])
  })

  it('is refused by apt where Node is too old, and apt says which it needs', async () => {
    copyFileSync(first.deb, join(machine.root, 'root/knockturn.deb'))
    await sh("sed '/^Package: nodejs$/,/^$/s/^Version: .*/Version: 18.20.4+dfsg-1~deb12u1/' /var/lib/dpkg/status > /root/status")
    const apt = ['apt-get', '-s', '-o', 'Dir::State::status=/root/status', 'install', '/root/knockturn.deb']
    const { code, stdout, stderr } = await machine.run(apt)
    expect([code, stdout + stderr]).toEqual([100, expect.stringContaining('nodejs (>= 20.19)')])
  })

  it('is installed, and has started, enabled and closed nothing, but says what to do next', async () => {
    expect(await packaged(machine, first.deb)).toContain('\nknockturn: nothing is started or closed yet; run "knockturn setup"')
    expect(await machine.must(['systemctl', 'list-units', '--no-legend', '--plain', 'knock*'])).toBe('')
    const added = (await traces(machine)).filter((line) => !before.includes(line))
    // A unit that is wanted is a link, and a rule or a listener has none of these beginnings.
    expect(
      added.filter((line) => !/^([-dl][rwx-]{9} |[0-9a-f]{64} |knock\S+ +(disabled|static|loaded +inactive) )/.test(line)),
    ).toEqual([])
    expect(added.filter((line) => line.includes('.wants/'))).toEqual(
      added.filter((line) => line.includes('/usr/lib/systemd/system/sysinit.target.wants/knockturn-trial.service ')),
    )
    const own = added.filter((line) => / \/(etc|var)\//.test(line)).map((line) => line.replace(/^[0-9a-f]{64} /, '').trim())
    expect(own.sort()).toEqual([
      ...['group', 'gshadow', 'passwd', 'shadow'].map((name) => `/etc/${name}`),
      'drwx------ knockturn knockturn /etc/knockturn/keys',
      'drwx------ knockturn knockturn /var/lib/knockturn',
      'drwxr-xr-x root root /etc/knockturn',
    ])
  })

  it('has its files where programs look for them', async () => {
    const commit = `0.1.0 (${COMMIT.slice(0, 7)})\n`.replace('0.1.0', VERSION)
    for (const program of ['knockturn', 'knockclient', 'knockdaemon'])
      expect(await machine.must([program, '--version'])).toBe(`${program} ${commit}`)
    const { FragmentPath, ExecStart } = await machine.show('knockdaemon', 'FragmentPath', 'ExecStart')
    expect([FragmentPath, ExecStart]).toEqual([
      '/usr/lib/systemd/system/knockdaemon.service',
      expect.stringContaining('path=/usr/lib/knockturn/bin/knockdaemon '),
    ])
    expect(await sh('grep -rl /opt/knockturn /usr/lib/systemd/system /usr/lib/knockturn/bin /usr/lib/sysusers.d || true')).toBe(
      '',
    )
    // dpkg asks about nothing else than what is in /etc.
    expect(await sh("dpkg -L knockturn | grep -E '^/(etc|var)' || true")).toBe('')
  })

  it('has an example config that the daemon takes as it is', async () => {
    machine.write('/etc/knockturn/knockturn.toml', readFileSync(join(machine.root, EXAMPLE), 'utf8'))
    const { stderr } = await machine.run(['knockdaemon', '--check'])
    expect(stderr).not.toContain('knockturn.toml:')
  })

  it('is upgraded under an open door, and the daemon that runs is the new one', async () => {
    machine.write('/etc/knockturn/knockturn.toml', CONFIG)
    await sh('knockturn key new alice --host gate.example --services 22/tcp && knockturn guard save')
    await sh('umask 077; knockturn key export alice > /root/alice.key')
    mkdirSync(join(machine.root, DROP_IN))
    machine.write(`${DROP_IN}/first.conf`, FIRST_START)
    await enable()
    await sh(`rm -r ${DROP_IN} && systemctl daemon-reload`)
    await open()
    expect(await doors()).toEqual(OPEN)
    const old = await daemon()
    const since = journal.lines.length
    let isDone = false
    const upgrade = packaged(machine, higher.deb).finally(() => (isDone = true))
    const seen = new Set<string>()
    while (!isDone) for (const one of [`client ${await saw(client)}`, `stranger ${await saw(stranger)}`]) seen.add(one)
    const said = await upgrade
    await journal.line(logged('ready'), since)
    expect([...seen].sort()).toEqual(['client open', 'stranger silence'])
    expect(said).not.toContain('knockturn setup')
    expect(await daemon()).toEqual({ ...old, MainPID: expect.not.stringMatching(`^(0|${old.MainPID})$`) })
    expect(await machine.must(['knockdaemon', '--version'])).toContain(` ${HIGHER} `)
    expect(journal.lines.slice(since).filter(logged('restored', { kept: 1, swept: 0 }))).toHaveLength(1)
    expect(await doors()).toEqual(OPEN)
  })

  it('is upgraded without a daemon that runs, and none is started', async () => {
    await systemctl('stop', 'knockdaemon')
    await apt('install', '--reinstall', '/root/knockturn.deb')
    expect(await daemon()).toMatchObject({ ActiveState: 'inactive', UnitFileState: 'enabled' })
    await start('start', 'knockdaemon')
  })

  it('is removed: no unit, no rule, an open port; keys, ledger and config stay', async () => {
    const kept =
      "find /etc/knockturn /var/lib/knockturn -type f -printf '%M %u %g %p\\n' -exec sha256sum {} + | grep -vE 'guard.nft|state.json' | sort"
    await systemctl('stop', 'knockdaemon')
    const files = await sh(kept)
    await start('start', 'knockdaemon')
    // As one that somebody has started by hand.
    await sh("systemd-run --quiet --unit=by-hand node -e 'setTimeout(() => {}, 1e9)' knockdaemon")
    expect(await apt('remove', 'knockturn')).toMatch(/^open now, .*: 22\/tcp/m)
    expect(await sh('systemctl is-active by-hand || :')).toBe('inactive\n')
    expect(await knownUnits()).toBe('')
    expect(await machine.must(['nft', '-s', 'list', 'ruleset'])).toBe(ownRules)
    expect(await doors()).toEqual(['open', 'open'])
    expect(files).toContain('/etc/knockturn/keys/alice.key')
    expect((await sh(kept)).replaceAll(/.*\/ledger.*\n/g, '')).toBe(files.replaceAll(/.*\/ledger.*\n/g, ''))
    expect(await sh('id -un knockturn; ls /var/lib/knockturn')).toMatch(/^knockturn\nledger/)
  })

  it('is installed again: the key of before opens, and no door of before is open', async () => {
    await packaged(machine, higher.deb)
    expect(await daemon()).toMatchObject({ ActiveState: 'inactive', UnitFileState: 'disabled' })
    await enable()
    expect(await doors()).toEqual(['silence', 'silence'])
    await open()
    expect(await doors()).toEqual(OPEN)
  })

  it('is purged: nothing is left', async () => {
    // What "knockturn setup" writes, and an administrator.
    for (const folder of [DROP_IN, '/etc/systemd/system/nftables.service.d', '/var/lib/knockturn-trial'])
      mkdirSync(join(machine.root, folder), { recursive: true })
    machine.write(`${DROP_IN}/own.conf`, '[Service]\nNice=1\n')
    machine.write('/etc/systemd/system/nftables.service.d/knockturn.conf', '[Service]\n')
    await apt('purge', 'knockturn')
    const after = await traces(machine)
    expect({
      gone: before.filter((line) => !after.includes(line)),
      left: after.filter((line) => !before.includes(line)),
    }).toEqual({ gone: [], left: [] })
  })
})

describe('the package of npm, on a machine without a network', () => {
  let other: Lab
  let machine: Machine
  let before: string[]
  const npm = (...argv: string[]) => machine.must(['npm', ...argv], { timeoutMs: 120_000 })
  const install = (tarball: string) => {
    copyFileSync(tarball, join(machine.root, 'root/knockturn.tgz'))
    return npm('install', '--global', '/root/knockturn.tgz')
  }

  beforeAll(async () => {
    other = await makeLab([])
    machine = new Machine(other)
    await machine.boot()
    // Folders of npm's own, which it leaves when they are empty.
    await machine.must(['mkdir', '-p', ...NPM_FOLDERS])
    before = await traces(machine)
  })

  afterAll(() => other?.end())

  it('is installed, and its programs run', async () => {
    expect(await install(first.tarball)).toContain('added 1 package')
    expect(await machine.must(['knockclient', '--version'])).toBe(`knockclient ${VERSION} (${COMMIT.slice(0, 7)})\n`)
    await machine.must(['knockturn', 'key', 'new', 'bob', '--server', 'x', '--keys', '/root/keys', '--services', '22/tcp'])
    const ports = await machine.must(['knockclient', '-k', '/root/keys/bob.key', '-r', '192.0.2.1', '-p', '22', '--dry-run'])
    expect(ports).toMatch(/^(\d+\n){40,}$/)
  })

  it('is upgraded, and removed without a trace', async () => {
    await install(higher.tarball)
    expect(await machine.must(['knockturn', '--version'])).toContain(` ${HIGHER} `)
    await npm('uninstall', '--global', 'knockturn')
    const after = await traces(machine)
    expect({
      gone: before.filter((line) => !after.includes(line)),
      left: after.filter((line) => !before.includes(line)),
    }).toEqual({ gone: [], left: [] })
  })
})
