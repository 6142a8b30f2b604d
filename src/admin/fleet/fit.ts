import type { FleetMemory } from '../../daemon/fleet/memory'
import type { Base } from '../../daemon/fleet/rows'
import { Fault } from '../../system/fault'
import type { Gateway } from './gateways'

/* Whether a gateway and its fleet fit together. Each gives what is wrong, or null. */

/** What is wrong where no base is known. @param found whether there is one @param isKnown whether this gateway has joined a fleet here */
export const noBase = (found: object | null, prefix: string, isKnown: boolean): Fault =>
  found
    ? new Fault(`the base of the fleet below "${prefix}" cannot be read`, { hint: UPDATE })
    : new Fault(`there is no fleet below "${prefix}"`, { hint: isKnown ? FORGOTTEN : BEGIN })

/** This gateway has joined, and this fleet. */
export function membershipFault(memory: Pick<FleetMemory, 'fleet'> | null, base: Pick<Base, 'fleet'> | null): Fault | null {
  if (!memory) return new Fault('this gateway has not joined the fleet: its daemon does not start', { hint: JOIN })
  if (!base || memory.fleet === base.fleet) return null
  return new Fault(`this gateway has joined fleet ${memory.fleet}, and etcd has ${base.fleet}`, { hint: REJOIN })
}

/** Both have the same label. @param server this gateway's */
export const labelFault = (base: Pick<Base, 'server'>, server: string): Fault | null =>
  base.server === server
    ? null
    : new Fault(`the fleet is of server "${base.server}", and this gateway of "${server}"`, { hint: LABEL })

/** All gateways have the same skew. @param skew this one's */
export function skewFault(gateways: readonly Pick<Gateway, 'name' | 'said'>[], skew: number): Fault | null {
  const other = gateways.find(({ said }) => said !== null && said.skew !== skew)
  if (!other) return null
  return new Fault(`gateway "${other.name}" has skew = ${other.said?.skew}, and this one ${skew}`, { hint: SKEW })
}

/** What to do where another version has written what can't be read. */
export const UPDATE = 'use the latest version of Knockturn among the gateways'

const BEGIN = 'run "knockturn fleet init", on one gateway'
const FORGOTTEN = 'look at prefix in [ledger]; if it is right, etcd was made anew: run "knockturn fleet floor"'
const JOIN = 'run "knockturn fleet join"'
const REJOIN =
  'set the prefix of its own fleet in [ledger]; or stop the daemon, run "knockturn fleet leave" and then "knockturn fleet join"'
const LABEL = 'a fleet has one label: set the same server = "…" in each config, or another prefix in [ledger]'
const SKEW = 'set the same skew in each config, and restart the daemons'
