import { randomBytes } from 'node:crypto'
import { isIP } from 'node:net'
import { dirname } from 'node:path'
import { bytesToHex } from '@noble/hashes/utils.js'
import { Option } from 'commander'
import { exposedServices } from '../admin/exposure'
import { type ServerKeyring, serverKeyring } from '../admin/keyring-config'
import { readConfig, SERVER_CONFIG } from '../daemon/config'
import { installScript, removeScript, show } from '../daemon/firewall/chains'
import { acceptedInPool } from '../daemon/firewall/input'
import type { TapRules } from '../daemon/firewall/log-rules'
import { connectionsAtRisk, servicesInPool } from '../daemon/firewall/sockets'
import { type Family, type FilterTable, parseTable, readReached, readTables, restore } from '../daemon/firewall/table'
import { NO_CONNLABEL, tryAbilities } from '../daemon/firewall/trial'
import { type Rebase, rebaseLedger } from '../daemon/ledger/disk'
import { passcodeFault } from '../daemon/passcode-rules'
import { poolFault } from '../daemon/server-keys'
import { type GrantRules, isOver, MIN_OPEN_PREFIX } from '../gate/server-key'
import { describeGrant, describeHint, describePasscode, formatKeyFile, hintOf, type KeyFile } from '../keys/key-file'
import { addKey, findKey, keyPath, readKeyring, revokeKey, SERVER_KEYS } from '../keys/keyring'
import { sealText } from '../keys/sealed-key'
import { type Cidr, parseCidr } from '../protocol/address'
import { deriveKey, labelFault, MAX_PERIOD, MIN_PERIOD, SECRET_BYTES } from '../protocol/key'
import { passcodeRange } from '../protocol/passcode'
import { DEFAULT_POOL, formatPool, parsePool, poolRanges, unite } from '../protocol/pool'
import { formatService, readService } from '../protocol/service'
import { parseInstant } from '../system/calendar'
import { forbidCoreDumps } from '../system/core-dumps'
import { Fault, listed, printable, reason, UsageFault } from '../system/fault'
import { asOwner, checkFree, writeNew } from '../system/files'
import { checkClock, isoTime, parseDuration, parseLifetime } from '../system/time'
import type { EnrolOptions } from './admin/enrol'
import { newPassphrase } from './admin/new-passphrase'
import { withPage } from './admin/page'
import { withCompletion } from './completion'
import { checkId, program, reading, subcommand, whole } from './options'
import { EXIT, failWith, printTable, runProgram, warnOf } from './voice'

const NAME = 'knockturn'
/** Keys that are named in one line. */
const NAMED = 8
/** The last end of a key: a key file has four digits for the year. */
const LAST_EXPIRY = Date.UTC(9999, 11, 31)

const command = program(NAME, 'Makes keys for Knockturn and sets up its firewall.', `${NAME} key new alice --services 22/tcp`)

const keys = subcommand(command, 'key', 'make, list, show, export and revoke keys', 'key list')
const keysFolder = ['--keys <dir>', "the keyring's folder", SERVER_KEYS] as const
/** For commands that look at the config, too. */
const serverOptions = [
  new Option('--keys <dir>', `the keyring's folder (default: the config's, or ${SERVER_KEYS})`),
  new Option('--config <file>', `the daemon's config (default: ${SERVER_CONFIG}, where that has this keyring)`),
] as const

interface NewOptions {
  keys?: string
  config?: string
  server?: string
  host?: string
  services: GrantRules['services']
  max: number
  addresses: Cidr[]
  expires?: number
  pool: Uint16Array
  period: number
  bindSource: boolean
  requireAddress: boolean
  allowUntilClosed: boolean
  lock: boolean
  openPrefix: number
}

subcommand(keys, 'new <id>', 'make a key with a new secret', 'key new alice --services 22/tcp,443/tcp --max 30m')
  .addOption(
    reading(
      '--server <label>',
      "the server's label (default: that in the config)",
      readLabel,
      'at most 255 bytes of valid UTF-8',
    ),
  )
  .addOption(
    reading('--host <host>', 'where its client will knock', readHost, 'a host name or address alone, without port or brackets'),
  )
  .addOption(
    reading('--services <list>', 'what it may open', listOf(readService), 'services such as 22/tcp,53/udp').default(
      [{ port: 22, protocol: 'tcp' }],
      '22/tcp',
    ),
  )
  .addOption(
    reading('--max <duration>', 'its longest lifetime', parseLifetime, 'a duration such as 15m, 1h30m, 1d').default(3600, '1h'),
  )
  .addOption(
    reading(
      '--addresses <list>',
      'for whom it may open',
      listOf(parseCidr),
      'blocks such as 198.51.100.0/24,2001:db8::/32',
    ).default(listOf(parseCidr)('0.0.0.0/0,::/0'), 'anybody'),
  )
  .addOption(
    reading(
      '--expires <date>',
      'when it ends: a date, or a time from now',
      readExpiry,
      'a date such as 2027-01-31 or 2027-01-31T12:00:00+01:00, or a time from now such as 30d',
    ),
  )
  .addOption(
    reading('--pool <ranges>', 'the ports to knock on', readPool, 'at least 11,272 ports in ranges such as 49152-65535').default(
      parsePool(DEFAULT_POOL),
      DEFAULT_POOL,
    ),
  )
  .addOption(
    reading(
      '--period <seconds>',
      'how long a sequence lasts',
      whole(MIN_PERIOD, MAX_PERIOD),
      `${MIN_PERIOD} to ${MAX_PERIOD} seconds`,
    ).default(30),
  )
  .option('--no-bind-source', 'let it open for other addresses than the one that it knocks from')
  .option('--require-address', 'refuse knocks that do not name their address', false)
  .option('--allow-until-closed', 'let it open without a time limit', false)
  .option('--lock', 'let it lock addresses out', false)
  .addOption(
    reading(
      '--open-prefix <bits>',
      'open for the block of this prefix length around an IPv4 address (carrier-grade NAT)',
      whole(MIN_OPEN_PREFIX, 32),
      `${MIN_OPEN_PREFIX} to 32 bits`,
    ).default(32, '32, the address alone'),
  )
  .addOption(serverOptions[0])
  .addOption(serverOptions[1])
  .action(async (id: string, options: NewOptions) => {
    checkId(id)
    checkClock(Date.now(), 'set it first: keys and knocks hang on it')
    if (options.expires !== undefined && options.expires <= Date.now())
      throw new UsageFault(`--expires expected a time to come, got ${isoTime(options.expires)}`)
    const { period, pool } = options
    const { folder, config } = await serverKeyring(options.config, options.keys)
    const server = labelOf(options.server, config)
    const key: KeyFile = {
      id,
      key: deriveKey({ secret: randomBytes(SECRET_BYTES), server, period, pool }),
      created: Math.floor(Date.now() / 1000) * 1000,
      expires: options.expires ?? null,
      revoked: null,
      host: options.host ?? null,
      grant: {
        services: options.services,
        max: options.max,
        addresses: options.addresses,
        bindSource: options.bindSource,
        requireAddress: options.requireAddress,
        allowUntilClosed: options.allowUntilClosed,
        lock: options.lock,
        openPrefix: options.openPrefix,
      },
    }
    const conflict = poolFault(keyPath(folder, id), key, config?.datagrams ?? [])
    if (conflict) throw conflict
    const path = await asOwner(folder, () => addKey(folder, key))
    print(
      `made ${path}\nnext: "${NAME} key export ${id}${folder === SERVER_KEYS ? '' : ` --keys ${folder}`} --out ${id}.key", and carry that file to the client`,
    )
    if (formatPool(pool) !== DEFAULT_POOL) print(`next: "${NAME} firewall install", so that its pool is heard`)
  })

subcommand(keys, 'list', 'list the keys', 'key list --json')
  .addOption(serverOptions[0])
  .addOption(serverOptions[1])
  .option('--json', 'print as JSON')
  .action(async (options: { keys?: string; config?: string; json?: boolean }) => {
    const { folder, config } = await serverKeyring(options.config, options.keys)
    const { keys: all, faulty, ignored } = await asOwner(folder, () => readKeyring(folder))
    if (options.json) print(printable(JSON.stringify(all.map(publicPart))))
    else if (all.length > 0) printKeys(all, config?.server)
    else print(`${folder}: no keys`)
    for (const path of ignored) warnOf(NAME, `${path}: expected <id>.key: the file is ignored`)
    process.exitCode = failWith(
      NAME,
      faulty.flatMap(({ faults }) => faults),
    )
  })

subcommand(keys, 'show <id>', 'show a key, all but its secret', 'key show alice')
  .option(...keysFolder)
  .option('--json', 'print as JSON')
  .action(async (id: string, options: { keys: string; json?: boolean }) => {
    const key = publicPart(await find(options.keys, id))
    if (options.json) return print(printable(JSON.stringify(key)))
    for (const [name, value] of Object.entries(key)) {
      if (value !== null && typeof value === 'object')
        for (const [rule, what] of Object.entries(value)) print(`${`${name}.${rule}`.padEnd(26)} ${printable(String(what))}`)
      else print(`${name.padEnd(26)} ${printable(String(value ?? '-'))}`)
    }
  })

subcommand(
  keys,
  'export <id>',
  "write the client's copy of a key: its secret, where to knock, and what it may open, as a hint",
  'key export alice --out alice.key',
)
  .option(...keysFolder)
  .option('--out <file>', 'where to (default: standard output)')
  .option('--passphrase', 'encrypt it with a passphrase, which is asked for')
  .option('--plain', 'without what it may open: for a client of version 0.1.0')
  .action(async (id: string, options: { keys: string; out?: string; passphrase?: boolean; plain?: boolean }) => {
    if (options.out !== undefined) await checkFree(options.out)
    const file = await find(options.keys, id)
    const copy = formatKeyFile(clientCopy(file, options.plain ?? false))
    const names = [id, file.host ?? '', file.key.server, ...(hintOf(file)?.services ?? []).map(formatService)]
    const text = options.passphrase ? await sealText(copy, await newPassphrase(names)) : copy
    if (options.out === undefined) process.stdout.write(text)
    else {
      await writeNew(options.out, text)
      print(`wrote ${options.out}: whoever has this file${options.passphrase ? ' and its passphrase' : ''} can knock`)
    }
  })

subcommand(keys, 'revoke <id>', 'revoke a key: the daemon sees it at once and ends its leases', 'key revoke alice')
  .option(...keysFolder)
  .action(async (id: string, options: { keys: string }) => {
    checkId(id)
    const now = Math.floor(Date.now() / 1000) * 1000
    const at = await asOwner(options.keys, () => revokeKey(options.keys, id, now))
    print(at === now ? `revoked ${id}` : `${id} has been revoked since ${isoTime(at)}`)
  })

subcommand(
  keys,
  'passcode <id>',
  'give a key a passcode: codes of an authenticator app, which it shows a QR code, and a PIN',
  'key passcode alice --remove',
)
  .option(...keysFolder)
  .addOption(new Option('--config <file>', "the daemon's config, for the PIN's length").default(SERVER_CONFIG))
  .addOption(
    reading(
      '--services <list>',
      'what it opens (default: all that the key may)',
      listOf(readService),
      'services such as 22/tcp,53/udp',
    ),
  )
  .addOption(
    reading(
      '--time <duration>',
      'for how long (default: 5m, or what the key may)',
      parseLifetime,
      'a duration such as 5m, 1h30m',
    ),
  )
  .option('--no-once', 'open for any number of connections')
  .option('--remove', 'take the passcode away again')
  .option('--print-secret', "show the app's secret where standard output is no terminal, too")
  .action(async (id: string, options: EnrolOptions) => {
    checkId(id)
    const { enrol } = await import('./admin/enrol')
    print(await enrol(id, options))
  })

const firewall = subcommand(command, 'firewall', 'put the chains and the log rules in place, or take them away', 'firewall show')
const configFile = () => new Option('--config <file>', "the daemon's config").default(SERVER_CONFIG)

subcommand(
  firewall,
  'install',
  'make our chains, the log rules for the pools of all keys, and two jumps from INPUT',
  'firewall install --print',
)
  .addOption(configFile())
  .option('--print', 'print what would be fed to iptables-restore, and change nothing')
  .option('--unattended', 'where it would refuse to cut off a connection, warn and go on: for a boot, where nobody can answer')
  .action(async (options: { config: string; print?: boolean; unattended?: boolean }) => {
    const taps = await tapRules(options.config)
    const tables = await readTables(warn, options.print ? emptyTable : undefined)
    if (!options.print) await checkConnections(tables, taps, options.unattended ?? false)
    warnEach(await servicesInPool(taps).catch(reasons))
    warnEach(await shutByPool(tables, taps))
    const marked = await Promise.all(tables.map(async ({ family }) => options.print || (await tryAbilities(family)).marks))
    await apply(
      tables.map((table, i) => ({ family: table.family, script: installScript(table, taps, marked[i] ?? false) })),
      options.print,
    )
    if (marked.includes(false)) warnOf(NAME, NO_CONNLABEL)
    if (!options.print) print('installed: INPUT jumps to KNOCKTURN; "knockturn firewall show" shows it')
    if (!options.print) warnEach(await exposedServices(options.config), 'see "knockdaemon --check"')
  })

subcommand(firewall, 'remove', 'take away all that install made, leases that are in force too', 'firewall remove --print')
  .addOption(configFile().hideHelp())
  .option('--print', 'print what would be fed to iptables-restore, and change nothing')
  .action(async (options: { print?: boolean }) => {
    const tables = await readTables(warn)
    await apply(
      tables.map((table) => ({ family: table.family, script: removeScript(table) })),
      options.print,
    )
    if (!options.print)
      print('removed: nothing of ours is left in the firewall (a daemon that still runs will put it back: stop it first)')
  })

subcommand(firewall, 'show', 'show our chains and the leases that are in force', 'firewall show')
  // Needed by install only; the three may be called alike.
  .addOption(configFile().hideHelp())
  .action(async () => {
    for (const table of await readTables(warn)) {
      const lines = show(table)
      print(
        [`# ${table.family}`, ...(lines.length > 0 ? lines : ['# nothing of ours: run "knockturn firewall install"'])].join('\n'),
      )
    }
  })

const ledger = subcommand(command, 'ledger', 'put right what the ledger took for the time', 'ledger rebase')

subcommand(
  ledger,
  'rebase',
  'have a ledger that was begun by a clock that was ahead begin now; no daemon may run',
  'ledger rebase',
)
  .addOption(configFile())
  .action(async (options: { config: string }) => {
    const read = await readConfig(options.config)
    if (read.faults) throw read.faults[0]
    const { ledger, skew } = read.value
    const now = Date.now()
    checkClock(now, 'set it first: the ledger is to begin by it')
    sayRebase(ledger.path, await asOwner(dirname(ledger.path), () => rebaseLedger(ledger.path, skew, now)))
  })

withPage(
  subcommand(command, 'page', 'write a web page that knocks, for where there is only a browser', 'page alice --out knock.html'),
)
withCompletion(command)

runProgram(NAME, async () => {
  forbidCoreDumps((message) => warnOf(NAME, message))
  await command.parseAsync()
  return (process.exitCode as number | undefined) ?? EXIT.ok
})

/** Says what a rebase has come to, and what it could not help. */
function sayRebase(path: string, { was, is, spent, aside, ahead }: Rebase): void {
  const before = was === null ? 'had no base' : `had the base ${isoTime(was * 1000)}`
  print(`${path}: ${before}, and has ${isoTime(is * 1000)} now: nothing that was sent before the next minute or so opens`)
  print(`what is spent stays so (${spent} knocks), and so do the floors of keys; next: start the daemon`)
  if (aside !== null) warnOf(NAME, `${path}: the ledger was damaged, and what it held is kept as ${aside}`)
  if (ahead.length === 0) return
  const named = ahead.map(({ fingerprint, until }) => `${fingerprint.slice(0, 8)} before ${isoTime(until)}`)
  warnOf(
    NAME,
    `keys that have knocked while the clock was ahead open nothing till then, and need new ones in their place: ${listed(named, NAMED)}`,
  )
}

/**
 * Looks whom an installation would cut off. Where nobody can answer it is warned of: a daemon that does not start shuts everybody out.
 * @throws {Fault}
 */
async function checkConnections(tables: readonly FilterTable[], taps: TapRules, isUnattended: boolean): Promise<void> {
  const risks = await connectionsAtRisk(tables, taps).catch(reasons)
  if (isUnattended) warnEach(risks)
  else if (risks.length > 0) throw new Fault(risks[0])
}

/** What can't be looked at is said in the place of what it would have shown. */
function reasons(error: unknown): string[] {
  if (error instanceof Fault) return [error.message]
  throw error
}

/** Warnings that are said of one kind: a local user can have a socket on each port of the pool, and each would be a line of the log. */
const MAX_WARNINGS = 10

function warnEach(lines: readonly string[], more = 'see "ss -tuan"'): void {
  for (const line of lines.slice(0, MAX_WARNINGS)) warnOf(NAME, line)
  if (lines.length > MAX_WARNINGS) warnOf(NAME, `and so for ${lines.length - MAX_WARNINGS} more: ${more}`)
}

function warn(message: string): void {
  warnOf(NAME, message)
}

/** An empty filter table, for who may not look at it and only wants to read what would be done. */
function emptyTable(family: Family, error: unknown): FilterTable {
  warn(`${reason(error)}: what is printed is for an empty table`)
  return parseTable(family, '')
}

/** Says which rules of the administrator's the pool takes out of force. */
async function shutByPool(tables: readonly FilterTable[], taps: TapRules): Promise<string[]> {
  const reached = await Promise.all(tables.map(readReached))
  return reached.flatMap((table) =>
    acceptedInPool(table, taps).map(
      (rule) =>
        `${table.family}: the rule "${rule}" accepts ports of the pool: no new connection from outside will reach them; make keys with another pool, or move the service`,
    ),
  )
}

/** Feeds the scripts to the kernel, or prints them; null: nothing to do. */
async function apply(changes: { family: Family; script: string | null }[], onlyPrint: boolean | undefined): Promise<void> {
  for (const { family, script } of changes) {
    if (script === null) continue
    if (onlyPrint) process.stdout.write(`# ${family}-restore --noflush\n${script}`)
    else await restore(family, script)
  }
}

/** What the log rules must hear: the pools of all keys, in one list of ranges. */
async function tapRules(file: string): Promise<TapRules> {
  const read = await readConfig(file)
  if (read.faults) throw read.faults[0]
  const { keys: folder, taps, datagram, passcode } = read.value
  const { keys: all, faulty } = await asOwner(folder, () => readKeyring(folder))
  // As the daemon does: the other keys still open doors.
  for (const { message } of faulty.flatMap(({ faults }) => faults)) warnOf(NAME, message)
  const usable = all.filter((key) => {
    const fault = poolFault(keyPath(folder, key.id), key, datagram.ports)
    if (fault) warnOf(NAME, fault.message)
    return !fault
  })
  if (usable.length === 0)
    throw new Fault(`${folder}: holds no key: make one with "knockturn key new", its pool says which ports to hear`)
  const pool = unite(usable.map(({ key }) => key.pool))
  const having = usable.filter((key) => key.passcode)
  const fault = having.length > 0 ? passcodeFault(usable, having, read.value) : null
  if (fault) warnOf(NAME, `${fault.message}: passcodes are left out`)
  const ranges = [...poolRanges(pool), ...(having.length > 0 && !fault ? [passcodeRange(passcode.base, passcode.pinDigits)] : [])]
  return { ranges, target: taps.target, group: taps.group, prefix: taps.prefix, datagrams: datagram.ports }
}

async function find(folder: string, id: string): Promise<KeyFile> {
  checkId(id)
  return asOwner(folder, () => findKey(folder, id))
}

/** A key as its client has it. */
function clientCopy(file: KeyFile, isPlain: boolean): KeyFile {
  const { grant: _, hint: __, ...rest } = file
  const hint = isPlain ? null : hintOf(file)
  return { ...rest, grant: null, ...(hint ? { hint } : {}) }
}

/** All of a key but its secrets, as --json prints it. */
function publicPart({ id, key, created, expires, revoked, host, grant, passcode, hint }: KeyFile) {
  const time = (at: number | null) => (at === null ? null : isoTime(at))
  return {
    id,
    fingerprint: bytesToHex(key.fingerprint),
    server: key.server,
    period: key.period,
    pool: formatPool(key.pool),
    created: time(created),
    expires: time(expires),
    revoked: time(revoked),
    host,
    grant: grant && describeGrant(grant),
    ...(hint ? { hint: describeHint(hint) } : {}),
    ...(passcode ? { passcode: describePasscode(passcode) } : {}),
  }
}

/** @param label the server's, where it is known */
function printKeys(all: readonly KeyFile[], label: string | undefined): void {
  const rows = all.map((key) => {
    const { id, fingerprint, server, expires, grant, hint, passcode } = publicPart(key)
    const { services, max } = grant ?? hint ?? {}
    const may = [services?.join(',') ?? '-', max ?? '-', passcode ? 'yes' : '']
    return [id, fingerprint.slice(0, 8), stateOf(key, label), expires ?? '-', server, ...may]
  })
  printTable([['ID', 'FINGERPRINT', 'STATE', 'EXPIRES', 'SERVER', 'SERVICES', 'MAX', 'PASSCODE'], ...rows])
}

function stateOf({ revoked, expires, key }: KeyFile, label: string | undefined): string {
  // The daemon refuses it, whatever else it is.
  if (label !== undefined && key.server !== label) return "another server's"
  if (!isOver({ revoked, expires }, Date.now())) return 'valid'
  return revoked !== null ? 'revoked' : 'expired'
}

function print(text: string): void {
  process.stdout.write(`${text}\n`)
}

function listOf<T>(read: (text: string) => T | null): (text: string) => T[] | null {
  return (text) => {
    const items = text.split(',').map((item) => read(item.trim()))
    return items.every((item) => item !== null) ? items : null
  }
}

/** Reads a date, which begins with its year (luxon takes 12 for today's noon), or a duration from now. @returns Unix milliseconds, or null */
function readExpiry(text: string): number | null {
  const seconds = parseDuration(text)
  const date = /^\d{4}/.test(text) ? parseInstant(text) : null
  const at = seconds === null ? date : (Math.floor(Date.now() / 1000) + seconds) * 1000
  return at !== null && at <= LAST_EXPIRY ? at : null
}

/** The label of a new key: the daemon refuses a key with another one than its config has. @throws {UsageFault} */
function labelOf(given: string | undefined, config: ServerKeyring['config']): string {
  if (!config) {
    if (given !== undefined) return given
    throw new UsageFault('expected --server, since no config of this keyring is known: say --server <label>, or --config <file>')
  }
  const { file, server } = config
  if (given === undefined || given === server) return server
  throw new UsageFault(
    `--server expected "${server}", as in ${file}, got "${given}": leave it out, or name another config by --config`,
  )
}

/** What a client can look up: nothing of a URL, no port and nobody at it. */
function readHost(text: string): string | null {
  return isIP(text) || /^[^\s:/@[\]]+$/.test(text) ? text : null
}

function readLabel(text: string): string | null {
  return labelFault(text) === null ? text : null
}

function readPool(text: string): Uint16Array | null {
  try {
    return parsePool(text)
  } catch {
    return null
  }
}
