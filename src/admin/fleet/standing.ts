import type { StateFleet } from '../../daemon/state/fleet'
import { Fault } from '../../system/fault'

/* How the daemon of a gateway stands in its fleet, by its own word: etcd is not asked. */

/** Of a quota, from where on it is time to do something. */
const HALF = 0.5

/** Whether etcd has used more of its quota than is well. */
export const isNearlyFull = (size: number, quota: number): boolean => size > quota * HALF

/** What is wrong with a daemon's fleet. */
export function wrongWithFleet({ link, clocks, size, quota, alarms }: StateFleet): Fault[] {
  const faults: Fault[] = []
  if (link !== null) faults.push(new Fault(`nothing new opens: ${link}`, { hint: LOOK }))
  if (clocks !== null) faults.push(new Fault(`a clock of the fleet is wrong: ${clocks}`, { hint: CLOCKS }))
  if (alarms.length > 0) faults.push(new Fault(`etcd has raised an alarm: ${alarms.join(', ')}`, { hint: ROOM }))
  if (size !== null && quota !== null && isNearlyFull(size, quota))
    faults.push(new Fault(`etcd has used ${percent(size / quota)} of its quota of ${mebibytes(quota)}`, { hint: ROOM }))
  return faults
}

export const percent = (share: number): string => `${Math.round(100 * share)} %`
export const mebibytes = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(0)} MiB`

const LOOK = 'run "knockturn fleet status"'
const CLOCKS = 'run "timedatectl" on each gateway, and set the clock that is wrong'
/** What to do about an etcd that is full. */
export const ROOM = 'make room in etcd: see docs/fleet.md, "Look after it"'
