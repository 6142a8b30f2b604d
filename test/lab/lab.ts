import { chownSync, cpSync, mkdirSync, mkdtempSync, rmSync, statfsSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ROOT } from '../root'
import { Host } from './host'
import { must } from './processes'
import { until } from './waiters'

/*
 * Hosts in network namespaces, joined by one switch: real packets, real iptables, nothing of this machine's own.
 *
 *                       wire (a bridge: the eavesdropper's place)
 *          server ──────────┼────────── client, stranger, ...
 *      198.51.100.1                 198.51.100.2, .3, ...
 *      2001:db8:7::1                2001:db8:7::2, ::3, ...
 */

/** What statfs says of a tmpfs. */
const TMPFS = 0x01021994

let labs = 0

/** A server and clients, by name. `await lab.end()` ends all that was started and deletes all that was made. */
export async function makeLab(clients: string[] = ['client']) {
  const lab = new Lab(clients)
  try {
    await lab.build()
  } catch (error) {
    await lab.end()
    throw error
  }
  return lab
}

/** @throws where the firewall would be this machine's */
export function inNamespace(): void {
  if (!process.env.KNOCKTURN_NAMESPACE)
    throw new Error('the lab works in namespaces of its own: run npm test, or npm run demo, bench or attack')
}

export class Lab {
  /** What to do at the end, the last made first. */
  readonly endings: (() => unknown)[] = []
  moves = 0
  readonly name = `kt${process.pid}-${++labs}`
  /** The bridge. */
  readonly wire: Host
  readonly hosts: Record<string, Host>
  readonly server: Host

  /** Names the hosts; {@link build} makes them. */
  constructor(clients: string[]) {
    this.wire = new Host(this, 'wire', 0)
    this.server = new Host(this, 'server', 1)
    const others = clients.map((name, i) => [name, new Host(this, name, i + 2)])
    this.hosts = { server: this.server, ...Object.fromEntries(others) }
  }

  async build() {
    inNamespace()
    await this.wire.makeNamespace()
    await this.wire.must(['ip', 'link', 'add', 'switch', 'type', 'bridge', 'mcast_snooping', '0'])
    await this.wire.must(['ip', 'link', 'set', 'switch', 'up'])
    const hosts = Object.values(this.hosts)
    for (const host of hosts) await host.plugIn()
    await Promise.all(hosts.map((host) => host.startAgent()))
    // Usable when each host's packets come back from the server, where nothing is in their way yet.
    for (const host of hosts) {
      for (const address of [this.server.ipv4, this.server.ipv6]) {
        await until(async () => (await host.connect(address, 9, 100)).saw === 'refused', `${host.name} reaches ${address}`)
      }
    }
  }

  /** A temporary folder on a disk: a ledger must not lie in memory. */
  folder() {
    const parent = statfsSync(tmpdir()).type === TMPFS ? '/var/tmp' : tmpdir()
    const path = mkdtempSync(join(parent, 'knockturn-lab-'))
    this.endings.push(() => rmSync(path, { recursive: true, force: true }))
    return path
  }

  /**
   * A daemon as it is installed, for whatever user it has and wherever this clone, its node and its temporary folder lie.
   * @param runtime the Node that it has
   * @returns how to run it, and a folder on a disk that is the user's
   */
  async install({ uid, gid }: { uid: number; gid: number }, runtime: string) {
    const place = mkdtempSync('/run/knockturn-')
    this.endings.push(() => rmSync(place, { recursive: true }))
    // Not the 94 MB that npm run usb makes.
    const filter = (path: string) => !path.endsWith(join('dist', 'usb'))
    for (const part of ['bin', 'dist']) cpSync(join(ROOT, part), join(place, part), { recursive: true, filter })
    const [node, folder] = [join(place, 'node'), join(place, 'state')]
    writeFileSync(node, '')
    mkdirSync(folder)
    await must(['chmod', '-R', 'a+rX', place])
    const bound: [string, string][] = [
      [runtime, node],
      [this.folder(), folder],
    ]
    for (const [what, where] of bound) {
      await must(['mount', '--bind', what, where])
      this.endings.push(() => must(['umount', where]))
    }
    chownSync(folder, uid, gid)
    return { folder, knockdaemon: [node, join(place, 'bin', 'knockdaemon')] }
  }

  async end() {
    const failures = []
    for (const ending of this.endings.splice(0).reverse()) {
      try {
        await ending()
      } catch (error) {
        failures.push(error)
      }
    }
    if (failures.length > 0) throw new AggregateError(failures, failures.map(String).join('\n'))
  }
}
