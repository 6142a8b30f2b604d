import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { logged } from '../lab/gate'
import type { Host } from '../lab/host'
import { Lab } from '../lab/lab'
import { BIN } from '../root'
import { onTerminal } from '../terminal'
import { OwnEtc, SET_UP } from './own-etc'

/* knockturn uninstall, without systemd: real rules, files and daemons. */

const SSH = 22
const KNOCKTURN = [process.execPath, join(BIN, 'knockturn')]
const TRIAL = join(BIN, 'knockturn-trial')
const NOTHING = 'nothing of Knockturn is set up here\n'

/** Somebody's file, and links to its folder wherever something of ours is deleted. */
const PLANT = `
  mkdir -p /mnt/elsewhere /run/knockturn && echo precious > /mnt/elsewhere/file
  for link in /etc/knockturn/keys/link /var/lib/knockturn/link /run/knockturn/link /run/knockturn-link; do ln -s /mnt/elsewhere $link; done`
/** All names where a set-up writes; the backups of the accounts, and what mount(8) and iptables keep, are the system's. */
const NAMES = `find /etc /var/lib /run -xdev | grep -vE '^/etc/(passwd|group|g?shadow|subuid|subgid)-$|^/etc/.pwd.lock$|^/run/(xtables|mount)' | sort`

describe.each(['nftables', 'iptables'] as const)('knockturn uninstall, with %s', (backend) => {
  let lab: Lab
  let server: Host
  let stranger: Host
  let place: OwnEtc
  let before: string[] = []

  const uninstall = (...argv: string[]) => place.run([...KNOCKTURN, 'uninstall', ...argv], { timeoutMs: 60_000 })
  const setUp = () => place.sh(SET_UP, process.execPath, BIN, backend)
  const sees = async () => (await stranger.connect(server.ipv4, SSH)).saw
  const now = async () => [await place.snapshot(), await place.sh(NAMES)]

  beforeAll(async () => {
    lab = new Lab(['stranger'])
    await lab.build()
    ;({ server, stranger } = lab.hosts as { server: Host; stranger: Host })
    await server.service(SSH)
    place = new OwnEtc(server)
    await place.mount()
    await place.sh(`
      iptables -A INPUT -p tcp --dport 7 -j ACCEPT; iptables -t mangle -A PREROUTING -p tcp --dport 7 -j ACCEPT
      nft 'add table inet other; add chain inet other input { type filter hook input priority 0; }; add rule inet other input counter'`)
    before = await now()
    expect(before[0]).not.toContain('knockturn')
  })
  afterAll(() => lab?.end())

  it.each(['--dry-run', '--yes'])('does nothing where nothing is: %s', async (option) => {
    expect(await uninstall(option)).toMatchObject({ code: 0, stdout: NOTHING, stderr: '' })
    expect(await now()).toEqual(before)
  })

  it('prints what it would do, and does nothing, with --dry-run', async () => {
    await setUp()
    const there = await now()
    const { code, stdout, stderr } = await uninstall('--dry-run')
    expect([code, stderr]).toEqual([0, ''])
    for (const step of [
      'rm -rf -- /etc/knockturn',
      'rm -rf -- /var/lib/knockturn',
      'rm -rf -- /var/lib/knockturn-orders',
      'userdel knockturn',
      join(BIN, 'knockturn-unguard'),
    ])
      expect(stdout.split('\n')).toContain(step)
    expect([await now(), await sees()]).toEqual([there, 'silence'])
  })

  it('lists rules that nobody but root can see as if they were there', async () => {
    const blind = ['setpriv', '--inh-caps=-all', '--bounding-set=-all', ...KNOCKTURN, 'uninstall', '--dry-run']
    expect((await place.run(blind)).stdout.split('\n')).toContain(join(BIN, 'knockturn-unguard'))
  })

  it('asks on a terminal, and does nothing where the answer is not "yes"', async () => {
    const there = await now()
    const { code, shown } = await onTerminal(place.command([...KNOCKTURN, 'uninstall']), [['Type "yes" to go on: ', 'y\r']])
    expect([code, shown]).toEqual([1, expect.stringContaining('nothing was changed')])
    expect([await now(), await sees()]).toEqual([there, 'silence'])
  })

  it('takes everything away, and the daemon, follows no link, and leaves the rules of others', async () => {
    const daemon = place.start([process.execPath, join(BIN, 'knockdaemon'), '--allow-root', '--new-ledger'])
    await daemon.line(logged('ready'))
    await place.sh(PLANT)
    expect((await uninstall('--dry-run')).stdout.split('\n')).toContainEqual(expect.stringMatching(/^kill -s TERM \d+$/))
    expect(await uninstall('--yes')).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('open now, as far as other rules let it pass: 22/tcp'),
      stderr: '',
    })
    expect((await daemon.exited).signal).toBeNull()
    expect([await now(), await sees()]).toEqual([before, 'open'])
    expect(await place.sh('cat /mnt/elsewhere/file')).toBe('precious\n')
    expect(await uninstall('--yes')).toMatchObject({ code: 0, stdout: NOTHING })
  })

  it('takes back a trial that runs', async () => {
    await place.must([TRIAL, 'begin', '600'])
    await setUp()
    expect(await uninstall('--yes')).toMatchObject({ code: 0, stderr: '' })
    expect(await place.must([TRIAL, 'state'])).toBe('none\n')
    expect([await now(), await sees()]).toEqual([before, 'open'])
  })

  it('removes the rest where something cannot be removed, says so, and goes on another time', async () => {
    await setUp()
    await place.sh('mount --bind /etc/knockturn/keys /etc/knockturn/keys')
    const { code, stderr } = await uninstall('--yes')
    expect([code, stderr]).toEqual([
      1,
      expect.stringMatching(/\/etc\/knockturn\/keys.*busy[\s\S]*not everything could be removed/),
    ])
    expect([await sees(), (await place.snapshot()).match(/^\S*knock\S*/gm)]).toEqual([
      'open',
      ['/etc/knockturn', '/etc/knockturn/keys'],
    ])
    await place.sh('umount /etc/knockturn/keys')
    expect(await uninstall('--yes')).toMatchObject({ code: 0, stderr: '' })
    expect(await now()).toEqual(before)
  })
})
