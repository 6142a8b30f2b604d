import { type Cidr, inCidr, parseCidr } from '../protocol/address'
import type { Now } from './clock'
import type { Grant, Service } from './policy'

/** Leases in force, of all keys: a bound on rules, far above what people ask. */
export const MAX_LEASES = 4_096
/** Leases in force of one key, so that none can use up the room of the others. */
export const MAX_KEY_LEASES = 256
/** Locks in force. Only keys that may lock make them. */
export const MAX_LOCKS = 4_096

/** A grant in force in the firewall until it expires. */
export interface Lease {
  readonly id: string
  /** The key's id and fingerprint: whose lease it is. */
  readonly key: string
  readonly fingerprint: string
  /** An address, or a block such as `198.51.100.0/24`. */
  readonly address: string
  readonly protocol: 'tcp' | 'udp'
  readonly port: number
  readonly once: boolean
  /** Unix seconds, or null: until closed */
  readonly until: number | null
}

/** An address whose taps are ignored. */
export interface Lock {
  readonly id: string
  readonly key: string
  readonly fingerprint: string
  readonly address: string
  /** Unix seconds */
  readonly until: number
}

/** What the leases need of a firewall: plain values, never a command. Each call resolves when it is in force and rejects when it is not. */
export interface Firewall {
  /** What is in force from an earlier run. */
  list(): Promise<{ leases: Lease[]; locks: Lock[] }>
  /** Puts a lease in force, in place of an earlier one of the same id. */
  open(lease: Lease, replaced: Lease | null): Promise<void>
  end(lease: Lease, why: 'close' | 'expire'): Promise<void>
  /** Puts a lock in force, in place of an earlier one for the same address. */
  lock(lock: Lock, replaced: Lock | null): Promise<void>
  unlock(lock: Lock): Promise<void>
  /** Puts back what another program has taken away since, and takes away what it has put back; returns whether there was anything. */
  mend(): Promise<boolean>
}

interface Held<T> {
  readonly entry: T
  /** When it ends on the monotonic clock, in milliseconds; Infinity: until closed */
  readonly ends: number
  /** What it took the place of, in case that it can't be put in force. */
  readonly before?: Held<T> | undefined
  /** After a failure to end it, the moment of the monotonic clock before which it is not tried again. */
  readonly notBefore?: number
}

/**
 * The life of leases and locks. It decides; the firewall does. An entry ends by the kernel's own clock, and by this one's monotonic
 * clock too, whichever is first: a clock that is set back gives nobody more time.
 */
export class Leases {
  readonly #leases = new Map<string, Held<Lease>>()
  readonly #locks = new Map<string, Held<Lock>>()

  /** Takes over what an earlier run left in force; returns what has ended or has lost its key, to be swept. */
  restore(leases: readonly Lease[], locks: readonly Lock[], isAlive: (fingerprint: string) => boolean, now: Now) {
    const kept = (entry: Lease | Lock) => isAlive(entry.fingerprint) && !(entry.until !== null && entry.until * 1000 <= now.wall)
    // A run that was killed while it extended a lease leaves it twice: the longer one counts.
    const longestFirst = <T extends Lease | Lock>(entries: readonly T[]) =>
      [...entries].sort((a, b) => (b.until ?? Number.MAX_VALUE) - (a.until ?? Number.MAX_VALUE))
    const over: { leases: Lease[]; locks: Lock[] } = { leases: [], locks: [] }
    for (const lease of longestFirst(leases)) {
      if (!kept(lease) || this.#leases.has(slot(lease))) over.leases.push(lease)
      else this.#leases.set(slot(lease), { entry: lease, ends: endOf(lease.until, now) })
    }
    for (const lock of longestFirst(locks)) {
      if (!kept(lock) || this.#locks.has(lock.address)) over.locks.push(lock)
      else this.#locks.set(lock.address, { entry: lock, ends: endOf(lock.until, now) })
    }
    return over
  }

  get size(): number {
    return this.#leases.size
  }

  /** Every lease in force. */
  all(): Lease[] {
    return [...this.#leases.values()].map(({ entry }) => entry)
  }

  /**
   * What an opening grant does: a new lease for each service, or a longer life for the one that is there. It is noted at once.
   * @param id names the new leases; the services of one grant are told apart by a suffix
   * @returns null when there are too many leases already
   */
  open(id: string, key: string, fingerprint: string, grant: Grant, now: Now): { lease: Lease; replaced: Lease | null }[] | null {
    const wanted = grant.services.map(({ port, protocol }, i) => ({
      id: grant.services.length === 1 ? id : `${id}.${i}`,
      key,
      fingerprint,
      address: grant.address,
      protocol,
      port,
      once: grant.once,
      until: grant.until,
    }))
    const added = wanted.filter((lease) => !this.#leases.has(slot(lease)))
    if (this.#leases.size + added.length > MAX_LEASES) return null
    const own = [...this.#leases.values()].filter(({ entry }) => entry.fingerprint === fingerprint)
    if (own.length + added.length > MAX_KEY_LEASES) return null
    return wanted.map((lease) => {
      const before = this.#leases.get(slot(lease))
      const longer = before && !lease.once ? extend(before, lease, now) : { entry: lease, ends: endOf(lease.until, now) }
      this.#leases.set(slot(lease), { ...longer, before: before && { entry: before.entry, ends: before.ends } })
      return { lease: longer.entry, replaced: before?.entry ?? null }
    })
  }

  /** Takes out a key's leases for an address, and for blocks around it, all of them or those for some services; returns them. */
  close(fingerprint: string, address: string, services: readonly Service[]): Lease[] {
    return this.#take(
      ({ entry: lease }) =>
        lease.fingerprint === fingerprint &&
        opensFor(lease, address) &&
        (services.length === 0 || services.some(({ port, protocol }) => port === lease.port && protocol === lease.protocol)),
    )
  }

  /**
   * Takes out what is over and returns it. `expired`: leases that have ended by the monotonic clock, or by the wall clock (the kernel
   * has ended them then); `orphaned`: those whose key is gone, revoked or has expired; `locks`: both kinds of
   * them, and those on addresses that no lock may name any more.
   */
  ended(
    isAlive: (fingerprint: string) => boolean,
    isSpared: (address: string) => boolean,
    now: Now,
  ): { expired: Lease[]; orphaned: Lease[]; locks: Lock[] } {
    const isDue = ({ notBefore = 0 }: Held<Lease | Lock>) => now.steady >= notBefore
    const hasExpired = ({ entry, ends }: Held<Lease | Lock>) =>
      ends <= now.steady || (entry.until !== null && entry.until * 1000 <= now.wall)
    const isOrphan = ({ entry }: Held<Lease | Lock>) => !isAlive(entry.fingerprint)
    const locks = [...this.#locks.values()]
      .filter((held) => hasExpired(held) || isOrphan(held) || isSpared(held.entry.address))
      .map(({ entry }) => entry)
    for (const { address } of locks) this.#locks.delete(address)
    return {
      expired: this.#take((held) => isDue(held) && hasExpired(held)),
      orphaned: this.#take((held) => isDue(held) && isOrphan(held)),
      locks,
    }
  }

  /** Takes out a lease that could not be opened, or made longer: then it is again what it was. */
  undo(lease: Lease): void {
    const held = this.#leases.get(slot(lease))
    if (held?.entry !== lease) return
    if (held.before) this.#leases.set(slot(lease), held.before)
    else this.#leases.delete(slot(lease))
  }

  /** Puts back a lease that could not be ended, to be ended at another moment of the monotonic clock. */
  retry(lease: Lease, at: number): void {
    if (!this.#leases.has(slot(lease))) this.#leases.set(slot(lease), { entry: lease, ends: at, notBefore: at })
  }

  /** Notes a lock; a longer one for the same address stays. @returns null when there are too many */
  lock(lock: Lock, now: Now): { lock: Lock; replaced: Lock | null } | null {
    const before = this.#locks.get(lock.address)
    if (!before && this.#locks.size >= MAX_LOCKS) return null
    if (before && before.entry.until >= lock.until) return { lock: before.entry, replaced: before.entry }
    this.#locks.set(lock.address, { entry: lock, ends: endOf(lock.until, now) })
    return { lock, replaced: before?.entry ?? null }
  }

  /** The lock on an address, or undefined. */
  locked(address: string): Lock | undefined {
    return this.#locks.get(address)?.entry
  }

  #take(matches: (held: Held<Lease>) => boolean): Lease[] {
    const taken = [...this.#leases.values()].filter(matches).map(({ entry }) => entry)
    for (const lease of taken) this.#leases.delete(slot(lease))
    return taken
  }
}

/**
 * Knocking again extends and never shortens; the lease keeps its name. The two clocks are compared apart: when the wall clock has
 * jumped, the kernel may have ended what the monotonic clock still holds.
 */
function extend(before: Held<Lease>, asked: Lease, now: Now): Held<Lease> {
  const isLonger = (asked.until ?? Infinity) > (before.entry.until ?? Infinity)
  const ends = Math.max(before.ends, endOf(asked.until, now))
  return { entry: isLonger ? { ...asked, id: before.entry.id } : before.entry, ends }
}

function endOf(until: number | null, now: Now): number {
  return until === null ? Infinity : now.steady + until * 1000 - now.wall
}

/** Whether a lease lets an address in. */
function opensFor(lease: Lease, address: string): boolean {
  return lease.address === address || (lease.address.includes('/') && inCidr(parseCidr(lease.address) as Cidr, address))
}

/** Leases of one key for one door are one lease. A lease that admits one connection is another than one that admits all. */
function slot({ fingerprint, address, protocol, port, once }: Lease): string {
  return `${fingerprint} ${address} ${port}/${protocol} ${once}`
}
