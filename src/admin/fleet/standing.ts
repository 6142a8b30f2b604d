import { healthFault } from '../../daemon/fleet/health'
import type { StateFleet } from '../../daemon/state/fleet'
import { Fault } from '../../system/fault'

/* How the daemon of a gateway stands in its fleet, by its own word: etcd is not asked. */

/** What is wrong with a daemon's fleet. */
export function wrongWithFleet({ link, clocks, ...health }: StateFleet): Fault[] {
  const faults: Fault[] = []
  if (link !== null) faults.push(new Fault(`nothing new opens: ${link}`, { hint: LOOK }))
  if (clocks !== null) faults.push(new Fault(`a clock of the fleet is wrong: ${clocks}`, { hint: CLOCKS }))
  const fault = healthFault(health)
  if (fault !== null) faults.push(new Fault(fault, { hint: ROOM }))
  return faults
}

const LOOK = 'run "knockturn fleet status"'
const CLOCKS = 'run "timedatectl" on each gateway, and set the clock that is wrong'
/** What to do about an etcd that is full. */
export const ROOM = 'make room in etcd: see docs/fleet.md, "Look after it"'
