import { type Cidr, overlap, parseCidr } from '../protocol/address'
import type { Lease } from './firewall'

/** By what an administrator names leases. Those are meant that fit every field that is given. */
export interface Named {
  /** A lease's id, or what those of one knock have in common in front of their dots. */
  readonly id?: string | undefined
  /** A key's id. */
  readonly key?: string | undefined
  /** An address for which it opens, or a block that has one. */
  readonly address?: string | undefined
}

/**
 * Tells the leases that are named from all others.
 * @returns a predicate; none fits where no field is given, or the address is none
 */
export function fitting({ id, key, address }: Named): (lease: Pick<Lease, 'id' | 'key' | 'address'>) => boolean {
  const block = address === undefined ? null : parseCidr(address)
  if ((address !== undefined && !block) || (id ?? key ?? address) === undefined) return () => false
  return (lease) =>
    (id === undefined || lease.id === id || lease.id.startsWith(`${id}.`)) &&
    (key === undefined || lease.key === key) &&
    (block === null || lease.address === address || overlap(parseCidr(lease.address) as Cidr, block))
}
