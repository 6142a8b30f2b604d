import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { logged } from '../lab/gate'
import type { Host } from '../lab/host'
import { knocked } from '../lab/knocks'
import { type Lab, makeLab } from '../lab/lab'
import type { Child } from '../lab/processes'
import { besiege } from '../lab/siege'
import { until } from '../lab/waiters'
import { FIRST_START, Machine, PACKAGED } from './machine'
import { commands } from './manual.mjs'

/* Beside Debian's other firewall programs, each on a machine of its own, by what docs/operating.md says. */

const SSH = 22
/** What a container publishes. */
const WEB = 8080
/** A service of the host's that nobody has allowed. */
const OTHER = 2222
/** How often the other program loads its rules again. */
const RELOADS = 3

interface Program {
  readonly name: string
  readonly port: number
  /** What the administrator has done before. */
  readonly prepare?: (machine: Machine, backend: string) => Promise<unknown>
  readonly reload: string[]
  /** Whether it shuts what nobody has allowed. */
  readonly shuts: boolean
}

/** A root for containers: a web server. */
const WEB_ROOT = 'mkdir -p /root/web/bin && cp /usr/bin/busybox /root/web/bin/ && tar -C /root/web -c .'
const START = 'CMD ["/bin/busybox","httpd","-f","-p","80"]'

const PROGRAMS: readonly Program[] = [
  { name: 'ufw', port: SSH, reload: ['ufw', 'reload'], shuts: true },
  {
    name: 'firewalld',
    port: SSH,
    prepare: (machine) => machine.must(['systemctl', 'enable', '--now', 'firewalld']),
    reload: ['firewall-cmd', '--reload'],
    shuts: true,
  },
  {
    name: 'nftables.service',
    port: SSH,
    prepare: async ({ root }, backend) => {
      const sample = readFileSync(join(root, 'usr/share/doc/nftables/examples/workstation.nft'), 'utf8')
      const rules = sample.replace(/^.*ct state established.*$/m, '$&\ntcp dport 22 accept')
      const instead = 'table inet filter\ndelete table inet filter'
      writeFileSync(join(root, 'etc/nftables.conf'), backend === 'iptables' ? rules.replace('flush ruleset', instead) : rules)
    },
    reload: ['systemctl', 'reload', 'nftables'],
    shuts: true,
  },
  { name: 'fail2ban', port: SSH, reload: ['fail2ban-client', 'reload'], shuts: false },
  {
    name: 'Docker',
    port: WEB,
    prepare: async (machine) => {
      // An overlay can't lie on the overlay that the machine's disk is.
      mkdirSync(join(machine.root, 'etc/docker'), { recursive: true })
      machine.write('etc/docker/daemon.json', '{"storage-driver": "vfs"}')
      await machine.must(['systemctl', 'enable', '--now', 'docker'])
      await machine.follow(`${WEB_ROOT} | docker import --change '${START}' - web`)
    },
    // The web server hears no signal but this one.
    reload: ['sh', '-c', 'docker kill web && systemctl reset-failed docker && systemctl restart docker && docker start web'],
    shuts: false,
  },
  {
    name: 'Podman',
    port: WEB,
    prepare: async (machine) => {
      mkdirSync(join(machine.root, 'etc/containers'), { recursive: true })
      machine.write(
        'etc/containers/storage.conf',
        '[storage]\ndriver = "vfs"\nrunroot = "/run/containers/storage"\ngraphroot = "/var/lib/containers/storage"\n',
      )
      // The machine's groups of processes have no limits.
      machine.write('etc/containers/containers.conf', '[containers]\ncgroups = "disabled"\n[engine]\nruntime = "crun"\n')
      await machine.follow(`${WEB_ROOT} | podman import --change '${START}' - web`)
    },
    reload: ['podman', 'network', 'reload', '--all'],
    shuts: false,
  },
]

describe.each(['nftables', 'iptables'])('the guard of %s', (backend) => {
  describe.each(PROGRAMS)('beside $name', ({ name, port, prepare, reload, shuts }) => {
    let lab: Lab
    let machine: Machine
    let client: Host
    let stranger: Host
    let journal: Child
    let key: string
    const sees = async (host: Host, at = port) => (await host.connect(machine.host.ipv4, at)).saw

    beforeAll(async () => {
      lab = await makeLab(['client', 'stranger'])
      ;({ client, stranger } = lab.hosts as { client: Host; stranger: Host })
      machine = new Machine(lab, 'others')
      for (const unit of PACKAGED) machine.disable(unit)
      await machine.boot()
      await machine.host.startAgent()
      await machine.host.service(OTHER)
      if (port === SSH) await machine.host.service(SSH)
      const [, , user = ''] = commands('Install')
      await machine.follow(user)
      const config = `server = "gate.example"\n[firewall]\nbackend = "${backend}"\nguard = ["${port}/tcp"]\n`
      machine.write('/etc/knockturn/knockturn.toml', config)
      await machine.follow(`bin/knockturn key new alice --host gate.example --services ${port}/tcp`)
      await machine.follow('(umask 077; bin/knockturn key export alice > /root/alice.key)')
      key = join(machine.root, 'root/alice.key')
      for (const script of commands('Load the guard at boot')) await machine.follow(script)
      mkdirSync(join(machine.root, 'etc/systemd/system/knockdaemon.service.d'))
      machine.write('etc/systemd/system/knockdaemon.service.d/first.conf', FIRST_START)
      const [bySystemd = ''] = commands('Start the daemon')
      await machine.follow(bySystemd)
      await prepare?.(machine, backend)
      for (const script of commands(`With ${name}`)) await machine.follow(script)
      journal = machine.start(['journalctl', '-u', 'knockdaemon', '-b', '-o', 'cat', '-f', '-n', 'all'])
      await journal.line(logged('ready'))
    })
    afterAll(() => lab?.end())

    it('meets a stranger with silence', async () => {
      expect([await sees(stranger), await sees(client)]).toEqual(['silence', 'silence'])
    })

    it('is opened by a knock, for the asked address only', async () => {
      await knocked(client, journal, key, '-r', machine.host.ipv4, '-p', `${port}`, '-t', '10m')
      expect([await sees(client), await sees(stranger)]).toEqual(['open', 'silence'])
    })

    it(`lets ${name} ${shuts ? 'shut' : 'leave open'} what is not guarded`, async () => {
      expect((await sees(stranger, OTHER)) === 'open').toBe(!shuts)
    })

    it(`stays as it is when ${name} loads its rules again`, async () => {
      const siege = besiege(stranger, machine.host.ipv4, port)
      await until(() => (siege.seen.silence ?? 0) > 0, 'the stranger tries')
      for (let n = 0; n < RELOADS; n++) await machine.must(reload)
      const { silence: _, ...rest } = await siege.end()
      expect(rest).toEqual({})
      await client.becomes(machine.host.ipv4, port, 'open')
    })

    it('has the unit of the guard and of the daemon in order', async () => {
      const states = (await machine.run(['systemctl', 'is-active', 'knockturn-guard', 'knockdaemon'])).stdout
      expect(states.split('\n').filter(Boolean)).toEqual(['active', 'active'])
    })

    if (name === 'fail2ban')
      it('leaves a ban in force against a lease', async () => {
        await machine.must(['fail2ban-client', 'set', 'sshd', 'banip', client.ipv4])
        expect(await sees(client)).not.toBe('open')
      })

    if (port === WEB)
      it('keeps strangers from the address of the container itself', async () => {
        const [container = ''] = (
          await machine.must([name.toLowerCase(), 'inspect', 'web', '--format', '{{.NetworkSettings.IPAddress}}'])
        ).split('\n')
        await stranger.must(['ip', 'route', 'add', `${container}/32`, 'via', machine.host.ipv4])
        await machine.host.must(['sysctl', '-qw', 'net.ipv4.ip_forward=1'])
        // The daemon finds networks by looking for them, and a moment ago there was none.
        await stranger.becomes(container, 80, 'silence')
      })
  })
})
