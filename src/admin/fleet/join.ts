import { joined, memoryPath, readMemory, writeMemory } from '../../daemon/fleet/memory'
import { Fault } from '../../system/fault'
import { labelFault, noBase, skewFault } from './fit'
import { lookAtFleet } from './gateways'
import type { Place } from './place'

/** A gateway that has joined. */
export interface Joined {
  readonly fleet: string
  readonly gateway: string
  /** The file that says so. */
  readonly path: string
  /** The gateways that are there besides. */
  readonly others: readonly string[]
}

/**
 * Has this gateway join the fleet of its prefix: it remembers its name, and how far etcd is.
 * @throws {Fault} where there is no fleet, it is another server's, its gateways have another skew, another one uses the name, or this one has joined
 */
export async function join(place: Place): Promise<Joined> {
  const { fleet, config } = place
  await checkUnjoined(place)
  const { base: found, gateways, header } = await lookAtFleet(place, fleet.gateway)
  const base = found?.base
  if (!base) throw noBase(found, fleet.prefix, false)
  const others = gateways.filter(({ name }) => name !== fleet.gateway)
  const fault = labelFault(base, config.server) ?? skewFault(others, config.skew)
  if (fault) throw fault
  const own = gateways.find(({ name }) => name === fleet.gateway)
  if (own?.speaks) throw isTaken(fleet.gateway)
  await writeMemory(config.ledger.path, joined(base, header, fleet.gateway))
  const path = memoryPath(config.ledger.path)
  return { fleet: base.fleet, gateway: fleet.gateway, path, others: others.map(({ name }) => name) }
}

/** @throws {Fault} where this gateway has joined a fleet */
export async function checkUnjoined({ config }: Pick<Place, 'config'>): Promise<void> {
  const memory = await readMemory(config.ledger.path)
  if (!memory) return
  throw new Fault(
    `${memoryPath(config.ledger.path)}: this gateway has joined fleet ${memory.fleet} already, as "${memory.gateway}"`,
    {
      hint: 'restart the daemon, if it does not know yet; to join anew, run "knockturn fleet leave" first',
    },
  )
}

/** @param name of a gateway that speaks */
export const isTaken = (name: string): Fault =>
  new Fault(`a gateway that runs now is called "${name}"`, {
    hint: 'stop its daemon first; if it is another machine, set another name as "gateway" in [ledger]',
  })
