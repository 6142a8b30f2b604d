import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type ClientTls, makeCertificates } from './certificates'
import { clusterOf, command, EtcdMember, type EtcdOptions, etcdPrograms, type Place } from './etcd-member'
import type { Host } from './host'
import { Child, must, type RunOptions } from './processes'
import { listening, tunnel } from './tunnel'
import { until } from './waiters'

/*
 * A real etcd: one member on this process's own loopback, or three in namespaces of the lab.
 *
 *     const etcd = await startEtcd()                                 // etcd.endpoints: http://127.0.0.1:PORT
 *     const cluster = await startCluster([lab.hosts.m1, lab.hosts.m2, lab.hosts.m3], { tls: true })
 *     cluster.endpoints                                              // for programs in the lab's hosts
 *     await cluster.reachFrom(lab.hosts.gw1)                         // for this process, as if it were in that host
 */

const CLIENTS = 2379
const PEERS = 2380
/** Whom the rows' prefix is granted to where etcd has users, and who may all. */
export const LOGIN = { user: 'knockturn', password: 'a lab has no secrets' }
const ROOT_LOGIN = { user: 'root', password: 'nor has root' }
const PREFIX = 'knockturn/'

/** An etcd of one or more members. */
export class EtcdCluster {
  readonly members: readonly EtcdMember[]
  readonly tls: ClientTls | null
  readonly folder: string
  #place: Place
  #token: string
  #loginFile: string | null = null

  constructor(members: readonly EtcdMember[], place: Place, tls: ClientTls | null, folder: string, token: string) {
    this.members = members
    this.#place = place
    this.tls = tls
    this.folder = folder
    this.#token = token
  }

  /** The members' addresses, for whoever is in their network. */
  get endpoints(): string[] {
    return this.members.map(({ url }) => url)
  }

  /** The path of a file with user and password; null: nobody asks for them. */
  get login(): string | null {
    return this.#loginFile
  }

  get #first(): EtcdMember {
    return this.members[0] as EtcdMember
  }

  member(name: string): EtcdMember {
    const member = this.members.find((one) => one.name === name)
    if (!member) throw new Error(`no member ${name}`)
    return member
  }

  /** Runs etcdctl, as root of etcd. @param at the member asked; none: all */
  etcdctl(args: readonly string[], { at, ...options }: { at?: EtcdMember } & RunOptions = {}): Promise<string> {
    const { tls } = this
    const secure = tls ? ['--cacert', tls.ca, '--cert', tls.cert, '--key', tls.key] : []
    const login = this.#loginFile ? ['--user', `${ROOT_LOGIN.user}:${ROOT_LOGIN.password}`] : []
    const endpoints = ['--endpoints', at ? at.url : this.endpoints.join()]
    return this.#place.must([etcdPrograms().etcdctl, ...endpoints, ...secure, ...login, ...args], {
      ...options,
      env: { ETCDCTL_API: '3' },
    })
  }

  /** Starts the members that do not run, and waits until a quorum answers. */
  async start(members: readonly EtcdMember[] = this.members): Promise<void> {
    for (const member of members) member.start()
    await this.ready()
  }

  /** Waits until a quorum writes. */
  ready(): Promise<number> {
    const answers = () =>
      this.etcdctl(['put', 'lab/ready', '', '--command-timeout', '2s', '--dial-timeout', '1s']).then(
        () => true,
        () => false,
      )
    return until(answers, 'etcd writes', 60_000)
  }

  /** The member that leads, by its own word; null: none does right now. */
  async leader(): Promise<EtcdMember | null> {
    for (const member of this.members) {
      if (!member.isRunning) continue
      const said = await this.etcdctl(['endpoint', 'status', '--write-out', 'json'], { at: member }).catch(() => null)
      const status = said && JSON.parse(said)[0]?.Status
      if (status?.leader && status.leader === status.header.member_id) return member
    }
    return null
  }

  /** Has etcd ask for {@link LOGIN}, which may do all below the fleet's usual prefix. */
  async askForLogin(): Promise<void> {
    const user = (name: string, password: string) => this.etcdctl(['user', 'add', `${name}:${password}`])
    await user(ROOT_LOGIN.user, ROOT_LOGIN.password)
    await this.etcdctl(['user', 'grant-role', ROOT_LOGIN.user, 'root'])
    await user(LOGIN.user, LOGIN.password)
    await this.etcdctl(['role', 'add', 'fleet'])
    await this.etcdctl(['role', 'grant-permission', 'fleet', 'readwrite', '--prefix', PREFIX])
    await this.etcdctl(['user', 'grant-role', LOGIN.user, 'fleet'])
    await this.etcdctl(['auth', 'enable'])
    this.#loginFile = join(this.folder, 'login')
    writeFileSync(this.#loginFile, `${LOGIN.user}\n${LOGIN.password}\n`, { mode: 0o600 })
  }

  /** Saves what etcd holds now. @returns the snapshot's path */
  async save(): Promise<string> {
    const path = join(mkdtempSync(join(this.folder, 'snapshot-')), 'db')
    await this.etcdctl(['snapshot', 'save', path], { at: (await this.leader()) ?? this.#first })
    return path
  }

  /**
   * Stops all members and starts them with what a snapshot holds, or with nothing.
   * @param snapshot of {@link EtcdCluster.save}; null: a brand-new etcd
   * @param token another one than before makes another cluster id; the same one makes the same
   */
  async restore(snapshot: string | null, token = this.#token): Promise<void> {
    await Promise.all(this.members.map((member) => member.kill()))
    for (const { name, data, peerUrl } of this.members) {
      rmSync(join(data, 'etcd'), { recursive: true, force: true })
      if (!snapshot) continue
      const cluster = ['--initial-cluster', clusterOf(this.members), '--initial-cluster-token', token]
      const member = ['--name', name, '--initial-advertise-peer-urls', peerUrl, '--data-dir', join(data, 'etcd')]
      await this.#place.must([etcdPrograms().etcdctl, 'snapshot', 'restore', snapshot, ...member, ...cluster], {
        env: { ETCDCTL_API: '3' },
      })
    }
    await this.start()
  }

  /** Lets nothing more be written to the disk of a member that has one of its own. @returns what gives the room back */
  async fillDisk({ data }: EtcdMember): Promise<() => void> {
    const filler = join(data, 'filler')
    await must(['sh', '-c', 'dd if=/dev/zero of="$0" bs=64k 2>/dev/null; :', filler])
    return () => rmSync(filler, { force: true })
  }

  /** Endpoints of this process's own loopback that lead to the members as a host's connections do. */
  async reachFrom(host: Host): Promise<string[]> {
    const targets = this.members.map(({ url }) => ({ address: new URL(url).hostname, port: CLIENTS }))
    const ports = await tunnel(host, targets)
    return ports.map((port) => `${this.tls ? 'https' : 'http'}://127.0.0.1:${port}`)
  }
}

/**
 * Starts three members, or as many as there are hosts, each in its host's namespace; they end with the lab.
 * @returns when they answer
 */
export async function startCluster(hosts: readonly Host[], options: EtcdOptions = {}): Promise<EtcdCluster> {
  const [first] = hosts
  if (!first) throw new Error('a cluster has members')
  const { lab } = first
  const folder = lab.folder()
  const certificates = options.tls ? await makeCertificates(folder, ['127.0.0.1', ...hosts.map(({ ipv4 }) => ipv4)]) : null
  const token = `lab ${lab.name}`
  const scheme = options.tls ? 'https' : 'http'
  const peer = ({ ipv4 }: Host) => `http://${ipv4}:${PEERS}`
  const cluster = clusterOf(hosts.map((host) => ({ name: host.name, peerUrl: peer(host) })))
  const members = []
  for (const host of hosts) {
    const data = mkdtempSync(join(folder, `${host.name}-`))
    if (options.disk) {
      await must(['mount', '-t', 'tmpfs', '-o', `size=${options.disk}`, 'disk', data])
      lab.endings.push(() => must(['umount', data]))
    }
    const url = `${scheme}://${host.ipv4}:${CLIENTS}`
    const clients = { listen: [url, `${scheme}://127.0.0.1:${CLIENTS}`], url }
    const argv = command(host.name, data, clients, peer(host), cluster, token, certificates?.server ?? null, options)
    members.push(new EtcdMember(host.name, host, host, url, peer(host), data, argv))
  }
  const etcd = new EtcdCluster(members, first, certificates?.client ?? null, folder, token)
  await etcd.start()
  if (options.login) await etcd.askForLogin()
  return etcd
}

/**
 * Starts one member on this process's own loopback: quick, and in no namespace, so that a test without a lab may have it.
 * @returns the member's etcd; `end` kills it and deletes its data
 */
export async function startEtcd(options: Omit<EtcdOptions, 'disk'> = {}): Promise<EtcdCluster & { end(): Promise<void> }> {
  const folder = mkdtempSync(join(tmpdir(), 'knockturn-etcd-'))
  const place: Place = { start: (argv) => new Child(argv, {}), must }
  const certificates = options.tls ? await makeCertificates(folder, ['127.0.0.1']) : null
  const [clients = 0, peers = 0] = await freePorts(2)
  const url = `${options.tls ? 'https' : 'http'}://127.0.0.1:${clients}`
  const peerUrl = `http://127.0.0.1:${peers}`
  const cluster = clusterOf([{ name: 'm1', peerUrl }])
  const argv = command('m1', folder, { listen: [url], url }, peerUrl, cluster, folder, certificates?.server ?? null, options)
  const member = new EtcdMember('m1', null, place, url, peerUrl, folder, argv)
  const etcd = new EtcdCluster([member], place, certificates?.client ?? null, folder, folder)
  const end = async () => {
    await member.kill()
    rmSync(folder, { recursive: true, force: true })
  }
  try {
    await etcd.start()
    if (options.login) await etcd.askForLogin()
  } catch (error) {
    await end()
    throw error
  }
  return Object.assign(etcd, { end })
}

/** Ports of loopback that nobody had a moment ago. */
async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer())
  const ports = await Promise.all(servers.map(listening))
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))))
  return ports
}
