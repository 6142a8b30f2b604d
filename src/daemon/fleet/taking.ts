import type { Logger } from 'pino'
import type { Now } from '../../gate/clock'
import { type Entry, isLease } from '../../gate/firewall'
import type { Leases } from '../../gate/leases'
import { sharedRuling } from '../../gate/policy'
import { Quiet } from '../../gate/quiet'
import type { ServerKey } from '../../gate/server-key'
import { isLoopback } from '../../protocol/address'
import { formatService } from '../../protocol/service'
import type { CurrentKeys } from '../current-keys'
import type { Etcd } from './etcd/etcd'
import type { FollowedRows } from './followed'
import type { Link } from './link'
import type { Repeated } from './repeated'
import type { SharedEntry } from './rows'
import type { Sight, Sights } from './sights'
import { isLonger } from './writing'

/** What is wrong with a row is said once a minute. */
const QUIET = 60_000

/** What rows are taken over by. */
export interface TakingSetup {
  readonly etcd: Etcd
  readonly link: Link
  readonly leases: Leases
  readonly keys: CurrentKeys
  readonly log: Logger
  readonly now: () => Now
  readonly rows: FollowedRows
  readonly sights: Sights
  readonly repeated: Repeated
  /** Has a row taken away that was closed and is there again. */
  readonly takeAway: (name: string) => void
  /** As of {@link Enforcement.adopt}. */
  readonly adopt: (entry: Entry, left: number, gateway: string) => boolean
}

/** Puts in force here what rows of the fleet say, as far as this gateway's keys, grants and clocks allow. */
export class Taking {
  readonly #setup: TakingSetup
  readonly #quiet = new Quiet(QUIET)

  constructor(setup: TakingSetup) {
    this.#setup = setup
  }

  /** Takes over what a row says now, or as soon as that may be. */
  judge(name: string): void {
    if (!this.#take(name)) this.later(name)
  }

  /** As {@link Taking.judge}. @param after milliseconds */
  later(name: string, after = 0): void {
    const attempt = async () => {
      await this.#askEtcd(name)
      return this.#take(name)
    }
    if (!this.#setup.repeated.ask(`take ${name}`, attempt, after)) this.sayTooMany()
  }

  /** When a row was seen first, for the end that it says. */
  sightOf(name: string, { entry, seconds }: SharedEntry<Entry>): Sight {
    return this.#setup.sights.see(name, entry, seconds, this.#setup.now())
  }

  /** Asks etcd how long a row has. Its lease begins anew with each leader: so it is asked once, and other bounds hold beside it. */
  async #askEtcd(name: string): Promise<void> {
    const { rows, etcd, now } = this.#setup
    const shared = rows.read(name)
    const lease = rows.row(name)?.lease ?? null
    if (!shared || lease === null) return
    const sight = this.sightOf(name, shared)
    if (sight.isAsked) return
    const left = await etcd.left(lease)
    // It is over, and the row about to go.
    if (left === null) return
    sight.isAsked = true
    // Whole seconds, of which a part is left out.
    sight.end = Math.min(sight.end, now().steady + (left + 1) * 1000)
  }

  /** @returns whether there is nothing more to do */
  #take(name: string): boolean {
    const { rows, sights, link, leases, now } = this.#setup
    const [row, key, shared] = [rows.row(name), rows.keyOf(name), rows.read(name)]
    if (!row || !key) return true
    if (!shared) {
      if (link.base === null) return false
      this.#warn('a row of the fleet is not by its key: ignored', key)
      return true
    }
    const { entry } = shared
    if (sights.isClosed(name, entry.id)) {
      this.#setup.takeAway(name)
      return true
    }
    const sight = this.sightOf(name, shared)
    const current = leases.current(entry)
    if (!isShared(entry) || (current && (sight.isTaken || !isLonger(entry, current)))) return true
    const at = now()
    const left = leftOf(entry, key, sight, at)
    if (left <= 0 || !this.#isGranted(name, shared, key, at)) return true
    // What only shuts is taken over at any time.
    if (isLease(entry) && shared.epoch < (link.base?.base.epoch ?? 0)) return true
    if (isLease(entry) && link.refusal(at) !== null) return false
    if (row.lease !== null && !sight.isAsked) return false
    return this.#adopt(shared, key, sight, left, at)
  }

  #isGranted(name: string, { entry, seconds, gateway }: SharedEntry<Entry>, key: ServerKey, { wall }: Now): boolean {
    const rule = sharedRuling(entry, seconds, key, this.#setup.keys.neverLock, wall)
    if (rule === null) return true
    const service = isLease(entry) ? { service: formatService(entry) } : {}
    this.#warn('not taken over from the fleet', key, { gateway, address: entry.address, ...service, rule }, name)
    return false
  }

  #adopt({ entry, gateway }: SharedEntry<Entry>, key: ServerKey, sight: Sight, left: number, { wall }: Now): boolean {
    // The kernel ends it by the wall clock, daemon or no daemon.
    const until = left === Infinity ? null : Math.min(entry.until ?? Infinity, Math.ceil((wall + left) / 1000))
    sight.isTaken = this.#setup.adopt({ ...entry, key: key.id, until } as Entry, left, gateway)
    if (!sight.isTaken) this.#warn('too many leases or bans are in force: one of the fleet is left out', key)
    return sight.isTaken
  }

  sayTooMany(): void {
    this.#warn('the fleet shares more than is followed here: the rest is ignored')
  }

  #warn(message: string, key?: ServerKey, about: object = {}, name = key?.fingerprint): void {
    const { log, now } = this.#setup
    if (this.#quiet.may(`${message} ${name}`, now().steady)) log.warn({ ...(key ? { key: key.id } : {}), ...about }, message)
  }
}

/** How long an entry may stand here, in milliseconds: by what its row says, by what was seen of it, and by its key. Infinity: until closed */
function leftOf({ until }: Entry, { expires }: ServerKey, { end }: Sight, { wall, steady }: Now): number {
  return Math.min(until === null ? Infinity : until * 1000 - wall, end - steady, (expires ?? Infinity) - wall)
}

/** Whether the fleet shares it: a connection that is counted is one gateway's, and who knocks from the machine itself is known there alone. */
export const isShared = (entry: Entry): boolean => !(isLease(entry) && entry.once) && !isLoopback(entry.address)
