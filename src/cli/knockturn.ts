import { randomBytes } from 'node:crypto'
import { bytesToHex } from '@noble/hashes/utils.js'
import { Option } from 'commander'
import { type GrantRules, isOver, MIN_OPEN_PREFIX } from '../gate/policy'
import { parseInstant } from '../host/calendar'
import { readConfig, SERVER_CONFIG } from '../host/config'
import { forbidCoreDumps } from '../host/core-dumps'
import { Fault, printable, reason, UsageFault } from '../host/fault'
import { asOwner, checkFree, writeNew } from '../host/files'
import {
  FAMILIES,
  type Family,
  installScript,
  parseTable,
  readTable,
  refuseToCutOff,
  removeScript,
  restore,
  servicesInPool,
  show,
  type Table,
  type TapRules,
} from '../host/firewall/chains'
import { describeGrant, describePasscode, formatKeyFile, KEY_ID, KEY_ID_RULE, type KeyFile } from '../host/key-file'
import { addKey, findKey, keyPath, readKeyring, revokeKey, SERVER_KEYS } from '../host/keyring'
import { passcodeFault } from '../host/passcodes'
import { sealText } from '../host/sealed-key'
import { poolFault } from '../host/server-keys'
import { parseService } from '../host/service'
import { checkClock, isoTime, parseLifetime } from '../host/time'
import { type Cidr, parseCidr } from '../protocol/address'
import { deriveKey, labelFault, MAX_PERIOD, MIN_PERIOD, SECRET_BYTES } from '../protocol/key'
import { passcodeRange } from '../protocol/passcode-ports'
import { DEFAULT_POOL, formatPool, parsePool, poolRanges, unite } from '../protocol/pool'
import { withCompletion } from './completion'
import type { EnrolOptions } from './enrol'
import { newPassphrase } from './new-passphrase'
import { program, reading, subcommand, whole } from './options'
import { withPage } from './page'
import { EXIT, failWith, printTable, runProgram, warnOf } from './voice'

const NAME = 'knockturn'

const command = program(
  NAME,
  'Makes keys for Knockturn and sets up its firewall.',
  `${NAME} key new alice --server gate.example --services 22/tcp`,
)

const keys = subcommand(command, 'key', 'make, list, show, export and revoke keys', 'key list')
const keysFolder = ['--keys <dir>', "the keyring's folder", SERVER_KEYS] as const

interface NewOptions {
  keys: string
  server: string
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

subcommand(
  keys,
  'new <id>',
  'make a key with a new secret',
  'key new alice --server gate.example --services 22/tcp,443/tcp --max 30m',
)
  .addOption(
    reading(
      '--server <label>',
      "the server's label, as in its config",
      readLabel,
      'at most 255 bytes of valid UTF-8',
    ).makeOptionMandatory(),
  )
  .option('--host <host>', 'where its client will knock')
  .addOption(
    reading('--services <list>', 'what it may open', listOf(parseService), 'services such as 22/tcp,443/tcp').default(
      [{ port: 22, protocol: 'tcp' }],
      '22/tcp',
    ),
  )
  .addOption(
    reading('--max <duration>', 'its longest lifetime', parseLifetime, 'a duration such as 15m, 1h30m').default(3600, '1h'),
  )
  .addOption(
    reading(
      '--addresses <list>',
      'for whom it may open',
      listOf(parseCidr),
      'blocks such as 198.51.100.0/24,2001:db8::/32',
    ).default(listOf(parseCidr)('0.0.0.0/0,::/0'), 'anybody'),
  )
  .addOption(reading('--expires <date>', 'when it ends', parseInstant, 'a date such as 2027-01-31 or 2027-01-31T12:00:00+01:00'))
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
  .option(...keysFolder)
  .action(async (id: string, options: NewOptions) => {
    checkId(id)
    checkClock(Date.now(), 'set it first: keys and knocks hang on it')
    if (options.expires !== undefined && options.expires <= Date.now())
      throw new UsageFault(`--expires expected a time to come, got ${isoTime(options.expires)}`)
    const { server, period, pool } = options
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
    const path = await asOwner(options.keys, () => addKey(options.keys, key))
    print(
      `made ${path}\nnext: "${NAME} key export ${id}${options.keys === SERVER_KEYS ? '' : ` --keys ${options.keys}`} --out ${id}.key", and carry that file to the client`,
    )
  })

subcommand(keys, 'list', 'list the keys', 'key list --json')
  .option(...keysFolder)
  .option('--json', 'print as JSON')
  .action(async (options: { keys: string; json?: boolean }) => {
    const { keys: all, faulty, ignored } = await asOwner(options.keys, () => readKeyring(options.keys))
    if (options.json) print(JSON.stringify(all.map(publicPart)))
    else if (all.length > 0) printKeys(all)
    else print(`${options.keys}: no keys`)
    for (const path of ignored) warnOf(NAME, `${path}: expected <id>.key: the file is ignored`)
    process.exitCode = failWith(
      NAME,
      faulty.map(({ fault }) => fault),
    )
  })

subcommand(keys, 'show <id>', 'show a key, all but its secret', 'key show alice')
  .option(...keysFolder)
  .option('--json', 'print as JSON')
  .action(async (id: string, options: { keys: string; json?: boolean }) => {
    const key = publicPart(await find(options.keys, id))
    if (options.json) return print(JSON.stringify(key))
    for (const [name, value] of Object.entries(key)) {
      if (value !== null && typeof value === 'object')
        for (const [rule, what] of Object.entries(value)) print(`${`${name}.${rule}`.padEnd(26)} ${printable(String(what))}`)
      else print(`${name.padEnd(26)} ${printable(String(value ?? '-'))}`)
    }
  })

subcommand(
  keys,
  'export <id>',
  "write the client's copy of a key: its secret and where to knock, without the grant",
  'key export alice --out alice.key',
)
  .option(...keysFolder)
  .option('--out <file>', 'where to (default: standard output)')
  .option('--passphrase', 'encrypt it with a passphrase, which is asked for')
  .action(async (id: string, options: { keys: string; out?: string; passphrase?: boolean }) => {
    if (options.out !== undefined) await checkFree(options.out)
    const plain = formatKeyFile({ ...(await find(options.keys, id)), grant: null })
    const text = options.passphrase ? await sealText(plain, await newPassphrase()) : plain
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
      listOf(parseService),
      'services such as 22/tcp,443/tcp',
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
    const { enrol } = await import('./enrol')
    print(await enrol(id, options))
  })

const firewall = subcommand(command, 'firewall', 'put the chains and the log rules in place, or take them away', 'firewall show')
const configFile = () => new Option('--config <file>', "the daemon's config").default(SERVER_CONFIG)

subcommand(
  firewall,
  'install',
  'make our chains, the log rules for the pools of all keys, and one jump from INPUT',
  'firewall install --print',
)
  .addOption(configFile())
  .option('--print', 'print what would be fed to iptables-restore, and change nothing')
  .action(async (options: { config: string; print?: boolean }) => {
    const taps = await tapRules(options.config)
    const tables = await Promise.all(FAMILIES.map(options.print ? readTableOrNone : readTable))
    if (!options.print) for (const table of tables) await refuseToCutOff(table, taps)
    for (const line of await servicesInPool(taps)) warnOf(NAME, line)
    await apply(
      tables.map((table) => ({ family: table.family, script: installScript(table, taps) })),
      options.print,
    )
    if (!options.print) print('installed: INPUT jumps to KNOCKTURN; "knockturn firewall show" shows it')
  })

subcommand(firewall, 'remove', 'take away all that install made, leases that are in force too', 'firewall remove --print')
  .addOption(configFile().hideHelp())
  .option('--print', 'print what would be fed to iptables-restore, and change nothing')
  .action(async (options: { print?: boolean }) => {
    const tables = await Promise.all(FAMILIES.map(readTable))
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
    for (const family of FAMILIES) {
      const lines = await show(family)
      print([`# ${family}`, ...(lines.length > 0 ? lines : ['# nothing of ours: run "knockturn firewall install"'])].join('\n'))
    }
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

/** The filter table; an empty one for who may not look at it and only wants to read what would be done. */
async function readTableOrNone(family: Family): Promise<Table> {
  return readTable(family).catch((error) => {
    warnOf(NAME, `${reason(error)}: what is printed is for an empty table`)
    return parseTable(family, '')
  })
}

/** Feeds the scripts to the kernel, or prints them; null: nothing to do. */
async function apply(
  changes: { family: (typeof FAMILIES)[number]; script: string | null }[],
  onlyPrint: boolean | undefined,
): Promise<void> {
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
  for (const { fault } of faulty) warnOf(NAME, fault.message)
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

function checkId(id: string): void {
  if (!KEY_ID.test(id)) throw new UsageFault(`<id> expected ${KEY_ID_RULE}, got "${id.slice(0, 60)}"`)
}

/** All of a key but its secrets, as --json prints it. */
function publicPart({ id, key, created, expires, revoked, host, grant, passcode }: KeyFile) {
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
    ...(passcode ? { passcode: describePasscode(passcode) } : {}),
  }
}

function printKeys(all: readonly KeyFile[]): void {
  const rows = all.map((key) => {
    const { id, fingerprint, server, expires, grant, passcode } = publicPart(key)
    const may = [grant?.services.join(',') ?? '-', grant?.max ?? '-', passcode ? 'yes' : '']
    return [id, fingerprint.slice(0, 8), stateOf(key), expires ?? '-', server, ...may]
  })
  printTable([['ID', 'FINGERPRINT', 'STATE', 'EXPIRES', 'SERVER', 'SERVICES', 'MAX', 'PASSCODE'], ...rows])
}

function stateOf({ revoked, expires }: KeyFile): string {
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
