import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { ROOT } from '../root'
import type { ClientTls } from './certificates'
import type { Host } from './host'
import type { Child } from './processes'

/** Milliseconds: etcd's own, for a machine that several tests share. */
const HEARTBEAT = 100

/** Where test/etcd.mjs has unpacked them. */
const PROGRAMS = join(ROOT, 'node_modules/.cache/knockturn/etcd/usr/bin')

/** The paths of etcd's programs. @throws where they are missing, saying how to get them */
export function etcdPrograms(): { etcd: string; etcdctl: string } {
  if (!existsSync(PROGRAMS))
    throw new Error(`${PROGRAMS}: expected etcd, and it is missing: where a Debian mirror is in reach, run "node test/etcd.mjs"`)
  return { etcd: join(PROGRAMS, 'etcd'), etcdctl: join(PROGRAMS, 'etcdctl') }
}

export interface EtcdOptions {
  /** Client certificates are asked for. */
  readonly tls?: boolean
  /** User and password are asked for. */
  readonly login?: boolean
  /** Bytes of etcd's database, from which on nothing can be written. */
  readonly quota?: number
  /** Each member's data lie on a disk of this size in memory, such as "200M": etcd takes 128 MB of it at once. */
  readonly disk?: string
  /** Milliseconds between heartbeats; ten of them are an election's. */
  readonly heartbeat?: number
}

/** Where a member runs: a host of the lab, or this process's own namespace. */
export type Place = Pick<Host, 'start' | 'must'>

/** One of a cluster's members. */
export class EtcdMember {
  readonly name: string
  /** For clients in the same network. */
  readonly url: string
  readonly peerUrl: string
  readonly host: Host | null
  readonly data: string
  #place: Place
  #command: string[]
  #process: Child | null = null

  constructor(name: string, host: Host | null, place: Place, url: string, peerUrl: string, data: string, command: string[]) {
    this.name = name
    this.host = host
    this.url = url
    this.peerUrl = peerUrl
    this.data = data
    this.#place = place
    this.#command = command
  }

  get isRunning(): boolean {
    const child = this.#process?.child
    return !!child && child.exitCode === null && child.signalCode === null
  }

  start(): void {
    if (!this.isRunning) this.#process = this.#place.start(this.#command)
  }

  /** Kills it as a power cut does. */
  async kill(): Promise<void> {
    if (!this.#process || !this.isRunning) return
    this.#process.child.kill('SIGKILL')
    await this.#process.exited
  }

  /** Has it stand still, until {@link EtcdMember.resume}. */
  pause(): void {
    this.#process?.child.kill('SIGSTOP')
  }

  resume(): void {
    this.#process?.child.kill('SIGCONT')
  }
}

/** The members as etcd is told of them. */
export const clusterOf = (members: readonly Pick<EtcdMember, 'name' | 'peerUrl'>[]) =>
  members.map(({ name, peerUrl }) => `${name}=${peerUrl}`).join()

/** What a member is started with. */
export function command(
  name: string,
  data: string,
  clients: { readonly listen: readonly string[]; readonly url: string },
  peerUrl: string,
  cluster: string,
  token: string,
  tls: ClientTls | null,
  { quota, heartbeat = HEARTBEAT }: EtcdOptions,
): string[] {
  return [
    etcdPrograms().etcd,
    ...['--name', name, '--data-dir', join(data, 'etcd'), '--logger', 'zap'],
    ...['--listen-client-urls', clients.listen.join(), '--advertise-client-urls', clients.url],
    ...['--listen-peer-urls', peerUrl, '--initial-advertise-peer-urls', peerUrl],
    ...['--initial-cluster', cluster, '--initial-cluster-token', token, '--initial-cluster-state', 'new'],
    ...['--heartbeat-interval', `${heartbeat}`, '--election-timeout', `${heartbeat * 10}`],
    ...(quota ? ['--quota-backend-bytes', `${quota}`] : []),
    ...(tls ? ['--client-cert-auth', '--trusted-ca-file', tls.ca, '--cert-file', tls.cert, '--key-file', tls.key] : []),
  ]
}
