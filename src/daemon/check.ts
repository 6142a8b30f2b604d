import { access, constants, open, readFile, stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import { Ledger } from '../gate/ledger'
import type { ServerKey } from '../gate/server-key'
import { errorCode, Fault, keepFault, reason } from '../system/fault'
import { asOwner, checkPrivate, checkWritable } from '../system/files'
import { checkClock } from '../system/time'
import { floorsAhead } from './ahead'
import { backendOf } from './backends/all'
import { readConfig, readPlaces } from './config'
import { grantedServices } from './exposure/look'
import { ledgerRemedy, MAX_LEDGER, tooLarge } from './ledger/held-file'
import { findHolder, isHeld } from './ledger/lock'
import { readLedger } from './ledger/record'
import { judgePasscodes } from './passcode-rules'
import { rehearse } from './rehearsal'
import { loadServerKeys } from './server-keys'

/** What a check has found. */
export interface Findings {
  readonly faults: Fault[]
  /** What is no fault but will keep doors shut, or will be felt. */
  readonly warnings: string[]
  /** What could not be looked at, and why. */
  readonly unchecked: string[]
}

/**
 * Looks at all that a daemon would need, tries what it would do, and changes nothing. A config with faults is followed as far as it can be, so
 * that those of keys and ledger are said, too. Root sees keys and ledger as the keyring's owner does, who is the daemon's user.
 */
export async function checkDaemon(file: string): Promise<Findings> {
  const faults: Fault[] = []
  const warnings: string[] = []
  const unchecked: string[] = []
  const attempt = <T>(look: () => Promise<T> | T) => keepFault(faults, look)
  await attempt(() => checkClock(Date.now(), 'set the clock before you start the daemon'))
  const read = await readConfig(file)
  faults.push(...(read.faults ?? []))
  const { server, keys: folder, ledger } = read.value ?? (await readPlaces(file))
  /** Looks as the daemon's user. */
  const look = <T>(work: () => Promise<T>) => attempt(() => (folder === undefined ? work() : asOwner(folder, work)))
  let loaded: readonly ServerKey[] = []
  /** The same, with the passcodes that can be used. */
  let judged: readonly ServerKey[] = []
  if (read.value) await look(() => checkReadable(file))
  if (folder !== undefined && server !== undefined) {
    const keys = await look(() => loadServerKeys(folder, server, { datagrams: read.value?.datagram.ports }))
    loaded = keys?.keys ?? []
    const refused = keys ? [...keys.faults, ...keys.unread] : []
    faults.push(...refused)
    warnings.push(...(keys?.ignored ?? []).map((path) => `${path}: ignored: not named <id>.key`))
    if (keys?.keys.length === 0 && refused.length === 0)
      faults.push(new Fault(`${folder}: contains no key`, { hint: 'make one with "knockturn key new"' }))
    if (keys && read.value) {
      const passcodes = judgePasscodes(keys.keys, read.value, Date.now())
      judged = passcodes.keys
      faults.push(...passcodes.faults)
    }
  }
  let isRunning = false
  const { path } = ledger
  if (path !== undefined) {
    const seen = await look(() => checkLedger(path, loaded))
    warnings.push(...(seen?.notes ?? []))
    isRunning = seen?.isHeld === true && (await isHeldByDaemon(path, { faults, warnings, unchecked }))
  }
  if (read.value) {
    const rehearsal = await rehearse(read.value, isRunning)
    faults.push(...rehearsal.faults)
    warnings.push(...rehearsal.notes)
    unchecked.push(...rehearsal.unchecked)
    const { file } = read.value.taps
    if (file !== null) warnings.push(...((await attempt(() => checkLog(file))) ?? []))
    const backend = backendOf(read.value)
    if (backend.isReal) {
      const { open, shut, unknown } = await backend.strangers(grantedServices(loaded, Date.now()), read.value.firewall.guard)
      faults.push(...open, ...shut)
      warnings.push(...unknown)
      if (read.value.taps.source !== 'stdin') {
        const { isInstalled, isOutdated, lines } = await backend.leftOut(judged, read.value)
        // A daemon that runs puts back the guard that it has read: an installation alone does not last.
        if (isInstalled && isOutdated)
          warnings.push(
            'the rules in place are of another config, keyring or version: restart the daemon, or run "knockturn firewall install" where none runs',
          )
        warnings.push(...(isInstalled ? lines : ['the log rules are not installed: run "knockturn firewall install"']))
      }
    }
  }
  return { faults, warnings, unchecked }
}

/** Finds who holds a ledger. @returns whether it may be a daemon, which has what it hears by then, too */
async function isHeldByDaemon(path: string, { faults, warnings, unchecked }: Findings): Promise<boolean> {
  const holder = await findHolder(path)
  if (!holder) {
    unchecked.push(
      `which process uses ${path}, and whether taps arrive: run this as root to see; if it is the daemon, all is well`,
    )
    return true
  }
  const { pid, name, isDaemon } = holder
  if (isDaemon) {
    warnings.push(`a daemon is running (process ${pid}): it uses the ledger and the source of taps`)
    return true
  }
  const hint = 'stop that process, or set [ledger] path to another file'
  faults.push(new Fault(`${path}: the ledger is in use by process ${pid} (${name}), which is not a daemon`, { hint }))
  return false
}

/** The config, for whoever is to read it. @throws {Fault} */
async function checkReadable(file: string): Promise<void> {
  // Not by access(2), which asks for the real user: root.
  const opened = await open(file, constants.O_RDONLY | constants.O_NONBLOCK).catch((error) => {
    throw new Fault(`${file}: the daemon's user cannot read it: ${reason(error)}`, { hint: `run "chmod a+r ${file}"` })
  })
  await opened.close()
}

/** @returns what is no fault of the ledger, but will be felt; and whether somebody holds it */
async function checkLedger(path: string, keys: readonly ServerKey[]): Promise<{ notes: string[]; isHeld: boolean }> {
  const missing = `${path}: there is no ledger yet: start the daemon with --new-ledger, or wait a minute after it starts`
  try {
    const stats = await stat(path)
    if (!stats.isFile()) throw new Fault(`${path}: is not a regular file`)
    checkPrivate(path, stats, 0o600)
    const held = await isHeld(path)
    await checkWritable(dirname(path))
    if (stats.size > MAX_LEDGER) throw tooLarge(path, stats.size)
    const { state, records } = readLedger(await readFile(path))
    const damaged = `${path}: the ledger is damaged: no knock opens anything for about a minute after the daemon starts`
    // It is only asked: nothing is written, and no window accepted.
    const known = new Ledger(records, { append: () => Promise.reject() }, 0)
    const far = floorsAhead(known, keys, Date.now()).filter(({ isFar }) => isFar)
    const notes = [
      ...(state === 'damaged' ? [damaged] : []),
      ...far.map(({ key, message }) => (key ? `key "${key.id}": ${message}` : `${path}: ${message}`)),
    ]
    return { notes, isHeld: held }
  } catch (error) {
    if (error instanceof Fault) throw error
    if (errorCode(error) !== 'ENOENT')
      throw new Fault(`${path}: the ledger cannot be used: ${reason(error)}`, { hint: ledgerRemedy(path, error) })
    await checkWritable(dirname(path)).catch((cause) => {
      throw new Fault(`${path}: the ledger cannot be created: ${reason(cause)}`, { hint: ledgerRemedy(path, cause) })
    })
    return { notes: [missing], isHeld: false }
  }
}

/** The file that taps are read from. @returns what is no fault, but will be felt */
async function checkLog(path: string): Promise<string[]> {
  try {
    if (!(await stat(path)).isFile()) throw new Fault(`${path}: is not a regular file`)
    await access(path, constants.R_OK)
    return []
  } catch (error) {
    if (error instanceof Fault) throw error
    if (errorCode(error) === 'ENOENT')
      return [`${path}: does not exist yet: the daemon waits for it and receives no knocks until then`]
    throw new Fault(`${path}: cannot be read: ${reason(error)}`)
  }
}
