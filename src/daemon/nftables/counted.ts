import { isLease, type Lease } from '../../gate/firewall'
import type { Counted } from '../backends/backend'
import { networkOf, versionOf } from './elements'
import { readElements, readTable } from './listing'
import { setOf } from './places'
import { doorOf } from './standing'

/**
 * The leases in force, with the packets that have begun a connection through each. Leases of several keys for one door share a count, and those
 * for one connection have none.
 * @throws {Fault} where the table can't be read
 */
export async function countedLeases(): Promise<Counted[]> {
  const { entries, packets } = await readElements(await readTable())
  return entries.filter(isLease).map((lease) => ({ lease, packets: lease.once ? null : (packets.get(elementOf(lease)) ?? null) }))
}

const elementOf = (lease: Lease): string =>
  `${setOf({ version: versionOf(lease.address), bits: networkOf(lease.address).bits, round: null })} ${doorOf(lease)}`
