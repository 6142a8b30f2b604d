// A bare Debian that has been booted: a systemd of its own in namespaces, on the wire of a lab.
//
// It has a root of its own, which outlives a reboot and nothing else, an address for each boot's network (whose firewall
// is empty again), and no way to this machine's clock, kernel modules or settings. All of it ends with the lab, and with the
// namespaces that we are in at the latest, whatever becomes of us.

import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Host } from '../lab/host'
import type { Lab } from '../lab/lab'
import type { Child, RunOptions } from '../lab/processes'
import { until } from '../lab/waiters'
import { layersOf } from './image.mjs'
import { ENVIRONMENT, mount, mountRoot } from './root.mjs'

/** Where we see the groups of processes. systemd wants to be the first in one, and leaves it behind: test/bootstrap.mjs, which named it, takes it away. */
const GROUPS = '/run/knockturn-groups'
const OURS = join(GROUPS, process.env.KNOCKTURN_CGROUP ?? 'knockturn')
/** The last of its addresses, where a lab has no other machine. */
const NUMBER = 50
/** Milliseconds until a boot, or an end in order, has failed: some ten times what they take. */
const PATIENCE = 120_000

/** How its first process begins, as the first in new namespaces, with the root as its argument. What is
 * mounted as /dev keeps systemd from mounting this machine's, and by the boot's id the journal knows which boot it was. */
const BOOT = `
  mount -t proc proc "$0/proc"
  mount --bind "$0/proc/sys" "$0/proc/sys" && mount -o remount,bind,ro "$0/proc/sys"
  mount --bind "$0/proc/sys/net" "$0/proc/sys/net" && mount -o remount,bind,rw "$0/proc/sys/net"
  mount -t sysfs -o ro sysfs "$0/sys" && mount -t cgroup2 none "$0/sys/fs/cgroup"
  mount -t tmpfs tmpfs "$0/run" && mount -t tmpfs tmpfs "$0/tmp"
  cat "$0/proc/sys/kernel/random/uuid" > "$0/run/boot-id"
  mount --bind "$0/run/boot-id" "$0/proc/sys/kernel/random/boot_id"
  mount --bind "$0/dev" "$0/dev"
  exec setpriv --bounding-set=-sys_time,-sys_module,-sys_rawio chroot "$0" env -i container=lxc /lib/systemd/systemd --system`
/** Has the network come up when systemd says, behind all that is to be before it: the machine enables it. */
const NETWORK = `[Unit]
After=network-pre.target
Wants=network.target
Before=network.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=ip link set eth0 up
[Install]
WantedBy=multi-user.target
`
const NAMESPACES = ['--pid', '--mount', '--uts', '--ipc', '--cgroup', '--fork', '--kill-child']

/** What packages enable that no test here has asked for. */
export const PACKAGED = [
  'ufw',
  'firewalld',
  'fail2ban',
  'docker',
  'docker.socket',
  'containerd',
  'netfilter-persistent',
  'nftables',
]
/** The daemon's first start, without a minute in which nothing opens. */
export const FIRST_START = `[Service]
ExecStart=
ExecStart=/opt/knockturn/bin/knockdaemon --new-ledger
`

export class Machine {
  #boots = 0
  readonly #number: number
  /** unshare, whose end is the machine's. */
  #process: ChildProcess | undefined
  /** How a command gets into it. */
  #enter: string[] = []
  /** What was started in it since it was booted. */
  #started: Child[] = []
  readonly lab: Lab
  readonly root: string
  /** What it is on the network, since it was booted. */
  host: Host

  constructor(lab: Lab, image: Parameters<typeof layersOf>[0] = 'machine', number = NUMBER) {
    this.lab = lab
    this.#number = number
    // A layer that lies on the image: what test/full/install.mjs has made. The bare one gets the package, if anything.
    const installed = ['bare', 'neighbours'].includes(image) ? undefined : process.env.KNOCKTURN_INSTALLED
    this.root = mountRoot([...(installed ? [installed] : []), ...layersOf(image)]).root
    this.host = this.#makeHost()
    lab.endings.push(() => this.#cut())
  }

  #makeHost() {
    return new Host(this.lab, `machine${this.#number}-${++this.#boots}`, this.#number)
  }

  /**
   * Boots it, and waits until systemd has started everything; throws with what failed where something has.
   * @param first what is done on its network before, which then comes up when its own unit has it: see {@link NETWORK}
   */
  async boot(first?: () => Promise<void>) {
    await this.host.plugIn()
    // The same card at each boot: others remember it.
    const card = `02:00:00:00:00:${this.#number.toString(16).padStart(2, '0')}`
    await this.host.must(['ip', 'link', 'set', 'eth0', 'address', card])
    if (first) {
      this.write('/etc/systemd/system/network-of-test.service', NETWORK)
      await this.host.must(['ip', 'link', 'set', 'eth0', 'down'])
      await first()
    }
    if (!existsSync(GROUPS)) {
      mkdirSync(GROUPS)
      mount('-t', 'cgroup2', 'none', GROUPS)
    }
    mkdirSync(OURS, { recursive: true })
    const group = mkdtempSync(join(OURS, 'machine-'))
    const begin = ['sh', '-c', 'echo $$ > "$0/cgroup.procs" && exec "$@"', group]
    const argv = [...begin, 'ip', 'netns', 'exec', this.host.namespace, 'unshare', ...NAMESPACES, 'sh', '-euc', BOOT, this.root]
    const machine = spawn(argv[0] as string, argv.slice(1), { stdio: ['ignore', 'ignore', 'inherit'] })
    this.#process = machine
    const { pid } = machine
    const init = () => readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim()
    await until(() => init() !== '', 'the first process of the machine', PATIENCE)
    const environment = Object.entries(ENVIRONMENT).map(([name, value]) => `${name}=${value}`)
    this.#enter = ['nsenter', '-t', init(), '--all', '--root', '--wd', 'env', '-i', ...environment]
    let state = ''
    const isUp = async () => {
      state = (await this.run(['systemctl', 'is-system-running'])).stdout.trim()
      return state === 'running' || state === 'degraded'
    }
    await until(isUp, 'systemd is up', PATIENCE)
    if (state !== 'running') throw new Error(`the machine is ${state}\n${await this.must(['systemctl', '--failed'])}`)
  }

  /** Ends it in order, as its administrator does, and reboots it. */
  async reboot(first?: () => Promise<void>) {
    const machine = this.#process
    if (!machine) throw new Error('the machine has not been booted')
    await this.run(['systemctl', 'poweroff'])
    const isOff = () => {
      // systemd stops all processes before it kills them, and nsenter stops with its own: then nobody would bury that.
      for (const { child } of this.#started) child.kill('SIGCONT')
      return machine.exitCode !== null || machine.signalCode !== null
    }
    await until(isOff, 'the machine is off', PATIENCE)
    this.#started = []
    // What of ours still lives in its network is heard no more.
    await this.lab.wire.must(['ip', 'link', 'delete', this.host.name])
    this.host = this.#makeHost()
    await this.boot(first)
  }

  async #cut() {
    const machine = this.#process
    if (!machine || machine.exitCode !== null || machine.signalCode !== null) return
    const ended = once(machine, 'exit')
    machine.kill('SIGKILL')
    await ended
  }

  /** How a command is run in it, from where we are. */
  inside(argv: string[]) {
    return ['ip', 'netns', 'exec', this.host.namespace, ...this.#enter, ...argv]
  }

  /** Runs a command in it to its end. */
  run(argv: string[], options?: RunOptions) {
    return this.host.run([...this.#enter, ...argv], options)
  }

  /** Runs a command in it that has to succeed, and gives its standard output. */
  must(argv: string[], options?: RunOptions) {
    return this.host.must([...this.#enter, ...argv], options)
  }

  /** Runs commands as they stand in the manual, in its folder. */
  follow(script: string) {
    return this.must(['bash', '-euc', `cd /opt/knockturn\n${script}`], { timeoutMs: PATIENCE })
  }

  /** Starts a command in it that goes on. */
  start(argv: string[]) {
    const child = this.host.start([...this.#enter, ...argv])
    this.#started.push(child)
    return child
  }

  /** What a unit has, and what became of it. */
  async show(unit: string, ...names: string[]): Promise<Record<string, string>> {
    const lines = (await this.must(['systemctl', 'show', unit, '-p', names.join()])).split('\n').filter(Boolean)
    return Object.fromEntries(lines.map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]))
  }

  /** Keeps a unit from being started at the next boot, while it is not booted; no matter whether there is one. */
  disable(unit: string) {
    spawnSync('chroot', [this.root, 'systemctl', 'disable', unit], { env: ENVIRONMENT, stdio: 'ignore' })
  }

  /** Writes a file in it. */
  write(path: string, text: string) {
    writeFileSync(join(this.root, path), text)
  }
}
