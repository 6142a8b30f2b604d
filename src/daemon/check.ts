import { access, constants, open, stat } from 'node:fs/promises'
import type { ServerKey } from '../gate/server-key'
import type { Check } from '../system/check'
import { errorCode, Fault, reason } from '../system/fault'
import { asOwner } from '../system/files'
import { checkClock } from '../system/time'
import { backendOf } from './backends/all'
import { Finding } from './checks/finding'
import { checkHolder, checkLedger } from './checks/ledger'
import { type Config, readConfig, readPlaces } from './config'
import { grantedServices } from './exposure/look'
import { judgePasscodes } from './passcode-rules'
import { rehearse } from './rehearsal'
import { loadServerKeys } from './server-keys'

/**
 * Looks at all that a daemon would need, tries what it would do, and changes nothing. A config with faults is followed as far as it can be, so
 * that those of keys and ledger are said, too: of what it leaves open there is no check. Root sees keys and ledger as the keyring's owner does,
 * who is the daemon's user.
 */
export async function checkDaemon(file: string): Promise<readonly Check[]> {
  const clock = new Finding('clock')
  await clock.attempt(() => checkClock(Date.now(), 'set the clock before you start the daemon'))
  const config = new Finding('config')
  const read = await readConfig(file)
  config.fault(...(read.faults ?? []))
  const { server, keys: folder, ledger } = read.value ?? (await readPlaces(file))
  /** Looks as the daemon's user. */
  const asDaemon = <T>(found: Finding, work: () => Promise<T>) =>
    found.attempt(() => (folder === undefined ? work() : asOwner(folder, work)))
  if (read.value) await asDaemon(config, () => checkReadable(file))
  const checks = [...clock.end('it is set'), ...config.end(`${file}: it can be read, and is without faults`)]

  let loaded: readonly ServerKey[] = []
  /** The same, with the passcodes that can be used. */
  let judged: readonly ServerKey[] = []
  if (folder !== undefined && server !== undefined) {
    const found = new Finding('keys')
    const keys = await asDaemon(found, () => loadServerKeys(folder, server, { datagrams: read.value?.datagram.ports }))
    loaded = keys?.keys ?? []
    const refused = keys ? [...keys.faults, ...keys.unread] : []
    found.fault(...refused)
    for (const path of keys?.ignored ?? []) found.felt(`${path}: ignored: not named <id>.key`)
    if (keys?.keys.length === 0 && refused.length === 0)
      found.fault(new Fault(`${folder}: contains no key`, { hint: 'make one with "knockturn key new"' }))
    if (keys && read.value) {
      const passcodes = judgePasscodes(keys.keys, read.value, Date.now())
      judged = passcodes.keys
      found.fault(...passcodes.faults)
    }
    checks.push(...found.end(`${folder}: ${loaded.length === 1 ? '1 key' : `${loaded.length} keys`} for "${server}"`))
  }
  if (read.value) checks.push(...(await checkServices(read.value, loaded)))
  const { path } = ledger
  let isRunning = false
  if (path !== undefined) {
    const found = new Finding('ledger')
    const isHeld = await asDaemon(found, () => checkLedger(path, loaded, found))
    checks.push(...found.end(`${path}: it can be used`))
    if (isHeld) {
      const { check, mayBeDaemon } = await checkHolder(path)
      isRunning = mayBeDaemon
      checks.push(check)
    }
  }
  if (!read.value) return checks
  checks.push(...(await checkFleet(read.value)))
  checks.push(...(await rehearse(read.value, isRunning)))
  const { file: log } = read.value.taps
  if (log !== null) checks.push(...(await checkLog(log)))
  return [...checks, ...(await checkRules(read.value, judged))]
}

/** What a gateway of a fleet needs besides; nothing of it is loaded for a single server. */
async function checkFleet({ ledger, keys }: Config): Promise<readonly Check[]> {
  const { fleet, path } = ledger
  if (!fleet) return []
  const { checkFleetFiles } = await import('./checks/fleet')
  return asOwner(keys, () => checkFleetFiles(fleet, path, Date.now()))
}

/** Whether strangers reach what is to open by a knock, and leases do. */
async function checkServices(config: Config, keys: readonly ServerKey[]): Promise<readonly Check[]> {
  const backend = backendOf(config)
  // Of another machine's firewall nobody here can know.
  if (!backend.isReal) return []
  const found = new Finding('services')
  const services = grantedServices(keys, Date.now())
  const { open, shut, unknown } = await backend.strangers(services, config.firewall.guard)
  found.fault(...open, ...shut)
  for (const line of unknown) found.unknown(line)
  const count = services.length === 1 ? '1 service is' : `${services.length} services are`
  return found.end(
    services.length === 0
      ? 'no key opens any'
      : `${count} closed to strangers by the rules, over all that this machine has of IPv4 and IPv6`,
  )
}

/** Whether the rules in place are those of now. */
async function checkRules(config: Config, keys: readonly ServerKey[]): Promise<readonly Check[]> {
  const backend = backendOf(config)
  if (!backend.isReal || config.taps.source === 'stdin') return []
  const found = new Finding('log rules')
  const { isInstalled, isOutdated, lines } = await backend.leftOut(keys, config)
  // Why they can't be read is said by the rehearsal.
  if (isInstalled === null) return []
  // A daemon that runs puts back the guard that it has read: an installation alone does not last.
  if (isInstalled && isOutdated)
    found.felt(
      'the rules in place are of another config, keyring or version',
      'restart the daemon, or run "knockturn firewall install" where none runs',
    )
  if (!isInstalled) found.felt('the log rules are not installed', 'run "knockturn firewall install"')
  else for (const line of lines) found.felt(line)
  return found.end('they are in place, for the pools of all keys')
}

/** The config, for whoever is to read it. @throws {Fault} */
async function checkReadable(file: string): Promise<void> {
  // Not by access(2), which asks for the real user: root.
  const opened = await open(file, constants.O_RDONLY | constants.O_NONBLOCK).catch((error) => {
    throw new Fault(`${file}: the daemon's user cannot read it: ${reason(error)}`, { hint: `run "chmod a+r ${file}"` })
  })
  await opened.close()
}

/** The file that taps are read from. */
async function checkLog(path: string): Promise<readonly Check[]> {
  const found = new Finding('tap file')
  await found.attempt(async () => {
    try {
      if (!(await stat(path)).isFile()) throw new Fault(`${path}: is not a regular file`)
      await access(path, constants.R_OK)
    } catch (error) {
      if (error instanceof Fault) throw error
      if (errorCode(error) !== 'ENOENT') throw new Fault(`${path}: cannot be read: ${reason(error)}`)
      found.felt(`${path}: does not exist yet: the daemon waits for it and receives no knocks until then`)
    }
  })
  return found.end(`${path}: it can be read`)
}
