import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { backendOf } from '../../daemon/backends/all'
import { type Config, MAX_CONFIG, parseConfig, SERVER_CONFIG } from '../../daemon/config'
import { findHolder } from '../../daemon/ledger/lock'
import { SERVER_KEYS } from '../../keys/keyring'
import type { Service } from '../../protocol/service'
import { CommandFault, run } from '../../system/commands'
import { errorCode, Fault } from '../../system/fault'
import { checkOwned, exists, readText } from '../../system/files'
import { notSaved, printedFiles } from '../guard'
import { isValid, readKeyList } from '../key-list'
import { hasSystemd } from './machine'
import { CONFIG_FOLDER, OWN_UNITS, PACKAGED_UNITS, STATE_FOLDER, USER } from './places'

/** Runs knockturn itself with these arguments, as a process of its own. @returns what it printed @throws {Fault} where it fails */
export type Itself = (...args: readonly string[]) => Promise<string>

/** A key that is there, as far as it is nobody's secret. */
export interface KnownKey {
  readonly id: string
  readonly host: string | null
  readonly isValid: boolean
  readonly services: readonly Service[]
  readonly key: { readonly pool: Uint16Array }
  readonly passcode?: unknown
}

/** What of a set-up is there already. */
export interface There {
  readonly hasSystemd: boolean
  readonly hasUser: boolean
  /** Null where there is none. */
  readonly config: { readonly text: string; readonly value: Config } | null
  readonly keys: readonly KnownKey[]
  /** Which of our folders are there. */
  readonly folders: ReadonlySet<string>
  readonly hasLedger: boolean
  /** The units that are there, by their names: the text of an administrator's, null for a package's. */
  readonly units: ReadonlyMap<string, string | null>
  /** Whether nftables.service is installed. */
  readonly hasNftablesService: boolean
  /** Whether the guard in force and the saved one are those of config and keyring. */
  readonly isGuarded: boolean
  readonly isRunning: boolean
  /** Whether the units start at boot; without systemd nobody knows, and it is the administrator's. */
  readonly isEnabled: boolean
}

/** Finds what is there. @param units names of units that matter @throws {Fault} where config, keyring or firewall can't be read */
export async function lookAround(itself: Itself, units: readonly string[]): Promise<There> {
  const config = await readOwnConfig()
  const booted = await hasSystemd()
  const keys = config && (await exists(SERVER_KEYS)) ? await readOwnKeys(config.value.server, itself) : []
  const found = await Promise.all(
    [CONFIG_FOLDER, SERVER_KEYS, STATE_FOLDER].map(async (path) => ((await exists(path)) ? [path] : [])),
  )
  const hasLedger = config !== null && (await exists(config.value.ledger.path))
  return {
    hasSystemd: booted,
    hasUser: await run('id', ['-u', USER]).then(() => true, no),
    config,
    keys,
    folders: new Set(found.flat()),
    hasLedger,
    units: new Map((await Promise.all(units.map(readUnit))).flat()),
    hasNftablesService: await isPackaged('nftables.service'),
    isGuarded: config !== null && (await isGuarded(config.value, keys, itself)),
    isRunning: hasLedger && (await findHolder(config.value.ledger.path))?.isDaemon === true,
    isEnabled: !booted || (await areEnabled()),
  }
}

/** The config that is there. @throws {Fault} where it is faulty, or one that is no set-up's */
async function readOwnConfig(): Promise<There['config']> {
  if (!(await exists(SERVER_CONFIG))) return null
  const text = await readText(SERVER_CONFIG, MAX_CONFIG, checkOwned)
  const { value, faults } = await parseConfig(SERVER_CONFIG, text)
  if (!value) throw faults[0]
  const { backend } = value.firewall
  if (backend === 'command' || backend === 'dry-run')
    throw new Fault(`${SERVER_CONFIG}: backend "${backend}" guards nothing here, so there is nothing to set up`, {
      hint: 'set backend = "nftables" or "iptables" in [firewall] first',
    })
  if (value.keys !== SERVER_KEYS || value.ledger.path !== join(STATE_FOLDER, 'ledger'))
    throw new Fault(`${SERVER_CONFIG}: keys or ledger are not in their usual places, which alone a trial can put back`, {
      hint: 'follow docs/by-hand.md in place of this command',
    })
  return { text, value }
}

/** The keyring's keys, without secrets. @param label the server's: the daemon refuses a key that is another's */
async function readOwnKeys(label: string, itself: Itself): Promise<KnownKey[]> {
  const now = Date.now()
  const keys = readKeyList(await itself('key', 'list', '--json', '--config', SERVER_CONFIG))
  if (keys === null) throw new Error('"knockturn key list" has printed no list')
  return keys.map((key) => ({ ...key, isValid: isValid(key, label, now) }))
}

/** Whether the guard in force, and the one that is loaded at boot, are those of a config and its keys. */
async function isGuarded(config: Config, keys: readonly KnownKey[], itself: Itself): Promise<boolean> {
  if (config.firewall.guard.ports.length === 0 || keys.length === 0) return false
  const { isInstalled, isOutdated } = await backendOf(config).leftOut(keys, config)
  if (!isInstalled || isOutdated) return false
  const files = printedFiles(await itself('guard', 'save', '--print', '--config', SERVER_CONFIG), CONFIG_FOLDER)
  return (await notSaved(files)).length === 0
}

async function readUnit(name: string): Promise<[string, string | null][]> {
  const path = join(OWN_UNITS, name)
  const own = await readFile(path, 'utf8').catch((error) => {
    if (errorCode(error) === 'ENOENT') return null
    throw new Fault(`${path}: cannot be read: ${error.message}`)
  })
  if (own !== null) return [[name, own]]
  return (await isPackaged(name)) ? [[name, null]] : []
}

/** Whether a package has put a unit there. */
async function isPackaged(unit: string): Promise<boolean> {
  return (await Promise.all(PACKAGED_UNITS.map((folder) => exists(join(folder, unit))))).includes(true)
}

/** Whether systemd starts guard and daemon at boot. @throws {Fault} where systemctl is missing */
export async function areEnabled(): Promise<boolean> {
  // Of several at once, one that is enabled would do.
  const isEnabled = (unit: string) => run('systemctl', ['is-enabled', '--quiet', unit]).then(() => true, no)
  return (await Promise.all(['knockturn-guard.service', 'knockdaemon.service'].map(isEnabled))).every(Boolean)
}

function no(error: unknown): false {
  if (error instanceof CommandFault) return false
  throw error
}
