import { judgeClocks, latestOf, type OtherClock } from '../../daemon/fleet/clocks'
import { behind } from '../../daemon/fleet/etcd/etcd'
import { readMemory } from '../../daemon/fleet/memory'
import { raisedBase, raising } from '../../daemon/fleet/repair'
import { BASE, type Base, baseFloor, formatBase, parseWindow } from '../../daemon/fleet/rows'
import { loadServerKeys } from '../../daemon/server-keys'
import { Fault } from '../../system/fault'
import { checkClock } from '../../system/time'
import { labelFault, membershipFault, noBase, skewFault } from './fit'
import { lookAtFleet } from './gateways'
import type { Place } from './place'

/* The base of a fleet, set to now: repairs what a wrong clock did, and what an etcd that was set back has forgotten. */

/** Seconds of a window, where no key says otherwise. */
const PERIOD = 30

/** What has come of it. */
export interface Floored {
  /** The base before, in Unix seconds; null where there was none. */
  readonly was: number | null
  readonly is: number
  /** Gateways whose clocks were compared with this one. */
  readonly agreeing: readonly string[]
  /** Floors of keys that are ahead, and stay: fingerprint and Unix milliseconds. */
  readonly ahead: readonly { readonly fingerprint: string; readonly until: number }[]
}

/**
 * Sets the base of the fleet to now, whatever it was: spent knocks and the floors of keys stay. By the latest of the clocks that agree, so that one
 * that is slow revives nothing.
 * @throws {Fault} where there is no fleet, this gateway has not joined it or does not fit to those that speak, the clock can't be true or differs from
 * theirs, or somebody changes the base meanwhile
 */
export async function floor(place: Place): Promise<Floored> {
  const { etcd, config, fleet } = place
  checkClock(place.now(), 'set the clock first: the fleet begins anew at this time')
  const window = 1_000 * (await shortestPeriod(place))
  const { base: found, gateways } = await lookAtFleet(place)
  const memory = await readMemory(config.ledger.path)
  // An etcd that was made anew has none: what this gateway remembers goes on.
  const old = found?.base ?? null
  if (found ? !old : !memory) throw noBase(found, fleet.prefix, memory !== null)
  const speaking = gateways.filter(({ speaks }) => speaks)
  // Where all are stopped, label and skew may be other ones from now on.
  const unfit = speaking.length > 0 ? ((old && labelFault(old, config.server)) ?? skewFault(speaking, config.skew)) : null
  const fault = membershipFault(memory, old) ?? unfit
  if (!memory || fault) throw fault
  const others = speaking.flatMap(({ name, offset, said }) =>
    offset === null || name === memory.gateway ? [] : { name, offset, synchronised: said?.synchronised ?? null },
  )
  const latest = place.now() + latestThatAgrees(others, window)
  const base = raisedBase({
    known: memory,
    // Nobody goes by a base that is no later than the one that they know.
    epochs: [old?.epoch ?? 0, memory.epoch, ...gateways.map(({ said }) => said?.epoch ?? 0)],
    ...{ server: config.server, skew: config.skew, wall: latest },
  })
  const { held, done } = await etcd.transact({ ...raising(found?.value ?? null, base), else: [{ get: BASE }] })
  if (!held && done[0]?.rows[0]?.value !== formatBase(base))
    throw new Fault('the base was changed by another gateway at the same moment', {
      hint: 'look with "knockturn fleet status" whether this is needed still',
    })
  return {
    was: old?.seconds ?? null,
    is: base.seconds,
    agreeing: others.map(({ name }) => name),
    ahead: await floorsAbove(place, base),
  }
}

/**
 * By how many milliseconds the latest clock that agrees is ahead of this one; 0: none is.
 * @param others gateways that speak
 * @param window milliseconds
 * @throws {Fault} where this clock is off the median of all by a window; of two that differ so, nobody knows which is wrong
 */
export function latestThatAgrees(others: readonly OtherClock[], window: number): number {
  const [other] = others
  const seconds = (Math.abs(other?.offset ?? 0) / 1_000).toFixed(1)
  const isOther = others.length === 1 && Math.abs(other.offset) >= window
  const wrong = isOther ? `it differs by ${seconds} s from that of ${other.name}` : judgeClocks(null, others, window).stops
  if (wrong !== null)
    throw new Fault(`the fleet cannot begin by this machine's clock: ${wrong}`, {
      hint: 'set the clock that is wrong first: "timedatectl" on each gateway',
    })
  return latestOf(others, window)
}

/** Seconds of the shortest window of a key. @throws {Fault} where the keys can't be read */
async function shortestPeriod({ config }: Place): Promise<number> {
  const { keys } = await loadServerKeys(config.keys, config.server)
  return Math.min(PERIOD, ...keys.map(({ key }) => key.period))
}

const FLOORS = 'ledger/floor/'

/** Floors of keys that a base does not account for: a clock was ahead when they knocked. */
async function floorsAbove({ etcd }: Place, base: Base): Promise<Floored['ahead']> {
  const { rows } = await etcd.list(FLOORS, behind(FLOORS))
  return rows.flatMap(({ row, value }) => {
    const [, , fingerprint = '', seconds = ''] = row.split('/')
    const window = parseWindow(value)
    const period = Number(seconds)
    if (window === null || !(period > 0) || window <= baseFloor(base, period)) return []
    return { fingerprint, until: window * period * 1_000 }
  })
}
