import { isIP } from 'node:net'
import type { Command } from 'commander'
import { type ServerKeyring, serverKeyring } from '../../admin/keyring-config'
import { makeKey } from '../../admin/new-key'
import { type GrantRules, MIN_OPEN_PREFIX } from '../../gate/server-key'
import { DEFAULT_PERIOD } from '../../keys/key-file'
import { SERVER_KEYS } from '../../keys/keyring'
import { parseCidr } from '../../protocol/address'
import { labelFault, MAX_PERIOD, MIN_PERIOD } from '../../protocol/key'
import { DEFAULT_POOL, formatPool, parsePool } from '../../protocol/pool'
import { parseInstant } from '../../system/calendar'
import { UsageFault } from '../../system/fault'
import { checkClock, isoTime, parseDuration, parseLifetime } from '../../system/time'
import { checkId, reading, subcommand, whole } from '../options'
import { listOf, servicesOption } from './lists'
import { type ServerKeyringOptions, withServerKeyring } from './places'
import { NAME, print } from './voice'

/** The last end of a key: a key file has four digits for the year. */
const LAST_EXPIRY = Date.UTC(9999, 11, 31)

/** The options; those of its grant are called as there. */
interface Options extends ServerKeyringOptions, GrantRules {
  readonly server?: string
  readonly host?: string
  readonly expires?: number
  readonly pool: Uint16Array
  readonly period: number
}

/** Gives `knockturn key` the command `new`. */
export function addNewKey(keys: Command): void {
  const command = subcommand(
    keys,
    'new <id>',
    'make a key with a new secret',
    'key new alice --services 22/tcp,443/tcp --max 30m',
  )
  withServer(command)
  withServices(command)
  withKnock(command)
  withRules(command)
  withServerKeyring(command).action(newKey)
}

/** Whose key it is. */
function withServer(command: Command): void {
  command
    .addOption(
      reading(
        '--server <label>',
        "the server's label (default: the one in the config)",
        readLabel,
        'at most 255 bytes of valid UTF-8',
      ),
    )
    .addOption(reading('--host <host>', 'host the client knocks at', readHost, HOST_RULE))
}

/** What it may open, for how long and for whom. */
function withServices(command: Command): void {
  command
    .addOption(servicesOption('services it may open').default([{ port: 22, protocol: 'tcp' }], '22/tcp'))
    .addOption(
      reading(
        '--max <duration>',
        'longest time it may open for',
        parseLifetime,
        'a duration such as 15m, 1h30m, 1d, at most 16,777,215 s (194 days)',
      ).default(3600, '1h'),
    )
    .addOption(
      reading(
        '--addresses <list>',
        'addresses it may open for',
        listOf(parseCidr),
        'blocks such as 198.51.100.0/24,2001:db8::/32, with zeros after the prefix',
      ).default(listOf(parseCidr)('0.0.0.0/0,::/0'), 'any'),
    )
}

/** Until when it knocks, and where. */
function withKnock(command: Command): void {
  command
    .addOption(
      reading(
        '--expires <date>',
        'expiry: a date, or a time from now such as 30d',
        readExpiry,
        'a date such as 2027-01-31 or 2027-01-31T12:00:00+01:00, or a time from now such as 30d',
      ),
    )
    .addOption(
      reading('--pool <ranges>', 'ports to knock on', readPool, 'at least 11,272 ports in ranges such as 49152-65535').default(
        parsePool(DEFAULT_POOL),
        DEFAULT_POOL,
      ),
    )
    .addOption(
      reading(
        '--period <seconds>',
        'how often the ports of a knock change, in seconds',
        whole(MIN_PERIOD, MAX_PERIOD),
        `${MIN_PERIOD} to ${MAX_PERIOD} seconds`,
      ).default(DEFAULT_PERIOD),
    )
}

/** What else its grant says. */
function withRules(command: Command): void {
  command
    .option('--no-bind-source', 'let it open for addresses other than the one it knocks from')
    .option('--require-address', 'refuse knocks that do not name an address', false)
    .option('--allow-until-closed', 'let it open without a time limit', false)
    .option('--lock', 'let it ban addresses', false)
    .addOption(
      reading(
        '--open-prefix <bits>',
        'open for the whole block of this prefix length around an IPv4 address, for carrier-grade NAT',
        whole(MIN_OPEN_PREFIX, 32),
        `${MIN_OPEN_PREFIX} to 32 bits`,
      ).default(32, '32, one address'),
    )
}

async function newKey(id: string, options: Options): Promise<void> {
  const { keys, config, server, host, expires, pool, period, ...grant } = options
  const now = Date.now()
  checkId(id)
  checkClock(now, 'set the clock first: keys and knocks depend on it')
  if (expires !== undefined && expires <= now) throw new UsageFault(`--expires must be in the future, got ${isoTime(expires)}`)
  const keyring = await serverKeyring(config, keys)
  const label = labelOf(server, keyring.config)
  const path = await makeKey(
    keyring,
    { id, server: label, period, pool, host: host ?? null, expires: expires ?? null, grant },
    now,
  )
  const { folder } = keyring
  print(
    `made ${path}\nnext: run "${NAME} key export ${id}${folder === SERVER_KEYS ? '' : ` --keys ${folder}`} --line", and type on the client what it prints`,
  )
  if (formatPool(pool) !== DEFAULT_POOL) print(`next: run "${NAME} firewall install" so that its pool is heard`)
}

/** The label of a new key: the daemon refuses a key with another one than its config has. @throws {UsageFault} */
function labelOf(given: string | undefined, config: ServerKeyring['config']): string {
  if (!config) {
    if (given !== undefined) return given
    throw new UsageFault('the server has no label: no config that names this keyring is known', {
      hint: 'add --server <label> or --config <file>',
    })
  }
  const { file, server } = config
  if (given === undefined || given === server) return server
  throw new UsageFault(`--server expected "${server}" (from ${file}), got "${given}"`, {
    hint: 'leave out --server, or name another config with --config',
  })
}

/** Reads a date, which begins with its year (luxon takes 12 for today's noon), or a duration from now. @returns Unix milliseconds, or null */
function readExpiry(text: string): number | null {
  const seconds = parseDuration(text)
  const date = /^\d{4}/.test(text) ? parseInstant(text) : null
  const at = seconds === null ? date : (Math.floor(Date.now() / 1000) + seconds) * 1000
  return at !== null && at <= LAST_EXPIRY ? at : null
}

export const HOST_RULE = 'a host name or an address, without port or brackets'

/** What a client can look up: nothing of a URL, no port and nobody at it. */
export function readHost(text: string): string | null {
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
