import { joined, memoryPath, readMemory, writeMemory } from '../../daemon/fleet/memory'
import type { Base } from '../../daemon/fleet/rows'
import { Fault } from '../../system/fault'
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
  const { fleet, config, file } = place
  await checkUnjoined(place)
  const { base: found, gateways, header } = await lookAtFleet(place, fleet.gateway)
  const base = readBase(found, fleet.prefix)
  if (base.server !== config.server)
    throw new Fault(`the fleet is of server "${base.server}", and ${file} of "${config.server}"`, {
      hint: 'a fleet has one label: set the same server = "…" in each config, or another prefix in [ledger]',
    })
  const others = gateways.filter(({ name }) => name !== fleet.gateway)
  const different = others.find(({ said }) => said !== null && said.skew !== config.skew)
  if (different)
    throw new Fault(`gateway "${different.name}" has skew = ${different.said?.skew}, and ${file} ${config.skew}`, {
      hint: 'set the same skew in each config',
    })
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

/** The base of a fleet that there has to be. @throws {Fault} where there is none, or it can't be read */
export function readBase(found: { readonly base: Base | null } | null, prefix: string): Base {
  if (!found) throw new Fault(`there is no fleet below "${prefix}"`, { hint: 'run "knockturn fleet init", on one gateway' })
  if (found.base) return found.base
  throw new Fault(`the base of the fleet below "${prefix}" cannot be read`, {
    hint: 'use the latest version of Knockturn among the gateways, or set another prefix in [ledger]',
  })
}

/** @param name of a gateway that speaks */
export const isTaken = (name: string): Fault =>
  new Fault(`a gateway that runs now is called "${name}"`, {
    hint: 'stop its daemon first; if it is another machine, set another name as "gateway" in [ledger]',
  })
