import { type Entry, isLease } from '../../gate/firewall'
import type { Counted } from '../backends/backend'
import { readRule } from './rules'
import type { FilterTable } from './table'

/** The leases of tables that were read, each with the packets that its rule has let pass. */
export function countedIn(tables: readonly FilterTable[]): Counted[] {
  return tables.flatMap(({ leases, counters }) =>
    leases.flatMap((line, i) => {
      const lease = readRule(line)
      return lease && isLease(lease) ? { lease, packets: Number(/^\[(\d+):/.exec(counters[i] ?? '')?.[1] ?? 0) } : []
    }),
  )
}

/** The leases and locks of tables that were read. */
export function standingIn(tables: readonly FilterTable[]): Entry[] {
  return tables.flatMap(({ leases }) => leases.flatMap((line) => readRule(line) ?? []))
}
