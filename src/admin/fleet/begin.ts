import { randomBytes } from 'node:crypto'
import { raisedBase, raising } from '../../daemon/fleet/repair'
import { BASE, formatBase, parseBase } from '../../daemon/fleet/rows'
import { Fault } from '../../system/fault'
import { checkClock } from '../../system/time'
import { checkUnjoined, type Joined, join } from './join'
import type { Place } from './place'

/* How a fleet begins. */

/** Bytes of a fleet's name. */
const NAME_BYTES = 8

/**
 * Makes the fleet of a prefix, with its base now, and has this gateway join it.
 * @throws {Fault} where there is a fleet, the clock can't be true, or {@link join} refuses
 */
export async function init(place: Place): Promise<Joined> {
  const { etcd, config, fleet } = place
  await checkUnjoined(place)
  const now = place.now()
  checkClock(now, 'set the clock first: the fleet begins at this time')
  const { server, skew } = config
  const known = { fleet: randomBytes(NAME_BYTES).toString('hex'), epoch: 0 }
  const base = raisedBase({ known, epochs: [], server, skew, wall: now })
  const { held, done } = await etcd.transact({ ...raising(null, base), else: [{ get: BASE }] })
  const [found] = done[0]?.rows ?? []
  // Asked again at another member, the second time finds what the first has put.
  if (!held && found?.value !== formatBase(base)) {
    const whose = found ? parseBase(found.value)?.server : undefined
    throw new Fault(`there is a fleet already below "${fleet.prefix}"${whose === undefined ? '' : `, of server "${whose}"`}`, {
      hint: 'run "knockturn fleet join" to join it, or set another prefix in [ledger]',
    })
  }
  return join(place)
}
