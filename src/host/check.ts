import { access, constants, readFile, stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import { findCommand } from './commands'
import { type Config, readConfig, readPlaces } from './config'
import { errorCode, Fault, reason } from './fault'
import { checkPrivate } from './files'
import { FAMILIES, hearsDatagrams, isInstalled, readTable } from './firewall/chains'
import { MAX_LEDGER, readLedger } from './ledger-file'
import { areUnheard, judgePasscodes } from './passcodes'
import { loadServerKeys } from './server-keys'
import { tapCommands } from './taps/open'
import { checkClock } from './time'

/**
 * Looks at all that a daemon would need, and changes nothing. A config with faults is followed as far as it can be, so that those of
 * keys and ledger are said, too.
 * @returns every fault, and what is no fault but will keep doors shut
 */
export async function checkDaemon(file: string): Promise<{ faults: Fault[]; warnings: string[] }> {
  const faults: Fault[] = []
  const warnings: string[] = []
  const attempt = async <T>(look: () => Promise<T> | T): Promise<T | undefined> => {
    try {
      return await look()
    } catch (error) {
      if (!(error instanceof Fault)) throw error
      faults.push(error)
      return undefined
    }
  }
  await attempt(() => checkClock(Date.now(), 'set it before the daemon starts'))
  const read = await readConfig(file)
  faults.push(...(read.faults ?? []))
  const { server, keys: folder, ledger } = read.value ?? (await readPlaces(file))
  if (folder !== undefined && server !== undefined) {
    const keys = await attempt(() => loadServerKeys(folder, server, [], read.value?.datagram.ports))
    faults.push(...(keys?.faults ?? []))
    warnings.push(...(keys?.ignored ?? []).map((path) => `${path}: expected <id>.key: the file is ignored`))
    if (keys?.keys.length === 0 && keys.faults.length === 0)
      faults.push(new Fault(`${folder}: holds no key: make one with "knockturn key new"`))
    if (keys && read.value) {
      const judged = judgePasscodes(keys.keys, read.value, Date.now())
      faults.push(...judged.faults)
      if (await areUnheard(judged.keys, read.value)) warnings.push(UNHEARD)
    }
  }
  if (ledger.path !== undefined) warnings.push(...((await attempt(() => checkLedger(ledger.path as string))) ?? []))
  if (read.value) {
    for (const command of neededCommands(read.value)) await attempt(() => findCommand(command))
    const { file } = read.value.taps
    if (file !== null) warnings.push(...((await attempt(() => checkLog(file))) ?? []))
    if (read.value.firewall.backend === 'iptables' && read.value.taps.source !== 'stdin') {
      const tables = await Promise.all(FAMILIES.map((family) => readTable(family).catch(() => null)))
      if (tables.some((table) => table && !isInstalled(table)))
        warnings.push('the log rules are not installed: run "knockturn firewall install"')
      else if (tables.some((table) => table && !hearsDatagrams(table, read.value.datagram.ports)))
        warnings.push('the log rules are not those of [datagram] ports: run "knockturn firewall install"')
    }
  }
  return { faults, warnings }
}

/** A key has a passcode, and nothing hears it. */
export const UNHEARD = 'the passcode ports are not heard: run "knockturn firewall install"'

/** @returns what is no fault of the ledger, but will be felt */
async function checkLedger(path: string): Promise<string[]> {
  const missing = `${path}: there is no ledger yet: start the daemon with --new-ledger, or wait a minute after its start`
  try {
    const stats = await stat(path)
    if (!stats.isFile()) throw new Fault(`${path}: expected a file, got something else`)
    checkPrivate(path, stats, 0o600)
    await access(path, constants.R_OK | constants.W_OK)
    await access(dirname(path), constants.W_OK)
    if (stats.size > MAX_LEDGER) throw new Fault(`${path}: expected at most ${MAX_LEDGER} bytes, got ${stats.size}`)
    const { state } = readLedger(await readFile(path))
    if (state === 'damaged') return [`${path}: the ledger is damaged: nothing opens for a minute after the daemon's start`]
    return []
  } catch (error) {
    if (error instanceof Fault) throw error
    if (errorCode(error) !== 'ENOENT') throw new Fault(`${path}: the ledger cannot be used: ${reason(error)}`)
    await access(dirname(path), constants.W_OK).catch((cause) => {
      throw new Fault(`${path}: the ledger cannot be made: ${reason(cause)}: make its folder, writable for the daemon`)
    })
    return [missing]
  }
}

/** The file that taps are read from. @returns what is no fault, but will be felt */
async function checkLog(path: string): Promise<string[]> {
  try {
    if (!(await stat(path)).isFile()) throw new Fault(`${path}: expected a file, got something else`)
    await access(path, constants.R_OK)
    return []
  } catch (error) {
    if (error instanceof Fault) throw error
    if (errorCode(error) === 'ENOENT') return [`${path}: is not there yet: the daemon waits for it, and hears nothing before`]
    throw new Fault(`${path}: cannot be read: ${reason(error)}`)
  }
}

function neededCommands({ taps, firewall }: Config): string[] {
  return [
    'flock',
    ...tapCommands(taps),
    ...(firewall.backend === 'iptables' ? ['iptables', 'ip6tables', 'iptables-restore', 'ip6tables-restore'] : []),
  ]
}
