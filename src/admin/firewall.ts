import { absence, BACKENDS, backendOf } from '../daemon/backends/all'
import type { Backend, Change, Installation, InstallationRequest, Section } from '../daemon/backends/backend'
import { guardOfNow } from '../daemon/bridges'
import { endTry, triedLeft } from '../daemon/nftables/tried'
import { servicesInPool } from '../daemon/sockets'
import type { Fault } from '../system/fault'
import { wholeConfig } from './config'
import { tapRules } from './tap-rules'

/**
 * Finds what puts our rules in place, and whom that would shut out.
 * @param file the daemon's config, which names the keyring
 * @param warn told of warnings as they arise, those of one kind at once
 * @throws {Fault} where it would cut off a connection, or config, keyring or firewall can't be read
 */
export async function planInstallation(
  file: string,
  request: InstallationRequest,
  warn: (lines: readonly string[]) => void,
): Promise<Installation> {
  const config = await wholeConfig(file)
  const taps = await tapRules(config, (message) => warn([message]))
  const plan = await backendOf(config).plan({ guard: guardOfNow(config.firewall.guard), taps }, request, warn)
  warn(await servicesInPool(taps))
  return plan
}

/**
 * Finds what takes away all that is ours, leases too, whatever backend has made it, and the counting of a guard that was tried.
 * @param warn told of a part of the firewall that this machine has not, and of what can't be read of it
 * @throws {Fault} where a firewall can't be read
 */
export async function planRemoval(warn: (message: string) => void): Promise<readonly Change[]> {
  const changes = await eachBackend((backend) => backend.removal(warn))
  const script = await triedLeft()
  return script ? [...changes, { command: 'nft -f -', script, apply: endTry }] : changes
}

/** Feeds changes to the kernel, one after the other. @throws {Fault} where it refuses one: those before are made */
export async function applyChanges(changes: readonly Change[]): Promise<void> {
  for (const change of changes) await change.apply()
}

/** Reads what is ours in each firewall, with {@link planRemoval}'s warnings. @throws {Fault} where one can't be read */
export async function readOurRules(warn: (message: string) => void): Promise<readonly Section[]> {
  return eachBackend((backend) => backend.show(warn))
}

/** Asks each backend whose programs are installed. @throws {Fault} where none are */
async function eachBackend<T>(ask: (backend: Backend) => Promise<readonly T[]>): Promise<T[]> {
  const found: T[] = []
  let missing: Fault | null = null
  let isAny = false
  for (const backend of Object.values(BACKENDS)) {
    if (!backend.isReal) continue
    const fault = await absence(backend)
    missing ??= fault
    if (fault) continue
    isAny = true
    found.push(...(await ask(backend)))
  }
  if (!isAny && missing) throw missing
  return found
}
