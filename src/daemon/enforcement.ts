import { sha256 } from '@noble/hashes/sha2.js'
import { bytesToHex, concatBytes } from '@noble/hashes/utils.js'
import { type Entry, isLease, isLock, type Lease, type Lock, opensFor } from '../gate/firewall'
import { fitting, type Named } from '../gate/fitting'
import { isOneOf } from '../gate/in-force'
import type { Knock } from '../gate/knock'
import type { Grant } from '../gate/policy'
import type { ServerKey } from '../gate/server-key'
import { SHARE, SHARE_RATE, Shares } from '../gate/share'
import { u64 } from '../protocol/bytes'
import { formatService } from '../protocol/service'
import { isoTime } from '../system/time'
import type { CurrentKeys } from './current-keys'
import { Doors } from './doors/doors'
import type { Outcome } from './doors/waiting'
import type { Stages } from './stages'

/** What becomes of a grant: it is refused, or noted at once, and told of when the firewall has followed: true where it has come into force. */
type Enforced = { readonly refused: string } | { readonly told: Promise<boolean> }

/** What has come of an order: what is gone from the firewall, and why the rest is not. */
export interface Ended<One extends Entry> {
  readonly ended: readonly One[]
  readonly failed?: string
}

/** What every line of the log about a grant says. */
interface About {
  readonly key: string
  readonly fingerprint: string
  readonly action: Grant['action']
  readonly by?: Knock['by']
  readonly source: string
  readonly address: string
}

/** Grants in force: puts them there, tells of it, and ends them. It decides nothing but each key's share. */
export class Enforcement {
  readonly #stages: Omit<Stages, 'listener' | 'passcodes' | 'ledger'>
  readonly #keys: CurrentKeys
  readonly #doors: Doors
  /** Closes what is open, or locked, at other gateways and not here; null: there are none. */
  elsewhere: ((isMeant: (entry: Entry) => boolean) => void) | null = null
  /** What each key may have opened, and closed or locked. */
  readonly #openings = new Shares(SHARE, SHARE_RATE)
  readonly #ends = new Shares(SHARE, SHARE_RATE)

  /** @param keys whose leases live */
  constructor(stages: Omit<Stages, 'listener' | 'passcodes' | 'ledger'>, keys: CurrentKeys) {
    this.#stages = stages
    this.#keys = keys
    this.#doors = new Doors(stages)
  }

  /** Leases → firewall, and one line in the log. What is granted is noted at once, and said when it is in force. */
  enforce(knock: Knock, key: ServerKey, grant: Grant): Enforced {
    const { steady } = this.#stages.now()
    const { action, address } = grant
    // After the claim: a knock that was not spent could be played when there is a share again.
    const isWithin =
      action === 'open'
        ? this.#openings.take(key.fingerprint, grant.services.length, steady)
        : this.#ends.take(key.fingerprint, 1, steady)
    if (!isWithin) return { refused: "the key's share is used up" }
    const id = knock.by ? passcodeLease(knock) : knock.v.slice(0, 8)
    const by = knock.by ? { by: knock.by } : {}
    const about = { key: key.id, fingerprint: key.fingerprint, action, ...by, source: knock.source, address }
    return action === 'open' ? this.#open(id, about, grant) : this.#shut(id, about, grant)
  }

  /** Opens every service of a grant. */
  #open(id: string, about: About, grant: Grant): Enforced {
    const { leases, firewall, now, onceRefused } = this.#stages
    if (grant.once && onceRefused) return { refused: onceRefused }
    if (grant.once && firewall.some(({ countsConnections }) => countsConnections === false))
      return { refused: 'the backend cannot count connections: knock without --once' }
    const opened = leases.open(id, about.key, about.fingerprint, grant, now())
    if (!opened) return { refused: 'too many leases are in force' }
    this.#doors.follow()
    return { told: this.#tellOpened(opened, about, grant.once) }
  }

  async #tellOpened(leases: readonly Lease[], about: About, once: boolean): Promise<boolean> {
    const { log, now, chronicle } = this.#stages
    const outcomes = await Promise.all(leases.map((lease) => this.#doors.opened(lease)))
    const all = (fits: (outcome: Outcome) => boolean) => leases.filter((_, i) => fits(outcomes[i]))
    const failed = all((outcome) => typeof outcome === 'object')
    const open = all((outcome) => outcome === 'in force')
    const ended = all((outcome) => outcome === 'ended')
    // They are of one change, and have one reason.
    const failure = outcomes.find((outcome) => typeof outcome === 'object')
    if (failure) log.error({ ...about, ...listed(failed), reason: failure.failed }, 'cannot change the firewall rules')
    if (open.length > 0) log.info({ ...about, ...listed(open), once }, 'accepted')
    for (const lease of open) chronicle?.opened(lease, now().wall)
    if (ended.length > 0) log.info({ ...about, ...listed(ended) }, 'closed before it was open')
    return open.length > 0
  }

  /** Closes what the key has open for the address; a lock then keeps it shut. */
  #shut(id: string, about: About, { action, address, services, until }: Grant): Enforced {
    const { leases, now } = this.#stages
    const { key, fingerprint } = about
    const lock = action === 'lock' ? leases.lock({ id, key, fingerprint, address, until: until ?? 0 }, now()) : undefined
    if (lock === null) return { refused: 'too many locks are in force' }
    const ended = leases.close(fingerprint, address, services)
    const isMeant = (lease: Lease) => opensFor(lease, address) && isOneOf(services, lease)
    this.elsewhere?.((entry) => entry.fingerprint === fingerprint && isLease(entry) && isMeant(entry))
    const what = {
      service: services.map(formatService).join(',') || 'all',
      leases: ended.map((lease) => lease.id),
      ...(action === 'close' && ended.length === 0 ? { elsewhere: leases.count(fingerprint, services) } : {}),
    }
    this.#doors.follow()
    return { told: this.#tellShut(ended, lock, { ...about, ...what }) }
  }

  async #tellShut(ended: readonly Lease[], lock: Lock | undefined, about: About): Promise<boolean> {
    const { log } = this.#stages
    const awaited = [...(lock ? [this.#doors.opened(lock)] : []), this.#doors.shut(ended)]
    const failure = (await Promise.all(awaited)).flat().find((outcome) => typeof outcome === 'object')
    const until = lock ? isoTime(lock.until * 1000) : null
    // It is tried again. A lock holds all the same, since it is we who ignore the taps: only a restart would forget it.
    if (failure) log.error({ ...about, until, reason: failure.failed }, 'cannot change the firewall rules')
    else log.info({ ...about, until }, 'accepted')
    return !failure
  }

  /**
   * Takes over what another gateway has opened or locked. It is noted at once, and said when it is in force.
   * @param left milliseconds that it has
   * @returns whether it is noted: not where there are too many already
   */
  adopt(entry: Entry, left: number, gateway: string): boolean {
    const { leases, now } = this.#stages
    const before = leases.current(entry)
    const adopted = leases.adopt(entry, left, now())
    if (!adopted || adopted === before) return adopted !== null
    this.#doors.follow()
    this.#tellAdopted(adopted, gateway)
    return true
  }

  async #tellAdopted(entry: Entry, gateway: string): Promise<void> {
    const { log, chronicle, now } = this.#stages
    const outcome = await this.#doors.opened(entry)
    const { key, fingerprint, address } = entry
    const about = { key, fingerprint, gateway, address, ...listed([entry]) }
    // What the firewall refuses is tried again for as long as the fleet has it.
    if (typeof outcome === 'object') return log.error({ ...about, reason: outcome.failed }, 'cannot change the firewall rules')
    if (outcome === 'ended') return
    log.info(about, isLease(entry) ? 'opened for the fleet' : 'banned for the fleet')
    if (isLease(entry)) chronicle?.opened(entry, now().wall)
  }

  /** Ends what was closed, or unlocked, at another gateway. */
  drop(entry: Entry): void {
    const { leases, log } = this.#stages
    const current = leases.current(entry)
    if (!current) return
    leases.drop(current)
    this.#doors.follow()
    // Of a lease, its own line says so, when its door is shut.
    if (!isLease(current)) log.info({ key: current.key, address: current.address }, 'ban lifted for the fleet')
  }

  /** Closes leases by an administrator's order, whoever's they are. Resolves when the firewall has followed, or could not. */
  async closeNamed(named: Named): Promise<Ended<Lease>> {
    const isMeant = fitting(named)
    const closed = this.#stages.leases.endAll(isMeant)
    this.elsewhere?.((entry) => isLease(entry) && isMeant(entry))
    const ended = await this.#followed(closed)
    this.#tellOrder({ order: 'close', ...named }, ended)
    return ended
  }

  /** Takes the locks off an address by an administrator's order, likewise. */
  async unlock(address: string): Promise<Ended<Lock>> {
    const unlocked = this.#stages.leases.unlock(address)
    this.elsewhere?.((entry) => isLock(entry) && entry.address === address)
    const ended = await this.#followed(unlocked)
    this.#tellOrder({ order: 'unlock', address }, ended)
    return ended
  }

  /** Has the firewall follow what has ended. */
  async #followed<One extends Entry>(entries: readonly One[]): Promise<Ended<One>> {
    this.#doors.follow()
    const outcomes = await this.#doors.shut(entries)
    const failure = outcomes.find((outcome) => typeof outcome === 'object')
    const ended = entries.filter((_, i) => typeof outcomes[i] !== 'object')
    return { ended, ...(failure ? { failed: failure.failed } : {}) }
  }

  /** One line in the log for each order; each lease that it has ended has one of its own. */
  #tellOrder(about: object, { ended, failed }: Ended<Entry>): void {
    const { log } = this.#stages
    if (failed !== undefined) log.error({ ...about, reason: failed }, 'cannot change the firewall rules')
    log.info({ ...about, ended: ended.length }, 'carried out an order')
  }

  /** Reads back what an earlier run left in force, keeps what is valid and sweeps the rest. */
  async restore(): Promise<void> {
    const { leases, now, log } = this.#stages
    const { entries: found, left } = await this.#doors.adopt()
    leases.restore(found, this.#isAlive, now(), left)
    this.#doors.follow()
    await this.#doors.settle()
    const there = found.filter(isLease).length
    if (there > 0) log.info({ kept: leases.size, swept: there - leases.size }, 'restored')
  }

  /** Ends the leases and locks whose time or key is over, and has the firewall follow. */
  expire(): void {
    const { leases, now } = this.#stages
    leases.expire(this.#isAlive, (address) => this.#keys.isSpared(address), now())
    this.#doors.follow()
  }

  /** Another program may have changed the firewall: it is looked at now. */
  alarm(): void {
    this.#doors.alarm()
  }

  /** Whether nothing is in force, and nothing waits for the firewall. */
  get isEmpty(): boolean {
    return this.#doors.isEmpty
  }

  /** Resolves when the firewall has followed, as far as it does; whoever waits has been told. */
  settle(): Promise<void> {
    return this.#doors.settle()
  }

  /** Leaves running leases to the kernel, before the process ends; those that it can't end are ended now, since nobody else would. */
  async leave(): Promise<void> {
    const isOurs = (lease: Lease) => lease.until !== null && !this.#doors.endsByItself(lease)
    if (this.#stages.leases.endAll(isOurs).length === 0) return
    this.#doors.follow()
    await this.#doors.settle()
  }

  readonly #isAlive = (fingerprint: string): boolean => this.#keys.isAlive(fingerprint, this.#stages.now().wall)
}

/** What a line of the log says of leases that one grant has come to, which end together; or of a lock. */
function listed(entries: readonly Entry[]): object {
  const [{ until }] = entries
  const leases = entries.filter(isLease)
  return {
    ...(leases.length > 0 ? { service: leases.map(formatService).join(',') } : {}),
    until: until === null ? null : isoTime(until * 1000),
    ...(leases.length > 0 ? { leases: leases.map(({ id }) => id) } : {}),
  }
}

/** Names the leases of a passcode as V's first bytes name those of other knocks: V is the same for all passcodes. */
function passcodeLease({ key, window }: Knock): string {
  return bytesToHex(sha256(concatBytes(key.fingerprint, u64(window)))).slice(0, 8)
}
