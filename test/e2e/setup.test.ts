import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import type { Host } from '../lab/host'
import { Lab } from '../lab/lab'
import type { Child } from '../lab/processes'
import { BIN, ROOT } from '../root'
import { onTerminal, type Turn } from '../terminal'
import { OwnEtc } from './own-etc'

/* knockturn setup, without systemd: real rules, real packets, and a client that knocks. */

const SSH = 22
const WEB = 443
/** Programs and Node, where every user can read them. $0: this clone, $1: the Node */
const INSTALL = `
  set -e
  mkdir -p /mnt/knockturn/dist && cp -r "$0/bin" /mnt/knockturn/ && cp "$0"/dist/*.cjs /mnt/knockturn/dist/
  touch /mnt/knockturn/node && mount --bind "$1" /mnt/knockturn/node && chmod -R a+rX /mnt/knockturn/bin /mnt/knockturn/dist`
const UNGUARD = '/mnt/knockturn/bin/knockturn-unguard'
const TRIAL = '/mnt/knockturn/bin/knockturn-trial'
/** Has each confirmation fail, after a moment. $0: the script of trials */
const TOO_LATE = `
  mv "$0" "$0-itself"
  { echo '#!/bin/sh'; echo '[ "$1" != confirm ] || { sleep 1; echo "it is too late" >&2; exit 1; }'; echo "exec '$0-itself' \\"\\$@\\""; } > "$0"
  chmod +x "$0"`
/** Waits until nothing runs any more that a killed set-up has started, but daemons. */
const ALONE = 'while grep -qsz /mnt/knockturn/bin/knockturn$ /proc/[0-9]*/cmdline; do sleep 0.1; done'
/** A terminal on which the QR code has room, and the fewest lines that it has there. $0…: what runs on it */
const WIDE = 'stty cols 120 rows 90; exec "$0" "$@"'
const QR_LINES = 20
/** Lines of a set-up: each step that it has taken, and the last before it waits. */
const STEPS = [
  '  the user',
  '  /etc/knockturn/',
  '  /etc/knockturn/keys/',
  '  /var/lib/knockturn/',
  '  /etc/knockturn/knockturn.toml',
  '  the key alice',
  '  a new ledger',
  '  the guard is saved',
  '  the guard is in place',
  '  the daemon hears',
]
const WAITING = 'This session stays open'
const KNOCKTURN = ['/mnt/knockturn/node', '/mnt/knockturn/bin/knockturn']
/** Milliseconds for a set-up to begin to wait: some ten programs are started, one after the other. */
const PATIENCE = 120_000

describe.each(['nftables', 'iptables'] as const)('knockturn setup, with %s', (backend) => {
  let lab: Lab
  let server: Host
  let client: Host
  let stranger: Host
  let place: OwnEtc
  let copies = ''
  let before = ''

  const knockturn = (...argv: string[]) => place.run([...KNOCKTURN, ...argv], { timeoutMs: PATIENCE })
  const setup = (...more: string[]) => ['setup', '--yes', '--backend', backend, '--host', server.ipv4, '--key', 'alice', ...more]
  /** Begins a set-up, and waits until somebody is to come in. */
  async function begun(...more: string[]): Promise<Child> {
    const child = place.start([...KNOCKTURN, ...setup(...more)])
    await child.line((line) => line.startsWith(WAITING), 0, PATIENCE)
    return child
  }
  /** Ctrl-C, and what comes of it: to take things back may take longer than a child has. */
  const interrupt = (child: Child) => {
    child.child.kill('SIGINT')
    return child.exited
  }
  const keyFile = () => join(copies, 'alice.key')
  const sees = async (host: Host, port = SSH) => (await host.connect(server.ipv4, port)).saw
  const knock = () => client.must([join(BIN, 'knockclient'), '-k', keyFile(), '-p', `${SSH}`, '--wait', '10'])
  /** The ledger stays that of now: an older one would let spent knocks in again. */
  const withoutLedger = (text: string) => text.split('\n').filter((line) => !line.includes('/var/lib/knockturn'))
  /** Without the rules: a daemon that runs makes them stricter when the connections are gone that are older than itself. */
  const pathsIn = (text: string) => text.split('\n').filter((line) => /^(\/|[\da-f]{64} )/.test(line))
  const endDaemon = () => place.sh('"$0" end', UNGUARD)
  /** Whatever Docker this machine has does not run here. */
  const complaints = (stderr: string) =>
    stderr.split('\n').filter((line) => !/^(.*cannot tell which ports docker publishes.*)?$/.test(line))

  beforeAll(async () => {
    lab = new Lab(['client', 'stranger'])
    await lab.build()
    ;({ server, client, stranger } = lab.hosts as { server: Host; client: Host; stranger: Host })
    for (const port of [SSH, WEB, 8080]) await server.service(port)
    place = new OwnEtc(server)
    await place.mount()
    await place.sh(INSTALL, ROOT, process.execPath)
    copies = lab.folder()
    before = await place.snapshot()
  })
  afterAll(async () => {
    // It has a session of its own, and the user that the next server has, too.
    await endDaemon()
    await lab.end()
  })
  beforeEach(() => client.moveOn())

  it('changes nothing with --dry-run, and prints each file, rule and command', async () => {
    const { code, stdout, stderr } = await knockturn(...setup('--dry-run', '--key-out', keyFile()))
    expect([code, complaints(stderr)]).toEqual([0, []])
    for (const text of [
      'useradd --system',
      '# /etc/knockturn/knockturn.toml (root, mode 0644)',
      'guard = "all"\n# What everyone reaches all the same.\npublic = ["443/tcp", "443/udp"]\n',
      `knockturn key new alice --host ${server.ipv4} --services 22/tcp`,
      'knockturn ledger new',
      backend === 'nftables'
        ? '# /etc/knockturn/guard.nft (root, mode 0600)\n'
        : '# /etc/knockturn/guard.iptables (root, mode 0600)\n',
      backend === 'nftables' ? '# rules, by nft -f -\n' : '# rules, by iptables-restore',
    ])
      expect(stdout).toContain(text)
    expect(await place.snapshot()).toBe(before)
  })

  it('asks little on a terminal, takes what is typed, and shows key and passphrase once', async () => {
    const answers: Turn[] = [
      ['The name or address at which clients reach this server', `${server.ipv4}\r`],
      ['What opens by a knock only, all or ports [all]: ', 'nonsense\r'],
      ['What opens by a knock only, all or ports [all]: ', '\r'],
      ['What stays open to everyone [443/tcp,443/udp]: ', 'none\r'],
      ['A name for your key [', 'carol\r'],
    ]
    const asking = (...rest: Turn[]) =>
      onTerminal(place.command(['sh', '-c', WIDE, ...KNOCKTURN, 'setup', '--backend', backend]), [...answers, ...rest])
    expect(await asking(['Begin? [yes]: ', 'no\r'])).toMatchObject({
      code: 1,
      shown: expect.stringContaining('nothing was changed'),
    })
    expect(await place.snapshot()).toBe(before)

    // The shell that script(1) has started ends by Ctrl-C as well.
    const { shown } = await asking(['Begin? [yes]: ', '\r'], ['This session stays open', '\x03'])
    expect(shown.trimEnd().split('\r\n').at(-1)).toBe('taken back: everything is as it was before')
    expect(shown).toMatch(/^guard +all ports /m)
    expect(shown).toMatch(/^key +carol +opens 22\/tcp/m)
    expect(shown.match(/knockclient add kt1\.[\w-]+\.[\w-]+/g)).toHaveLength(1)
    expect(shown.match(/passphrase/g)).toHaveLength(1)
    // The picture of the line: two modules of a QR code high each.
    expect(shown.match(/^.*(?:█|▀|▄){10}.*$/gm)?.length).toBeGreaterThan(QR_LINES)
    expect(await place.snapshot()).toBe(before)
  })

  it('takes everything back at Ctrl-C, and the key that it has written', async () => {
    const child = await begun('--key-out', keyFile())
    expect([await sees(stranger), await sees(stranger, WEB)]).toEqual(['silence', 'open'])
    expect(await interrupt(child)).toEqual({ code: 1, signal: null })
    expect(child.lines.at(-1)).toBe('taken back: everything is as it was before')
    // What is in the file is shown nowhere.
    expect(child.lines.join('\n')).not.toMatch(/kt1\.|passphrase|secret/)
    expect(await place.snapshot()).toBe(before)
    expect(() => readFileSync(keyFile())).toThrow()
    expect(await sees(stranger)).toBe('open')
  })

  it('takes everything back when nobody has come in, and says so, wherever it stands then', async () => {
    const child = place.start([...KNOCKTURN, ...setup('--key-out', keyFile(), '--for', '15s')])
    expect((await child.exited).code).toBe(1)
    expect(child.lines.join('\n')).toContain('nobody has come in by a knock within 15s: everything goes back now')
    await place.sh('while [ "$(/mnt/knockturn/bin/knockturn-trial state)" != none ]; do sleep 0.2; done')
    expect(await place.snapshot()).toBe(before)
    expect(() => readFileSync(keyFile())).toThrow()
  })

  it('takes everything back when a step fails, and says why', async () => {
    await place.sh('mkdir -p /etc/knockturn/keys && chmod 755 /etc/knockturn/keys')
    const there = await place.snapshot()
    const { code, stderr } = await knockturn(...setup('--key-out', keyFile()))
    expect([code, stderr]).toEqual([1, expect.stringContaining('expected mode 0700, got 0755')])
    expect(await place.snapshot()).toBe(there)
    await place.sh('rm -r /etc/knockturn')
  })

  // What is killed is the same with any rules.
  it.runIf(backend === 'nftables').each([...STEPS, WAITING])('goes back though it is killed behind "%s"', async (step) => {
    const child = place.start([...KNOCKTURN, ...setup('--key-out', keyFile(), '--for', '10m')])
    await child.line((line) => line.startsWith(step), 0, PATIENCE)
    await child.end('SIGKILL')
    if (step === WAITING) expect(child.lines.filter((line) => /^ {2}\S/.test(line)).slice(0, -2)).toHaveLength(STEPS.length)
    expect(await place.run([TRIAL, 'state'])).toMatchObject({ stdout: expect.stringMatching(/^trial [1-9]/) })
    // As its timer does when the time is over.
    await place.sh(ALONE)
    expect(await place.run([TRIAL, 'settle'], { timeoutMs: PATIENCE })).toMatchObject({ code: 0, stderr: '' })
    expect(await place.snapshot()).toBe(before)
    await place.sh('rm -f "$0"', keyFile())
  })

  it('is not called permanent where that cannot be decided any more, and goes back', async () => {
    await place.sh(TOO_LATE, TRIAL)
    const child = await begun('--key-out', keyFile())
    await knock()
    const entered = await client.hold(server.ipv4, SSH)
    expect((await child.exited).code).toBe(1)
    expect(child.lines.filter((line) => line.startsWith('permanent'))).toEqual([])
    expect(child.lines).toContain('knockturn: error: it is too late')
    expect(await place.snapshot()).toBe(before)
    await entered.end()
    await place.sh('mv "$0-itself" "$0"', TRIAL)
  })

  it('cuts no connection, and becomes permanent when somebody has come in by a knock', async () => {
    const session = await client.hold(server.ipv4, SSH)
    const child = await begun('--key-out', keyFile())
    expect(await session.isAlive()).toBe(true)
    expect([await sees(client), await sees(stranger)]).toEqual(['silence', 'silence'])
    await knock()
    const entered = await client.hold(server.ipv4, SSH)
    expect(await child.exited).toEqual({ code: 0, signal: null })
    expect(child.lines).toContainEqual(expect.stringMatching(new RegExp(`^permanent: ${client.ipv4} has come in at 22/tcp`)))
    expect([await entered.isAlive(), await session.isAlive()]).toEqual([true, true])
    expect([await sees(stranger), await sees(stranger, WEB), await sees(stranger, 8080)]).toEqual(['silence', 'open', 'silence'])
    await entered.end()
    await session.end()
  })

  it('has nothing to change a second time', async () => {
    const there = await place.snapshot()
    const { code, stdout, stderr } = await knockturn(...setup().slice(0, 2))
    expect([code, stdout, complaints(stderr)]).toEqual([0, 'nothing to change\n', []])
    expect(pathsIn(await place.snapshot())).toEqual(pathsIn(there))
    expect((await knockturn('setup', '--yes', '--dry-run')).stdout).toBe('nothing to change\n')
  })

  it('changes nothing behind the back of a daemon that nobody could start again', async () => {
    const { code, stderr } = await knockturn('setup', '--yes', '--guard', '22/tcp')
    expect([code, stderr]).toEqual([1, expect.stringContaining('a daemon is running, and without systemd')])
  })

  it('puts back what was there before, when another guard is not confirmed', async () => {
    await endDaemon()
    const there = await place.snapshot()
    const child = place.start([...KNOCKTURN, 'setup', '--yes', '--guard', '22/tcp'])
    await child.line((line) => line.startsWith(WAITING), 0, PATIENCE)
    expect([await sees(stranger), await sees(stranger, 8080)]).toEqual(['silence', 'open'])
    await interrupt(child)
    expect([await sees(stranger), await sees(stranger, 8080)]).toEqual(['silence', 'silence'])
    expect(withoutLedger(await place.snapshot())).toEqual(withoutLedger(there))
  })

  it('is confirmed by the session that has come in, when its own program was killed', async () => {
    const child = place.start([...KNOCKTURN, 'setup', '--yes'])
    await child.line((line) => line.startsWith(WAITING), 0, PATIENCE)
    await child.end('SIGKILL')
    expect(await knockturn('setup', '--confirm')).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('has not come in by SSH'),
    })
    expect(await knockturn('setup', '--yes')).toMatchObject({ code: 1, stderr: expect.stringContaining('a trial is running') })
    await knock()
    const entered = await client.hold(server.ipv4, SSH, 10_000, 40_001)
    const env = { SSH_CONNECTION: `${client.ipv4} 40001 ${server.ipv4} ${SSH}` }
    const confirmed = await place.run([...KNOCKTURN, 'setup', '--confirm'], { env, timeoutMs: PATIENCE })
    expect(confirmed).toMatchObject({
      code: 0,
      stdout: expect.stringContaining(`permanent: ${client.ipv4} has come in at 22/tcp`),
    })
    await entered.end()
    expect((await knockturn('setup', '--revert')).stderr).toContain('no trial is running')
  })

  it('shows the key as a line with a passphrase, once, where no file is asked for', async () => {
    await endDaemon()
    await place.sh('/mnt/knockturn/node /mnt/knockturn/bin/knockturn key revoke alice')
    const child = place.start([...KNOCKTURN, 'setup', '--yes', '--key', 'bob'])
    const line = await child.line((text) => text.trim().startsWith('knockclient add kt1.'), 0, PATIENCE)
    expect(line.trim()).toMatch(/^knockclient add kt1\.[\w-]+\.[\w-]+$/)
    const reverted = await knockturn('setup', '--revert')
    expect(reverted).toMatchObject({ code: 0, stdout: 'taken back: everything is as it was before\n' })
    expect((await child.exited).code).not.toBe(0)
    expect(await place.run(['ls', '/etc/knockturn/keys'])).toMatchObject({ stdout: 'alice.key\n' })
  })
})
