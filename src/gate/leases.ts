import type { Service } from '../protocol/service'
import type { Change, Told, Why } from './change'
import type { Now } from './clock'
import { type Entry, isLease, type Lease, type Lock, opensFor } from './firewall'
import { InForce } from './in-force'
import { type Grant, leasesOf } from './policy'

/** Leases in force, of all keys, and of one key so that none can use up the room of the others, where nothing else is said. */
export const MAX_LEASES = 4_096
export const MAX_KEY_LEASES = 256
/** Locks in force, of all keys and of one key, likewise. Only keys that may lock make them. */
export const MAX_LOCKS = 4_096
export const MAX_KEY_LOCKS = 256

/**
 * The life of leases and locks: what should be in force, at this moment. It decides, and whoever looks after the firewall brings it there.
 * An entry ends by the kernel's own clock, and by this one's monotonic clock too, whichever is first: a clock that is set back gives
 * nobody more time.
 */
export class Leases {
  readonly #inForce = new InForce((entry) => this.#endOf(entry))
  /** When an entry ends on the monotonic clock, in milliseconds; Infinity: until closed */
  readonly #ends = new WeakMap<Entry, number>()
  /** What has stood in the firewall, and what an entry that has not is to take the place of. */
  readonly #stood = new WeakSet<Entry>()
  readonly #before = new WeakMap<Entry, Lease>()
  #changes: Change[] = []
  #told: Told | null = null
  readonly #most: { readonly all: number; readonly key: number }

  /** @param most leases that may be in force, of all keys and of one */
  constructor(most = { all: MAX_LEASES, key: MAX_KEY_LEASES }) {
    this.#most = most
  }

  /**
   * Takes over what an earlier run left in force; what has ended, has lost its key or stands twice is no longer wanted.
   * @param left milliseconds for which the kernel still keeps an entry: a clock that was set back meanwhile gives nobody more time
   */
  restore(
    found: readonly Entry[],
    isAlive: (fingerprint: string) => boolean,
    now: Now,
    left: ReadonlyMap<Entry, number> = new Map(),
  ): void {
    // A run that was killed while it extended a lease may leave it twice: the longer one counts.
    const longestFirst = [...found].sort((a, b) => (b.until ?? Number.MAX_VALUE) - (a.until ?? Number.MAX_VALUE))
    for (const entry of longestFirst) {
      this.#ends.set(entry, Math.min(endOf(entry.until, now), now.steady + (left.get(entry) ?? Infinity)))
      if (!isAlive(entry.fingerprint)) this.#change(entry, 'closed')
      else if (entry.until !== null && entry.until * 1000 <= now.wall) this.#change(entry, 'expired')
      else if (this.current(entry)) this.#change(entry, 'replaced')
      else this.#inForce.set(entry)
      this.stands(entry)
    }
  }

  get size(): number {
    return this.#inForce.leases.size
  }

  get locks(): number {
    return this.#inForce.locks.size
  }

  /** Another number after each change of what should be in force. */
  get revision(): number {
    return this.#inForce.revision
  }

  /** Everything that should be in force. */
  all(): Entry[] {
    return [...this.#inForce.leases.values(), ...this.#inForce.locks.values()]
  }

  /** Whether just this should be in force: an entry that has been made longer is another one. */
  wants(entry: Entry): boolean {
    const current = this.current(entry)
    return current !== undefined && current.id === entry.id && current.until === entry.until
  }

  /** What is wanted in the place of an entry: itself, itself made longer, or another one; undefined where nothing is. */
  current(entry: Entry): Entry | undefined {
    return isLease(entry) ? this.#inForce.lease(entry) : this.#inForce.lock(entry)
  }

  /** What may have to be changed in the firewall, since the last call. */
  takeChanges(): readonly Change[] {
    const changes = this.#changes
    this.#changes = []
    return changes
  }

  /** Has somebody told of each change as it is noted, and of an opening that is given up; they change nothing in that moment. null: nobody */
  subscribe(told: Told | null): void {
    this.#told = told
  }

  /**
   * Puts in force what another gateway has opened or locked. What is there already is made longer, and keeps its name, or stays.
   * @param left milliseconds that it has, whatever its `until` says
   * @returns what is in force; null when there are too many already
   */
  adopt(entry: Entry, left: number, now: Now): Entry | null {
    const before = this.current(entry)
    if (before && (before.until ?? Infinity) >= (entry.until ?? Infinity)) return before
    if (!before && !this.#hasRoom(entry)) return null
    const next = before ? { ...entry, id: before.id } : entry
    return this.#put(next, Math.max(now.steady + left, before ? this.#endOf(before) : 0), before)
  }

  /** Ends what is wanted in the place of an entry, since that was closed at another gateway. */
  drop(entry: Entry): void {
    const current = this.current(entry)
    if (current) this.#end(current, 'closed for the fleet')
  }

  #hasRoom(entry: Entry): boolean {
    if (isLease(entry)) return this.size < this.#most.all && this.count(entry.fingerprint, []) < this.#most.key
    return this.locks < MAX_LOCKS && this.#inForce.locksOf(entry.fingerprint) < MAX_KEY_LOCKS
  }

  /** Puts an entry in force until a moment on the monotonic clock, in the place of another one. */
  #put<One extends Entry>(entry: One, end: number, before?: Entry): One {
    this.#ends.set(entry, end)
    if (before) this.#change(before, 'replaced')
    if (before && isLease(before)) this.#before.set(entry, before)
    if (before && !isLease(before)) this.#inForce.unset(before)
    this.#inForce.set(entry)
    this.#change(entry, 'wanted')
    return entry
  }

  /**
   * What an opening grant does: a new lease for each service, or a longer life for the one that is there. It is noted at once.
   * @param id names the new leases; the services of one grant are told apart by a suffix
   * @returns the leases that the grant comes to; null when there are too many already
   */
  open(id: string, key: string, fingerprint: string, grant: Grant, now: Now): Lease[] | null {
    const asked = leasesOf(grant, { id, key, fingerprint })
    const added = asked.filter((lease) => !this.#inForce.lease(lease)).length
    if (this.size + added > this.#most.all) return null
    if (this.count(fingerprint, []) + added > this.#most.key) return null
    return asked.map((lease) => {
      const before = this.#inForce.lease(lease)
      const next = before && !lease.once ? this.#extended(before, lease, now) : lease
      if (next === before) return before
      return this.#put(next, Math.max(endOf(next.until, now), before && !lease.once ? this.#endOf(before) : 0), before)
    })
  }

  /** Ends a key's leases for an address, and for blocks around it, all of them or those for some services; returns them. */
  close(fingerprint: string, address: string, services: readonly Service[]): Lease[] {
    const ended = this.#inForce.leasesOf(fingerprint, services).filter((lease) => opensFor(lease, address))
    for (const lease of ended) this.#end(lease, 'closed')
    return ended
  }

  /** How many leases a key has for these services, whatever their addresses. @param services none: all of them */
  count(fingerprint: string, services: readonly Service[]): number {
    const { size = 0 } = this.#inForce.of(fingerprint)?.leases ?? {}
    return services.length === 0 ? size : this.#inForce.leasesOf(fingerprint, services).length
  }

  /**
   * Ends what is over: by the monotonic clock or by the wall clock (the kernel has ended it then), with its key, or a lock on an address
   * that no lock may name any more.
   */
  expire(isAlive: (fingerprint: string) => boolean, isSpared: (address: string) => boolean, now: Now): void {
    for (const [fingerprint, own] of this.#inForce.keys()) {
      const isKept = isAlive(fingerprint)
      // The bounds may be too early, since what ends leaves them as they are, and never too late.
      if (isKept && own.steady > now.steady && own.wall > now.wall) continue
      own.steady = own.wall = Infinity
      for (const lease of own.leases) {
        if (this.#hasEnded(lease, now)) this.#end(lease, 'expired')
        else if (!isKept) this.#end(lease, 'closed')
        else this.#inForce.bound(own, lease)
      }
    }
    for (const lock of this.#inForce.locks.values()) {
      if (this.#hasEnded(lock, now)) this.#end(lock, 'expired')
      else if (!isAlive(lock.fingerprint) || isSpared(lock.address)) this.#end(lock, 'closed')
    }
  }

  #hasEnded(entry: Entry, now: Now): boolean {
    return this.isOver(entry, now, 'steady') || this.isOver(entry, now, 'wall')
  }

  /** Ends the leases of which this holds, whoever's they are; returns them. */
  endAll(isMeant: (lease: Lease) => boolean): Lease[] {
    const ended = [...this.#inForce.leases.values()].filter(isMeant)
    for (const lease of ended) this.#end(lease, 'closed')
    return ended
  }

  /** Whether an entry's time is over by one of the clocks, whatever has become of it. */
  isOver(entry: Entry, { steady, wall }: Now, clock: keyof Now): boolean {
    return clock === 'steady' ? this.#endOf(entry) <= steady : entry.until !== null && entry.until * 1000 <= wall
  }

  /** How long an entry may stand by both clocks, in milliseconds: never longer than it was to when it was wanted. Infinity: until closed. */
  left(entry: Entry, { steady, wall }: Now): number {
    const byWall = entry.until === null ? Infinity : entry.until * 1000 - wall
    return Math.min(byWall, (this.#ends.get(entry) ?? Infinity) - steady)
  }

  /** Notes that an entry stands in the firewall: what it took the place of is over. */
  stands(entry: Entry): void {
    this.#stood.add(entry)
    this.#before.delete(entry)
  }

  /** Whether an entry has ever stood in the firewall. */
  hasStood(entry: Entry): boolean {
    return this.#stood.has(entry)
  }

  /**
   * Gives up an opening that the firewall has refused: the lease is again what it was when it last stood there, or is gone. One that has
   * been made longer meanwhile stays.
   * @param isThere whether an entry stands in the firewall now
   */
  giveUp(lease: Lease, isThere: (entry: Entry) => boolean, now: Now): void {
    if (!this.wants(lease)) return
    this.#inForce.unset(lease)
    this.#told?.(lease, 'given up')
    let before = this.#before.get(lease)
    while (before && !this.#stood.has(before)) before = this.#before.get(before)
    // One connection that may have been used is not put back.
    if (!before || (before.once && !isThere(before))) return
    if (this.#endOf(before) > now.steady) this.#inForce.set(before)
    else this.#change(before, 'expired')
  }

  /** Notes that a lease for one connection has ended with its rule, which is gone from the firewall: nobody knows whether it was used. */
  lose(lease: Lease): void {
    if (this.wants(lease)) this.#inForce.unset(lease)
  }

  /**
   * Notes a lock, at once; a longer one of the same key stays. Another key's on the same address does, too: a longer one may end before it,
   * with its key.
   * @returns the key's lock; null when there are too many
   */
  lock(lock: Lock, now: Now): Lock | null {
    const before = this.#inForce.lock(lock)
    if (before && before.until >= lock.until) return before
    if (!before && !this.#hasRoom(lock)) return null
    return this.#put(lock, endOf(lock.until, now), before)
  }

  /** The lock on an address, the longest of them, or undefined. */
  locked(address: string): Lock | undefined {
    return this.#inForce.longestLockOn(address)
  }

  /** Ends the locks on an address, whoever's they are; returns them. */
  unlock(address: string): readonly Lock[] {
    const ended = this.#inForce.locksOn(address)
    for (const lock of ended) this.#end(lock, 'closed')
    return ended
  }

  /**
   * Knocking again extends and never shortens; the lease keeps its name. The two clocks are compared apart: when the wall clock has
   * jumped, the kernel may have ended what the monotonic clock still holds.
   */
  #extended(before: Lease, asked: Lease, now: Now): Lease {
    const isLonger = (asked.until ?? Infinity) > (before.until ?? Infinity)
    if (isLonger) return { ...asked, id: before.id }
    this.#ends.set(before, Math.max(this.#endOf(before), endOf(asked.until, now)))
    return before
  }

  #endOf(entry: Entry): number {
    return this.#ends.get(entry) ?? 0
  }

  #change(entry: Entry, why: Why): void {
    this.#changes.push({ entry, why })
    this.#told?.(entry, why)
  }

  #end(entry: Entry, why: Why): void {
    this.#inForce.unset(entry)
    this.#change(entry, why)
  }
}

function endOf(until: number | null, now: Now): number {
  return until === null ? Infinity : now.steady + until * 1000 - now.wall
}
