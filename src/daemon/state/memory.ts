import type { Memory } from '../../gate/chronicle'
import { leaseName } from '../../gate/firewall'
import { readAll } from './state'

/**
 * Reads what an earlier daemon has left of its chronicle.
 * @param ledger the ledger's path
 * @returns null where there is nothing
 * @throws {Fault} where it can't be read
 */
export async function readMemory(ledger: string): Promise<Memory | null> {
  const found = await readAll(ledger)
  if (!found) return null
  const { state, hours } = found
  const { lastTap, lastKnock, keys, leases, day } = state
  return {
    lastTap: lastTap === null ? null : Date.parse(lastTap),
    lastKnock: lastKnock && { ...lastKnock, at: Date.parse(lastKnock.at) },
    uses: new Map(
      keys.flatMap(({ fingerprint, lastUse }) =>
        lastUse ? [[fingerprint, { ...lastUse, at: Date.parse(lastUse.at) }] as const] : [],
      ),
    ),
    opened: new Map(leases.flatMap((lease) => (lease.opened ? [[leaseName(lease), Date.parse(lease.opened)] as const] : []))),
    since: Date.parse(day.since),
    hours: hours.map(({ at, busiest, ...hour }) => ({
      ...hour,
      at: Date.parse(at),
      busiest: busiest && { ...busiest, at: Date.parse(busiest.at) },
    })),
  }
}
