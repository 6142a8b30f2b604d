import { dirname } from 'node:path'
import pino from 'pino'
import { backendOf } from '../daemon/backends/all'
import type { Config } from '../daemon/config'
import { NO_GUARD } from '../daemon/guard'
import type { Answer, Order } from '../daemon/orders/order'
import { stateLease, stateLock } from '../daemon/state/compose'
import type { StateLease, StateLock } from '../daemon/state/state'
import { type Entry, isLease, isLock, type Lease, type Lock, type Table } from '../gate/firewall'
import { fitting, type Named } from '../gate/fitting'
import { parseCidr } from '../protocol/address'
import { formatService, parseService } from '../protocol/service'
import { Fault, hintOf, reason } from '../system/fault'
import { asOwner } from '../system/files'
import { type Life, lookAtDaemon, type Sight } from './alive'
import { mayTry } from './guard'
import { giveOrder } from './orders'

/* What stands open or locked, and its end: by the daemon's word and hand, or by the firewall where no daemon is alive. */

/** Looks at a firewall that has changed between a look and the change, at most: what ends by itself meanwhile makes a change fail. */
const ROUNDS = 3

/** What is in force, and who says so. */
export interface InForce {
  readonly by: 'daemon' | 'firewall'
  readonly life: Life
  /** The soonest end first. */
  readonly leases: readonly StateLease[]
  readonly locks: readonly StateLock[]
}

/**
 * Finds what is in force: by the daemon where one is alive, else by the firewall, where it goes on without a daemon.
 * @param now Unix milliseconds
 * @throws {Fault} where that can't be known: it is never taken for nothing
 */
export async function whatIsInForce(config: Config, now: number): Promise<InForce> {
  const sight = await lookAtDaemon(config, now)
  if (sight.life === 'unknown' && sight.faults[0]) throw sight.faults[0]
  return inForceAt(config, sight, now)
}

/** What is in force, by what was seen of the daemon; likewise. */
export async function inForceAt(config: Config, { life, state }: Sight, now: number): Promise<InForce> {
  const isAlive = life === 'alive' && state !== null
  const { leases, locks } = isAlive ? state : inForceBy(await standing(config), now)
  return { by: isAlive ? 'daemon' : 'firewall', life, leases: soonestFirst(leases), locks: soonestFirst(locks) }
}

/** Entries by their ends, which are texts of one form; those without one last. */
function soonestFirst<T extends { readonly until: string | null }>(entries: readonly T[]): readonly T[] {
  const end = ({ until }: T) => until ?? '~'
  return [...entries].sort((a, b) => (end(a) < end(b) ? -1 : end(a) > end(b) ? 1 : 0))
}

/** Entries of a firewall as the daemon's state has them; what has ended is left out. @param now Unix milliseconds */
export function inForceBy(entries: readonly Entry[], now: number): { leases: StateLease[]; locks: StateLock[] } {
  const alive = entries.filter(({ until }) => until === null || until * 1000 > now)
  return {
    leases: alive.filter(isLease).map((lease) => stateLease(lease)),
    locks: alive.filter(isLock).map(stateLock),
  }
}

/** Reads the firewall. @throws {Fault} where it can't be read */
export async function standing(config: Config): Promise<readonly Entry[]> {
  const read = () => backendOf(config).standing()
  // What a user's program may have open is written down by the daemon's user.
  return config.firewall.backend === 'command' ? asOwner(dirname(config.ledger.path), read) : read()
}

/** What an end has come to. */
export interface Ended<T> {
  readonly by: 'daemon' | 'firewall'
  readonly ended: readonly T[]
}

/**
 * Closes leases: by the daemon, or without it where none is alive.
 * @returns those that are closed; none where none fits
 * @throws {Fault} where it can't be done, or the daemon does not answer
 */
export async function closeLeases(config: Config, meant: Named): Promise<Ended<StateLease>> {
  const answer = await answerOf(config, { kind: 'close', ...meant })
  const fits = fitting(meant)
  if (answer) {
    const ended = answer.closed ?? []
    // By these, connections are ended as root: whoever answers for the daemon must not name others'.
    if (!ended.every((lease) => isWhole(lease) && fits(lease)))
      throw new Fault('the daemon says that it has closed what nobody has named', {
        hint: 'look with "knockturn lease list" and at its log, and restart it',
      })
    return { by: 'daemon', ended }
  }
  const isMeant = (entry: Entry): entry is Lease => isLease(entry) && fits(entry)
  return { by: 'firewall', ended: (await removeFrom(config, isMeant)).map((lease) => stateLease(lease)) }
}

/** Whether a lease names a service and whom it opens for. */
const isWhole = ({ address, service }: StateLease): boolean => parseCidr(address) !== null && parseService(service) !== null

/**
 * Removes the locks on an address, whoever's they are, likewise.
 * @param address in its canonical form
 * @throws {Fault} as {@link closeLeases}
 */
export async function removeLocks(config: Config, address: string): Promise<Ended<StateLock>> {
  const answer = await answerOf(config, { kind: 'unlock', address })
  if (answer) return { by: 'daemon', ended: answer.unlocked ?? [] }
  const isMeant = (entry: Entry): entry is Lock => isLock(entry) && entry.address === address
  return { by: 'firewall', ended: (await removeFrom(config, isMeant)).map(stateLock) }
}

/** Has the daemon do something. @returns null where none is alive @throws {Fault} where it does not answer, or could not do it */
async function answerOf(config: Config, order: Order): Promise<Answer | null> {
  const answer = await giveOrder(config, order)
  if (answer === 'dead') return null
  if (answer === 'silent')
    throw new Fault('the daemon has not answered: nothing is known to be done', {
      hint: 'look at it with "knockturn status"; restart it, and run this again',
    })
  if (answer.failed !== undefined)
    throw new Fault(`the daemon could not do it: ${answer.failed}`, { hint: 'it tries again: look with "knockturn status"' })
  return answer
}

/**
 * Takes entries out of the firewall, and reads back that they are gone. Nothing else of it is touched: its rules are the daemon's business.
 * @returns what was there
 * @throws {Fault} where it can't be read or changed, or something still stands there
 */
async function removeFrom<T extends Entry>(config: Config, isMeant: (entry: Entry) => entry is T): Promise<readonly T[]> {
  const there = (await standing(config)).filter(isMeant)
  if (there.length === 0) return []
  // Root must not run what the daemon's user could have put there; and as that user, a shell would be root again by its real one.
  if (config.firewall.backend === 'command')
    throw new Fault('no daemon is running, and the program of [firewall.command] is run by none but the daemon', {
      hint: 'start the daemon, and run this again',
    })
  if (!(await mayTry())) throw new Fault('only root may change the firewall', { hint: 'run this as root, or with sudo' })
  try {
    const rules = () => ({ guard: NO_GUARD, taps: null })
    const silent = pino({ level: 'silent' })
    const { firewall } = await backendOf(config).open(
      rules,
      () => 0,
      () => {},
      silent,
    )
    const left = (await Promise.all(firewall.map((table) => removeFromTable(table, isMeant)))).flat()
    if (left.length > 0)
      throw new Fault(`${left.length} of ${there.length} still stand in the firewall`, {
        hint: 'start the daemon, and run this again; or look with "knockturn firewall show"',
      })
  } catch (error) {
    if (error instanceof Fault) throw error
    throw new Fault(`cannot change the firewall: ${reason(error)}`, { hint: hintOf(error) })
  }
  return there
}

/** @returns what still stands there @throws where the table can't be read, or the last change is refused */
export async function removeFromTable(table: Table, isMeant: (entry: Entry) => boolean): Promise<readonly Entry[]> {
  const find = async () => (await table.read()).entries.filter(isMeant)
  let found = await find()
  for (let round = 1; found.length > 0 && round <= ROUNDS; round++) {
    try {
      await removeAll(table, found)
    } catch (error) {
      if (round === ROUNDS) throw error
    }
    found = await find()
  }
  return found
}

/** A few at a time, where a table would rather be written anew: that would be more than to take something away. */
async function removeAll(table: Table, entries: readonly Entry[]): Promise<void> {
  const step = Math.min(table.maxRemoved, entries.length)
  for (let at = 0; at < entries.length; at += step)
    await table.change({ add: [], remove: entries.slice(at, at + step).map((entry) => ({ entry, why: 'closed' })) })
}

/** The leases that are still in force, those that were just ended left out: the daemon's account of them may be a moment old. */
export function without(leases: readonly Entry[], ended: readonly StateLease[]): Lease[] {
  const names = new Set(ended.map(({ fingerprint, id, service }) => `${fingerprint} ${id} ${service}`))
  return leases.filter(isLease).filter((lease) => !names.has(`${lease.fingerprint} ${lease.id} ${formatService(lease)}`))
}
