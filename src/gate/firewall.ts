import { formatCidr, inCidr, parseCidr } from '../protocol/address'
import { KEY_ID } from '../protocol/key'
import { MAX_PORT } from '../protocol/ports'
import type { Now } from './clock'

/* What stands in a firewall, and what the daemon needs of one: state, and never a command. */

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
  /** One new connection, for all leases of one knock together. */
  readonly once: boolean
  /** Unix seconds, or null: until closed */
  readonly until: number | null
}

/** An address whose taps are ignored. It has no effect in the firewall, and stands there to be read back after a restart. */
export interface Lock {
  readonly id: string
  readonly key: string
  readonly fingerprint: string
  readonly address: string
  /** Unix seconds */
  readonly until: number
}

export type Entry = Lease | Lock

/** Tell a lease from a lock. */
export const isLease = (entry: Entry): entry is Lease => 'port' in entry
export const isLock = (entry: Entry): entry is Lock => !isLease(entry)

/** Whether a lease lets an address in. */
export function opensFor(lease: Pick<Lease, 'address'>, address: string): boolean {
  if (lease.address === address) return true
  const block = parseCidr(lease.address)
  return block !== null && inCidr(block, address)
}

/** What is to be added and taken away in one step: all of it, or nothing. */
export interface Batch {
  readonly add: readonly Entry[]
  /** Entries that stand there. `replaced`: one that is added takes their place; `stray`: they are none of ours any more. */
  readonly remove: readonly { readonly entry: Entry; readonly why: string }[]
}

/** What was read back. */
export interface Standing {
  /** Everything of ours, in its order; what stands there twice is there twice. */
  readonly entries: readonly Entry[]
  /** How long the kernel still keeps an entry, in milliseconds; absent where it does not say. */
  readonly left?: ReadonlyMap<Entry, number>
  /** Whether all that makes entries work is in force, too: chains, and the way to them. */
  readonly isWhole: boolean
  /** Whether what is in force is whole, and of an earlier config or other keys; absent where it never is. */
  readonly isOutdated?: boolean
}

/**
 * A part of a firewall that is changed in one step: one family of iptables, or all of it. A change is composed in the same tick in which
 * it is asked for, and counts as made when its promise resolves.
 */
export interface Table {
  readonly name: string
  /** Whether an entry of this address belongs here. */
  holds(address: string): boolean
  /** False where it can't tell one connection from many: then nobody gets a lease for one. */
  readonly countsConnections?: false
  /** By which clock the kernel ends entries. */
  readonly clock: keyof Now
  /** Whether an entry stops working by itself when its time comes: then it only has to be swept up. */
  endsByItself(entry: Entry): boolean
  /** Reads back what stands. @throws where that can't be known: what is not readable is never empty */
  read(): Promise<Standing>
  /**
   * More entries than so many are not taken away one by one: the table is written anew. iptables compares each with all that stand in front of
   * it, up to 25 ms: 16 of them cost twice the whole of 4,096, and the 256 of one key 6 s, in which nobody's door opens or shuts.
   */
  readonly maxRemoved: number
  /**
   * Puts back at once what makes entries work, whatever entries there are; absent where {@link Table.rewrite} is as fast.
   * @returns whether anything was missing
   * @throws as {@link Table.rewrite}
   */
  hold?(): Promise<boolean>
  /** Makes a change. @throws {Refused} where nothing was changed; any other error where nobody knows */
  change(batch: Batch): Promise<void>
  /**
   * Writes all that is ours anew, with just these entries. Those that stood there by the last {@link Table.read} stay as they are: their
   * counters, and whether the one connection of a `once` lease has been used.
   * @throws as {@link Table.change}
   */
  rewrite(entries: readonly Entry[]): Promise<void>
}

/** A firewall: its tables, each of which is looked after by itself. */
export type Firewall = readonly Table[]

/** A change that the firewall has looked at and has not made: nothing is changed. */
export class Refused extends Error {}

/** What a lease is called however often it is made longer. */
export const leaseName = ({ fingerprint, id }: Pick<Lease, 'fingerprint' | 'id'>): string => `${fingerprint} ${id}`

/** What tells an entry from every other: a lease that is made longer keeps its id, and has another end. */
export function nameOf(entry: Entry): string {
  return `${isLease(entry) ? 'lease' : 'lock'} ${entry.fingerprint} ${entry.id} ${entry.until}`
}

/** An entry as a firewall says it. */
export interface Said {
  readonly kind: string | undefined
  readonly id: string
  readonly key: string
  readonly fingerprint: string
  /** An address or a block, in any form. */
  readonly address: string
  /** Of a lease alone. */
  readonly protocol: unknown
  readonly port: unknown
  readonly once: boolean
  /** Unix seconds, or null: until closed */
  readonly until: number | null
}

/** Reads back what a firewall says. @returns null where it is no entry of our making */
export function readEntry({ kind, id, key, fingerprint, address, protocol, port, once, until }: Said): Entry | null {
  const block = parseCidr(address)
  if (!LEASE_ID.test(id) || !KEY_ID.test(key) || !FINGERPRINT.test(fingerprint) || !block) return null
  if (until !== null && !Number.isSafeInteger(until)) return null
  const whose = { id, key, fingerprint, address: formatCidr(block) }
  // Who is locked out is one address.
  if (kind === 'lock') return whose.address.includes('/') || until === null ? null : { ...whose, until }
  if (kind !== 'lease' || (protocol !== 'tcp' && protocol !== 'udp')) return null
  if (typeof port !== 'number' || !Number.isInteger(port) || port < 1 || port > MAX_PORT) return null
  return { ...whose, protocol, port, once, until }
}

/** A lease's or a lock's id; without its dot, all leases of one knock. */
export const LEASE_ID = /^[0-9a-f]{8}(\.\d{1,2})?$/
const FINGERPRINT = /^[0-9a-f]{32}$/
