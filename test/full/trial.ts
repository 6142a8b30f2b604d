import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import type { Host } from '../lab/host'
import { type Lab, makeLab } from '../lab/lab'
import { besiege } from '../lab/siege'
import { until } from '../lab/waiters'
import { Machine, PACKAGED } from './machine'

/* Trials on a machine with a running systemd: they end by its timer, and at its boot. */

const SSH = 22
const TRIAL = '/opt/knockturn/bin/knockturn-trial'
const UNITS = ['knockdaemon', 'knockturn-guard', 'knockturn-trial']
/** Seconds of a trial that is to expire: longer than a set-up takes on a busy machine. */
const SHORT = '90'
/** Milliseconds in which such a trial is over. */
const PATIENCE = 200_000
/** What a set-up does, but for its words. */
const setUpOf = (backend: string) => `
  set -e
  cd /opt/knockturn
  useradd --system --user-group --shell /usr/sbin/nologin knockturn
  install -d -m 700 -o knockturn -g knockturn /etc/knockturn/keys /var/lib/knockturn
  printf '%s\\n' 'server = "gate.example"' '[firewall]' 'backend = "${backend}"' 'guard = ["${SSH}/tcp"]' > /etc/knockturn/knockturn.toml
  for unit in ${UNITS.join(' ')}; do cp "docs/systemd/$unit.service" /etc/systemd/system/; done
  install -D -m 644 docs/systemd/nftables-guarded.conf /etc/systemd/system/nftables.service.d/knockturn.conf
  systemctl daemon-reload
  systemctl --quiet enable knockturn-trial
  bin/knockturn key new alice --host gate.example --services ${SSH}/tcp
  bin/knockturn guard save
  systemctl start knockturn-guard knockdaemon`
/** What there is of it, without counters; times are those of files. An empty table of iptables stays where there is no nft. */
const SNAPSHOT = `
  ! command -v nft > /dev/null || nft -s list ruleset | sed '/elements = .* limit rate/d'
  { iptables-save; ip6tables-save; } | grep -e ^-A -e KNOCK | sed 's/ .[0-9]*:[0-9]*.$//'
  find /etc/knockturn /var/lib/knockturn /var/lib/knockturn-trial /etc/.knockturn-trial /etc/systemd/system -printf '%p %y %m %U %G %T@ %l\\n' | grep knock | grep -vE '/(ledger|state.json)' | sort
  find /etc/knockturn -type f -exec sha256sum {} + | sort
  grep ^knockturn: /etc/passwd /etc/group
  for unit in ${UNITS.join(' ')}; do systemctl is-enabled $unit; systemctl is-active $unit; done
  exit 0`

/** The trials of one backend. Each has a file of its own: they wait for minutes, at the same time. @param image the machine, which may have no nft */
export const trials = (backend: 'nftables' | 'iptables', image: 'others' | 'machine') =>
  describe(`a trial of ${backend} on a booted machine`, () => {
    const SET_UP = setUpOf(backend)
    let lab: Lab
    let machine: Machine
    let client: Host
    let stranger: Host
    let before = ''

    const listen = async () => {
      await machine.host.startAgent()
      await machine.host.service(SSH)
    }
    const sh = (script: string) => machine.must(['sh', '-c', script], { timeoutMs: PATIENCE })
    const trial = (...argv: string[]) => machine.must([TRIAL, ...argv], { timeoutMs: PATIENCE })
    const state = async () => (await trial('state')).trim()
    const isOver = () => until(async () => (await state()) === 'none', 'the trial is over', PATIENCE)
    const sees = async (host: Host) => (await host.connect(machine.host.ipv4, SSH)).saw
    const snapshot = async () => (await machine.run(['sh', '-c', SNAPSHOT])).stdout
    const failed = () => machine.must(['systemctl', 'list-units', '--failed', '--no-legend', '--plain', 'knock*'])
    /** What the journal of this boot says of two units, in its order. */
    const order = async (...units: string[]) => {
      const lines = (await machine.must(['journalctl', '-b', '-o', 'cat', '--no-pager'])).split('\n')
      return units.map((unit) => lines.findIndex((line) => /^(Finished|Started|Starting) /.test(line) && line.includes(unit)))
    }

    beforeAll(async () => {
      lab = await makeLab(['client', 'stranger'])
      ;({ client, stranger } = lab.hosts as { client: Host; stranger: Host })
      machine = new Machine(lab, image)
      for (const unit of PACKAGED) machine.disable(unit)
      await machine.boot(listen)
      await machine.must(['systemctl', 'enable', '--now', 'network-of-test'])
      before = await snapshot()
      expect(before).not.toContain('/etc/knockturn')
    })
    afterAll(() => lab?.end())
    beforeEach(() => client.moveOn())

    it('goes back by the timer though setup and all of its session are killed, and cuts no connection', async () => {
      const session = await client.hold(machine.host.ipv4, SSH)
      const setup = machine.start([
        'setsid',
        'sh',
        '-c',
        `${TRIAL} begin ${SHORT} $$ && { ${SET_UP}\n} && echo tried $$; sleep 600`,
      ])
      const [, pid] = (await setup.line((line) => line.startsWith('tried '), 0, PATIENCE)).split(' ')
      await machine.must(['kill', '-KILL', '--', `-${pid}`])
      expect([await sees(stranger), await session.isAlive()]).toEqual(['silence', true])
      // Nothing is enabled yet but what takes it back.
      expect((await machine.run(['systemctl', 'is-enabled', ...UNITS])).stdout).toBe('disabled\ndisabled\nenabled\n')
      await isOver()
      expect(await trial('outcome')).toBe('reverted\n')
      expect([await sees(stranger), await session.isAlive()]).toEqual(['open', true])
      expect([await snapshot(), await failed()]).toEqual([before, ''])
      await session.end()
    })

    it('goes back where the client’s network is gone', async () => {
      await trial('begin', SHORT)
      await sh(SET_UP)
      await client.must(['ip', 'link', 'set', 'eth0', 'down'])
      await isOver()
      await client.must(['ip', 'link', 'set', 'eth0', 'up'])
      expect(await snapshot()).toBe(before)
      await client.becomes(machine.host.ipv4, SSH, 'open')
    })

    it('goes back at a reboot, before the network, without a timer', async () => {
      await trial('begin', '600')
      await sh(SET_UP)
      await machine.reboot(listen)
      expect([await state(), await snapshot(), await failed()]).toEqual(['none', before, ''])
      expect(await sees(stranger)).toBe('open')
      const [settled = 0, network = 0] = await order('Knockturn: takes back', 'network-of-test')
      expect(settled).toBeGreaterThanOrEqual(0)
      expect(network).toBeGreaterThan(settled)
    })

    it('stays when it was confirmed before a reboot, and nothing was enabled yet: the guard is there before the network', async () => {
      await trial('begin', '600')
      await sh(SET_UP)
      // What "confirm" does first, and then the power fails.
      await sh('mv -T /var/lib/knockturn-trial/trial /var/lib/knockturn-trial/confirmed && sync')
      const siege = besiege(stranger, machine.host.ipv4, SSH)
      await machine.reboot(listen)
      // No packet is answered by the address that it had before.
      const now = besiege(stranger, machine.host.ipv4, SSH)
      await until(() => (now.seen.silence ?? 0) > 20, 'the stranger has tried')
      for (const { open } of [await siege.end(), await now.end()]) expect(open).toBeUndefined()
      expect([await state(), await failed()]).toEqual(['none', ''])
      await until(async () => (await machine.run(['systemctl', 'is-active', 'knockdaemon'])).code === 0, 'the daemon runs')
      expect((await machine.run(['systemctl', 'is-enabled', ...UNITS])).stdout).toBe('enabled\nenabled\nenabled\n')
      const [guard = 0, network = 0] = await order('Knockturn: shuts', 'network-of-test')
      expect(guard).toBeGreaterThanOrEqual(0)
      expect(network).toBeGreaterThan(guard)
    })

    describe('on a machine that has a guard already', () => {
      const change = `
      sed -i 's/^guard.*/guard = ["${SSH}\\/tcp", "23\\/tcp"]/' /etc/knockturn/knockturn.toml
      /opt/knockturn/bin/knockturn guard save && systemctl reload-or-restart knockturn-guard && systemctl restart knockdaemon
      echo '# changed' >> /etc/systemd/system/knockdaemon.service && systemctl daemon-reload`

      /** Files alone. The daemon has other rules in its first moments: until the kernel knows all connections. And it writes its ledger anew. */
      const ours = (text: string) =>
        text
          .split('\n')
          .filter((line) => /^\/(?!var\/lib\/knockturn d)|^[\da-f]{64} /.test(line))
          .join('\n')

      it('puts that back by the timer, and no stranger gets in meanwhile', async () => {
        const guarded = await snapshot()
        const siege = besiege(stranger, machine.host.ipv4, SSH)
        await trial('begin', SHORT)
        await sh(change)
        await isOver()
        const { silence, ...rest } = await siege.end()
        expect([rest, silence]).toEqual([{}, expect.any(Number)])
        expect([ours(await snapshot()), await failed()]).toEqual([ours(guarded), ''])
      })

      it('puts that back at a reboot, and it is loaded before the network', async () => {
        const guarded = await snapshot()
        await trial('begin', '600')
        await sh(change)
        await machine.reboot(listen)
        const siege = besiege(stranger, machine.host.ipv4, SSH)
        await until(() => (siege.seen.silence ?? 0) > 20, 'the stranger has tried')
        expect((await siege.end()).open).toBeUndefined()
        await until(async () => (await machine.run(['systemctl', 'is-active', 'knockdaemon'])).code === 0, 'the daemon runs')
        expect(await state()).toBe('none')
        expect(ours(await snapshot())).toBe(ours(guarded))
        expect(await sh('systemctl cat knockdaemon')).not.toContain('# changed')
      })
    })

    it('becomes permanent at once when it is confirmed', async () => {
      await trial('begin', '600')
      await trial('confirm')
      expect([await state(), await trial('outcome'), await failed()]).toEqual(['none', 'confirmed\n', ''])
      expect((await machine.run(['systemctl', 'is-active', ...UNITS.slice(0, 2)])).stdout).toBe('active\nactive\n')
      // Its timer is gone.
      expect((await machine.run(['systemctl', 'is-active', 'knockturn-trial-end.timer'])).stdout).toBe('inactive\n')
    })
  })
