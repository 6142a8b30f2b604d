import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { logged } from '../lab/gate'
import type { Host } from '../lab/host'
import { Lab } from '../lab/lab'
import { BIN } from '../root'
import { onTerminal } from '../terminal'
import { OwnEtc } from './own-etc'

/* knockturn uninstall, without systemd: real rules and files, a daemon that runs, and rules of others. */

const SSH = 22
/** Rules of others, some in the tables that ours are in. */
const OTHERS = `
  iptables -A INPUT -p tcp --dport 7 -j ACCEPT; iptables -t mangle -A PREROUTING -p tcp --dport 7 -j ACCEPT
  nft 'add table inet other; add chain inet other input { type filter hook input priority 0; }; add rule inet other input counter'`
/** What a set-up has made, and an administrator. $0: node, $1: the programs, $2: the backend */
const SET_UP = `
  set -e
  useradd --system --user-group --shell /usr/sbin/nologin knockturn
  install -d -m 700 /etc/knockturn/keys /var/lib/knockturn
  printf '%s\\n' 'server = "gate.example"' '[firewall]' "backend = \\"$2\\"" 'guard = ["22/tcp"]' > /etc/knockturn/knockturn.toml
  "$0" "$1/knockturn" key new alice --host 198.51.100.1 --services 22/tcp
  "$0" "$1/knockturn" guard save
  cd /etc/systemd/system
  mkdir -p knockturn.test.wants nftables.service.d knockdaemon.service.d
  for name in knockdaemon.service knockturn-guard.service knockturn-fail-open.timer nftables.service.d/knockturn.conf knockdaemon.service.d/own.conf
  do echo '[Unit]' > $name; done
  ln -s ../knockdaemon.service knockturn.test.wants/
  "$1/knockturn-guard"`

describe.each(['nftables', 'iptables'] as const)('knockturn uninstall, with %s', (backend) => {
  let lab: Lab
  let server: Host
  let stranger: Host
  let place: OwnEtc
  let before = ''
  let there = ''

  const knockturn = (...argv: string[]) => [process.execPath, join(BIN, 'knockturn'), ...argv]
  const sees = async () => (await stranger.connect(server.ipv4, SSH)).saw

  beforeAll(async () => {
    lab = new Lab(['stranger'])
    await lab.build()
    ;({ server, stranger } = lab.hosts as { server: Host; stranger: Host })
    await server.service(SSH)
    place = new OwnEtc(server)
    await place.mount()
    await place.sh(OTHERS)
    before = await place.snapshot()
    await place.sh(SET_UP, process.execPath, BIN, backend)
    there = await place.snapshot()
    expect(await sees()).toBe('silence')
  })
  afterAll(() => lab?.end())

  it('prints with --dry-run what it would do, and does nothing', async () => {
    const { code, stdout } = await place.run(knockturn('uninstall', '--dry-run'))
    expect(code).toBe(0)
    for (const text of ['rm -rf -- /etc/knockturn', 'rm -rf -- /var/lib/knockturn', 'knockturn-unguard', 'userdel knockturn'])
      expect(stdout).toContain(text)
    expect(await place.snapshot()).toBe(there)
  })

  it('asks before it begins, and does nothing where the answer is another than yes, or nobody is there', async () => {
    expect(await place.run(knockturn('uninstall'))).toMatchObject({ code: 2, stderr: expect.stringContaining('no terminal') })
    const { code, shown } = await onTerminal(place.command(knockturn('uninstall')), [['Type "yes" to go on: ', 'y\r']])
    expect([code, shown]).toEqual([1, expect.stringContaining('nothing was changed')])
    expect(await place.snapshot()).toBe(there)
  })

  it('leaves the machine as it was, with the rules of others, and no daemon that runs', async () => {
    const daemon = place.start([process.execPath, join(BIN, 'knockdaemon'), '--allow-root', '--new-ledger'])
    await daemon.line(logged('ready'))
    expect(await place.run(knockturn('uninstall', '--yes'), { timeoutMs: 60_000 })).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/^open now, .* 22\/tcp .*\nuninstalled: /),
    })
    expect(await daemon.exited).toMatchObject({ signal: null })
    expect([await place.snapshot(), await sees()]).toEqual([before, 'open'])
  })

  it('has nothing to do a second time', async () => {
    expect(await place.run(knockturn('uninstall', '--yes'))).toMatchObject({
      code: 0,
      stdout: 'nothing of Knockturn is set up here\n',
    })
  })
})
