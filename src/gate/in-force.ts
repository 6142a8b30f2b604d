import type { Service } from '../protocol/service'
import { type Entry, isLease, type Lease, type Lock } from './firewall'

/** The leases of a key, and no later than when the first of them ends: in steady and in Unix milliseconds. */
export interface OfKey {
  readonly leases: Set<Lease>
  steady: number
  wall: number
}

/** The leases and locks that should be in force, one in each slot, and by what they are looked for. */
export class InForce {
  /** slot → lease */
  readonly #leases = new Map<string, Lease>()
  /** The leases of each key by its fingerprint: there may be 65,536 of all keys, and no more is looked at than has to be. */
  readonly #ofKey = new Map<string, OfKey>()
  /** slot → lock */
  readonly #locks = new Map<string, Lock>()
  /** address → the locks on it, one of a key at most */
  readonly #lockedBy = new Map<string, readonly Lock[]>()
  readonly #endOf: (entry: Entry) => number
  #revision = 0

  /** @param endOf when an entry ends, in steady milliseconds; Infinity: never */
  constructor(endOf: (entry: Entry) => number) {
    this.#endOf = endOf
  }

  /** Another number after each change. */
  get revision(): number {
    return this.#revision
  }

  get leases(): { readonly size: number; values(): Iterable<Lease> } {
    return this.#leases
  }

  get locks(): { readonly size: number; values(): Iterable<Lock> } {
    return this.#locks
  }

  /** The keys that have leases: by fingerprint. */
  keys(): Iterable<[fingerprint: string, own: OfKey]> {
    return this.#ofKey
  }

  /** A key's leases; undefined where it has none. */
  of(fingerprint: string): OfKey | undefined {
    return this.#ofKey.get(fingerprint)
  }

  /** A key's leases for some services. @param services none: all of them */
  leasesOf(fingerprint: string, services: readonly Service[]): Lease[] {
    return [...(this.of(fingerprint)?.leases ?? [])].filter((lease) => isOneOf(services, lease))
  }

  lease(like: Lease): Lease | undefined {
    return this.#leases.get(slotOf(like))
  }

  lock(like: Lock): Lock | undefined {
    return this.#locks.get(slotOf(like))
  }

  /** How many locks a key has. */
  locksOf(fingerprint: string): number {
    return [...this.#locks.values()].filter((lock) => lock.fingerprint === fingerprint).length
  }

  /** The lock on an address, the longest of them, or undefined. */
  longestLockOn(address: string): Lock | undefined {
    const [first, ...others] = this.locksOn(address)
    return first && others.reduce((longest, lock) => (lock.until > longest.until ? lock : longest), first)
  }

  locksOn(address: string): readonly Lock[] {
    return this.#lockedBy.get(address) ?? []
  }

  /** Has the leases of a key looked at when this one ends. */
  bound(own: OfKey, lease: Lease): void {
    own.steady = Math.min(own.steady, this.#endOf(lease))
    own.wall = Math.min(own.wall, lease.until === null ? Infinity : lease.until * 1000)
  }

  set(entry: Entry): void {
    this.#revision++
    if (isLease(entry)) {
      const own = this.#ofKey.get(entry.fingerprint) ?? { leases: new Set(), steady: Infinity, wall: Infinity }
      this.#ofKey.set(entry.fingerprint, own)
      const before = this.#leases.get(slotOf(entry))
      if (before) own.leases.delete(before)
      own.leases.add(entry)
      this.bound(own, entry)
      this.#leases.set(slotOf(entry), entry)
      return
    }
    this.#locks.set(slotOf(entry), entry)
    this.#lockedBy.set(entry.address, [...this.locksOn(entry.address), entry])
  }

  unset(entry: Entry): void {
    this.#revision++
    if (isLease(entry)) {
      const standing = this.#leases.get(slotOf(entry))
      const own = this.#ofKey.get(entry.fingerprint)
      if (standing) own?.leases.delete(standing)
      if (own?.leases.size === 0) this.#ofKey.delete(entry.fingerprint)
      this.#leases.delete(slotOf(entry))
      return
    }
    this.#locks.delete(slotOf(entry))
    const others = this.locksOn(entry.address).filter((lock) => lock !== entry)
    if (others.length > 0) this.#lockedBy.set(entry.address, others)
    else this.#lockedBy.delete(entry.address)
  }
}

/** Whether a lease is for one of some services. @param services none: all of them */
export const isOneOf = (services: readonly Service[], { port, protocol }: Service): boolean =>
  services.length === 0 || services.some((service) => port === service.port && protocol === service.protocol)

/**
 * What there can be one of: leases of one key for one door are one lease, but one that admits one connection is another than one that admits
 * all; and a key has one lock on an address.
 */
function slotOf(entry: Entry): string {
  if (!isLease(entry)) return `${entry.fingerprint} ${entry.address}`
  const { fingerprint, address, protocol, port, once } = entry
  return `${fingerprint} ${address} ${port}/${protocol} ${once}`
}
