import { isLease } from '../../gate/firewall'
import type { Counted } from '../backends/backend'
import { type OurTable, readElements, readTable } from './listing'
import { type Place, setOf } from './places'
import { doorOf, placeFor } from './standing'

/**
 * The leases in force, with the packets that have begun a connection through each. Leases of several keys for one door share a count, and those
 * for one connection share one with all of the same prefix length.
 * @throws {Fault} where the table can't be read
 */
export async function countedLeases(): Promise<Counted[]> {
  const table = await readTable()
  const { entries, packets } = await readElements(table)
  return entries.filter(isLease).map((lease) => {
    const place = placeFor(lease, null)
    const count = lease.once ? passed(table, place) : packets.get(`${setOf(place)} ${doorOf(lease)}`)
    return { lease, packets: count ?? null }
  })
}

/** What all maps for one connection have let pass. Where no rule counts, it is not known. */
function passed({ places, counted }: OurTable, { version, bits }: Place): number | undefined {
  const its = places.filter((place) => place.version === version && place.bits === bits && place.round !== null)
  const counts = its.flatMap((place) => counted.get(setOf(place)) ?? [])
  return counts.length > 0 ? counts.reduce((sum, count) => sum + count) : undefined
}
