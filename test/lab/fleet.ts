import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { base32nopad } from '@scure/base'
import { usualBackend } from './backend'
import { clockFrom, setClock } from './clock'
import { type EtcdCluster, startCluster } from './etcd'
import type { EtcdOptions } from './etcd-member'
import { type Gate, type GateOptions, giveFile, logged, provision } from './gate'
import type { Host } from './host'
import { Lab } from './lab'
import type { Child } from './processes'

/*
 * Several gateways with the same keys, each a real daemon in a namespace of its own, with a ledger and a firewall of its own; beside them an
 * etcd of three members, in namespaces too, which they share.
 *
 *                            wire
 *     gw1, gw2, gw3 ───────────┼─────────── m1, m2, m3
 *                      client, listener
 */

/** The port of the service behind each gateway's door. */
export const DOOR = 22
/** The port of datagram knocks. */
export const DATAGRAMS = 443
/** What users send from, and the listener: a block each. */
const BLOCKS = ['10.66', '10.67']
const MEMBERS = ['m1', 'm2', 'm3']
/** Milliseconds within which a daemon is ready, where others run beside it. */
const START = 60_000
/** Seconds of a key's windows: the least that there is, so that what waits for windows to pass does not take long. */
export const PERIOD = 10

export interface FleetOptions {
  readonly gateways?: readonly string[]
  /** Whether they share a ledger: otherwise there is no etcd, and each has its own alone. */
  readonly isShared?: boolean
  /** How many keys all of them have. */
  readonly keys?: number
  readonly backend?: GateOptions['backend']
  readonly etcd?: EtcdOptions
  /** What a gateway waits for etcd's answer, as its config has it. */
  readonly timeout?: string
  /** Further hosts. */
  readonly hosts?: readonly string[]
}

/** Names of a fleet's keys. */
export const keyNames = (count: number): string[] => Array.from({ length: count }, (_, n) => `user${n}`)

/** Makes a keyring in which each key may open the door from anywhere. @param folder that is made */
function makeKeys(folder: string, count: number): void {
  mkdirSync(folder, { mode: 0o700 })
  for (const [n, id] of keyNames(count).entries()) {
    const secret = Buffer.alloc(32, n + 1)
    const head = `id = "${id}"\nsecret = "${base32nopad.encode(secret)}"\nserver = "gate.example"\nperiod = ${PERIOD}\n`
    const grant = `[grant]\nservices = ["${DOOR}/tcp"]\nmax = "1h"\n`
    writeFileSync(join(folder, `${id}.key`), `${head}pool = "49152-65535"\ncreated = 2026-01-31T12:00:00Z\n\n${grant}`, {
      mode: 0o600,
    })
  }
}

/** One gateway: its daemon, which may be killed and started, and whose clock may be set. */
export class Gateway {
  readonly name: string
  readonly host: Host
  readonly gate: Gate
  readonly #clock: string
  #daemon: Child
  /** What daemons that have ended have logged. */
  readonly #before: string[] = []

  constructor(host: Host, gate: Gate) {
    this.name = host.name
    this.host = host
    this.gate = gate
    this.#clock = join(gate.folder, 'clock')
    setClock(this.#clock, 0)
    this.#daemon = gate.daemon
  }

  get daemon(): Child {
    return this.#daemon
  }

  get isRunning(): boolean {
    const { exitCode, signalCode } = this.#daemon.child
    return exitCode === null && signalCode === null
  }

  /** All that its daemons have logged, in order. */
  get lines(): string[] {
    return [...this.#before, ...this.#daemon.lines]
  }

  /** What its daemon has written down of itself. */
  get state() {
    return JSON.parse(readFileSync(join(this.gate.folder, 'state.json'), 'utf8'))
  }

  /** Starts its daemon again, which from now on has a clock that can be set: the first one has the kernel's. */
  start(): Promise<void> {
    return this.startBehind()
  }

  /** As {@link Gateway.start}. @param words in front of the program: what else it is to find */
  async startBehind(...words: string[]): Promise<void> {
    this.#daemon = this.host.start(this.gate.commandBehind(...words, ...clockFrom(this.#clock)))
    await this.#daemon.line(logged('ready'), 0, START)
  }

  /** Ends its daemon, with all of that one's processes. */
  async end(signal: 'SIGKILL' | 'SIGTERM' = 'SIGKILL'): Promise<void> {
    for (const pid of await this.host.processes()) signalTo(pid, signal)
    await this.#daemon.exited
    this.#before.push(...this.#daemon.lines)
    this.#daemon.lines = []
  }

  async restart(): Promise<void> {
    await this.end('SIGTERM')
    await this.start()
  }

  /** Has its daemon stand still, until {@link Gateway.resume}. */
  pause(): void {
    this.#daemon.child.kill('SIGSTOP')
  }

  resume(): void {
    this.#daemon.child.kill('SIGCONT')
  }

  /** Sets the daemon's clock so many seconds off, in one step, now and for daemons to come. */
  setClock(seconds: number): void {
    setClock(this.#clock, seconds)
  }

  /** Runs knockturn in its host, with its config. */
  knockturn(...argv: string[]): Promise<string> {
    return this.gate.knockturn(...argv, '--config', this.gate.config)
  }
}

function signalTo(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal)
  } catch {
    // It has ended with its parent.
  }
}

export interface Fleet {
  readonly lab: Lab
  readonly gateways: readonly Gateway[]
  /** Null where nothing is shared. */
  readonly etcd: EtcdCluster | null
  /** The keyring that all have been given. */
  readonly keyring: string
  readonly client: Host
  readonly listener: Host
  end(): Promise<void>
}

/** Makes a fleet, with hosts for a client and a listener who hears it; all gateways are ready. `end()` ends everything. */
export async function makeFleet({
  gateways = ['gw1', 'gw2', 'gw3'],
  isShared = true,
  keys = 1,
  backend = usualBackend(),
  etcd: options = {},
  timeout = '5s',
  hosts = [],
}: FleetOptions = {}): Promise<Fleet> {
  const lab = new Lab(['client', 'listener', ...gateways, ...(isShared ? MEMBERS : []), ...hosts])
  try {
    await lab.build()
    const host = (name: string) => lab.hosts[name] as Host
    const etcd = isShared ? await startCluster(MEMBERS.map(host), { tls: true, ...options }) : null
    const keyring = join(lab.folder(), 'keys')
    makeKeys(keyring, keys)
    const made: Gateway[] = []
    for (const name of gateways) made.push(await makeGateway(lab, host(name), keyring, backend, etcd, timeout, made.length === 0))
    return { lab, gateways: made, etcd, keyring, client: host('client'), listener: host('listener'), end: () => lab.end() }
  } catch (error) {
    await lab.end()
    throw error
  }
}

/** @param isFirst whether it makes what the others join */
async function makeGateway(
  lab: Lab,
  host: Host,
  keyring: string,
  backend: NonNullable<GateOptions['backend']>,
  etcd: EtcdCluster | null,
  timeout: string,
  isFirst: boolean,
): Promise<Gateway> {
  await host.service(DOOR)
  for (const block of BLOCKS) await host.must(['ip', 'route', 'add', `${block}.0.0/16`, 'dev', 'eth0'])
  const gate = await provision(lab, {
    server: host,
    keysOf: keyring,
    backend,
    more: `[datagram]\nports = [${DATAGRAMS}]\n`,
    ledgerLines: (folder) => (etcd ? ledgerLines(etcd, host.name, folder, timeout) : ''),
    prepare: async ({ folder, config, user, knockturn }) => {
      if (!etcd) return
      for (const [from, to] of filesOf(etcd, folder)) giveFile(from, to, user)
      await knockturn('fleet', isFirst ? 'init' : 'join', '--config', config)
    },
  })
  return new Gateway(host, gate)
}

/** What a gateway needs of etcd's, and where it has it. */
function filesOf({ tls, login }: EtcdCluster, folder: string): [string, string][] {
  return [...(tls ? Object.entries(tls) : []), ...(login ? [['login', login]] : [])].map(([name, from]) => [
    String(from),
    join(folder, `etcd-${name}`),
  ])
}

const ledgerLines = (etcd: EtcdCluster, gateway: string, folder: string, timeout: string) =>
  [
    `etcd = ${JSON.stringify(etcd.endpoints)}`,
    `gateway = "${gateway}"`,
    `timeout = "${timeout}"`,
    ...(etcd.tls ? ['ca', 'cert', 'key'] : []).map((name) => `${name} = ${JSON.stringify(join(folder, `etcd-${name}`))}`),
    ...(etcd.login ? [`login = ${JSON.stringify(join(folder, 'etcd-login'))}`] : []),
  ].join('\n')
