import { chmodSync, chownSync, copyFileSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { BIN } from '../root'
import { type Backend, isUsuallyGuarded, usualBackend } from './backend'
import type { Host } from './host'
import type { Lab } from './lab'
import { must } from './processes'

/** The daemon's user: nobody where we are root, and else the only one that there is. */
const OURSELVES = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 }
export const USER = OURSELVES.uid === 0 ? { uid: 65_534, gid: 65_534 } : OURSELVES
/** What docs/systemd/knockdaemon.service gives the daemon, and no more. */
export const PRIVILEGES = [
  'setpriv',
  ...(OURSELVES.uid === 0 ? ['--reuid', `${USER.uid}`, '--regid', `${USER.gid}`, '--clear-groups'] : []),
  ...['--inh-caps', '--ambient-caps', '--bounding-set'].map((set) => `${set}=-all,+net_admin`),
  '--no-new-privs',
]

/** Runs a command to its end. */
type Run = (...argv: string[]) => Promise<string>

export interface GateOptions {
  /** Whose gate it is; none: the lab's server's. */
  server?: Host
  /** A folder whose keys are copied, and no key is made. */
  keysOf?: string
  /** What else the config says of the ledger. @param folder that is the daemon's own */
  ledgerLines?: (folder: string) => string
  id?: string
  /** For `knockturn key new`. */
  keyOptions?: string[]
  skew?: number
  neverLock?: string[]
  /** The daemon may do what we may, instead of what its unit lets it. */
  allowRoot?: boolean
  /** The size of a disk that is made for the ledger alone. */
  disk?: string
  /** Whose rules the leases are; of the user's own program, `firewall` has its table. */
  backend?: Backend | 'dry-run' | 'command'
  /** What is guarded: then there are no other rules. Null: nothing, and the administrator's own rules shut everything. */
  guard?: readonly string[] | 'all' | null
  /** What else the config says of the firewall, and after all tables that have it. */
  firewall?: string
  more?: string
  /** The Node of the server's programs. */
  runtime?: string
  /** What is done when all is there but the daemon. */
  prepare?: (gate: { folder: string; config: string; user: typeof USER; knockturn: Run }) => Promise<unknown>
}

/** Copies a file that only its user may read. */
export function giveFile(from: string, to: string, { uid, gid }: typeof USER): void {
  copyFileSync(from, to)
  chmodSync(to, 0o600)
  chownSync(to, uid, gid)
}

/** All below the pool: as with a policy that drops, nobody reaches what no lease opens. */
export const GUARD = ['1-49151/tcp', '1-49151/udp']

export type Gate = Awaited<ReturnType<typeof provision>>

/**
 * Makes a key, its client's copy and a config in a temporary folder, and the server's firewall: first the administrator's
 * own rules, then ours behind them. Starts the daemon.
 */
export async function provision(
  lab: Lab,
  {
    server = lab.server,
    keysOf = '',
    ledgerLines = () => '',
    id = 'traveller',
    keyOptions = ['--services', '22/tcp,443/tcp', '--max', '1h'],
    skew = 1,
    neverLock = [],
    allowRoot = false,
    disk = '',
    backend = usualBackend(),
    guard = backend === 'nftables' || (backend === 'iptables' && isUsuallyGuarded()) ? GUARD : null,
    firewall = '',
    more = '',
    runtime = process.execPath,
    prepare = async () => {},
  }: GateOptions = {},
) {
  const user = allowRoot ? OURSELVES : USER
  const { folder, knockdaemon } = await lab.install(user, runtime)
  const copies = lab.folder() // the clients'
  const keys = join(folder, 'keys')
  mkdirSync(keys, { mode: 0o700 })
  chownSync(keys, user.uid, user.gid)
  const config = join(folder, 'knockturn.toml')
  const ledger = join(folder, ...(disk ? ['disk', 'ledger'] : ['ledger']))
  if (disk) {
    mkdirSync(join(folder, 'disk'))
    await must(['mount', '-t', 'tmpfs', '-o', `size=${disk},uid=${user.uid},gid=${user.gid}`, 'disk', join(folder, 'disk')])
    lab.endings.push(() => must(['umount', join(folder, 'disk')]))
  }
  const knockturn = (...argv: string[]) => server.must([runtime, join(BIN, 'knockturn'), ...argv])

  /** Another key in the server's keyring (the daemon reads it at SIGHUP); gives the path of the client's copy. */
  const newKey = async (name: string, ...options: string[]) => {
    const copy = join(copies, `${name}.key`)
    await knockturn('key', 'new', name, '--server', 'gate.example', '--host', server.ipv4, ...options, '--keys', keys)
    await knockturn('key', 'export', name, '--out', copy, '--keys', keys)
    return copy
  }
  for (const name of keysOf ? readdirSync(keysOf) : []) giveFile(join(keysOf, name), join(keys, name), user)
  const key = keysOf ? '' : await newKey(id, ...keyOptions)

  const isGuarded = guard !== null
  const guarded = isGuarded ? `guard = ${JSON.stringify(guard)}` : ''
  writeFileSync(
    config,
    `server = "gate.example"
keys = ${JSON.stringify(keys)}
skew = ${skew}
never_lock = ${JSON.stringify(neverLock)}
[taps]
source = "nflog"
group = 5
prefix = "KNOCK: "
[firewall]
backend = "${backend}"
${guarded}
${firewall}
[ledger]
path = ${JSON.stringify(ledger)}
${ledgerLines(folder)}
${more}`,
  )

  for (const iptables of isGuarded ? [] : ['iptables', 'ip6tables']) {
    await server.must([iptables, '-P', 'INPUT', 'DROP'])
    await server.must([iptables, '-A', 'INPUT', '-i', 'lo', '-j', 'ACCEPT'])
    await server.must([iptables, '-A', 'INPUT', '-m', 'conntrack', '--ctstate', 'ESTABLISHED,RELATED', '-j', 'ACCEPT'])
  }
  // Neighbour discovery.
  if (!isGuarded) await server.must(['ip6tables', '-A', 'INPUT', '-p', 'icmpv6', '-j', 'ACCEPT'])
  await knockturn('firewall', 'install', '--config', config)

  /**
   * The daemon's command, with the privileges that it is to have.
   * @param words in front of the program, when it has them: what else it is to find
   */
  const commandBehind = (...words: string[]) => [
    ...(allowRoot ? [] : PRIVILEGES),
    ...words,
    ...knockdaemon,
    ...['--config', config, ...(allowRoot ? ['--allow-root'] : [])],
  ]
  const command = commandBehind()

  /** Starts the daemon and waits until it hears. */
  const startDaemon = async (...options: string[]) => {
    const daemon = server.start([...command, ...options])
    await daemon.line(logged('ready'))
    return daemon
  }

  await prepare({ folder, config, user, knockturn })
  const daemon = await startDaemon('--new-ledger')
  return {
    user,
    isGuarded,
    folder,
    keys,
    config,
    ledger,
    key,
    knockturn,
    newKey,
    knockdaemon,
    command,
    commandBehind,
    startDaemon,
    daemon,
  }
}

/** Fits the lines of the daemon's log with this message and these fields. */
export function logged(msg: string, fields: Record<string, unknown> = {}) {
  return (line: string) => {
    if (!line.startsWith('{')) return false
    const record = JSON.parse(line)
    return record.msg === msg && Object.entries(fields).every(([name, value]) => record[name] === value)
  }
}
