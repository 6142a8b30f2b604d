// Every attack on the real daemon with its real firewall: one case of each kind, while the attacks in one process try many.

import { anyDoor, type DoorAttack } from './any-door'
import type { Attack } from './attack'
import { knockturn } from './doors'
import { bypass } from './hosts-bypass'
import { cafe } from './hosts-cafe'
import { closing } from './hosts-closing'
import { crashes } from './hosts-crash'
import { edges } from './hosts-edge'
import { fleet } from './hosts-fleet'
import { forgeries, policy, revoked } from './hosts-forgery'
import { injection } from './hosts-injection'
import { local } from './hosts-local'
import { neighbours } from './hosts-neighbours'
import { network } from './hosts-network'
import { cancel, delays } from './hosts-path'
import { datagram, otherProtocol, passcode } from './hosts-replay'
import { rubbishes } from './hosts-rubbish'
import { around } from './hosts-user'

/** An attack that works on any door, on ours. */
const atOurs = ({ kind, name, what, alarms, isOfRules = false, run }: DoorAttack): Attack => ({
  kind,
  name,
  what,
  isOfRules,
  run: async (scale) => {
    const { broken = [], ...outcome } = await run(knockturn, scale)
    const { replayed = 0 } = outcome.said ?? {}
    const isSo = alarms === undefined || replayed === (alarms ? outcome.tried : 0)
    return {
      ...outcome,
      broken: isSo
        ? broken
        : [...broken, `expected "replayed" for each of ${outcome.tried} tries or for none, got it for ${replayed}`],
    }
  },
})

/** Every attack on our real daemon except floods. */
export const hosts: Attack[] = [
  ...anyDoor.map(atOurs),
  otherProtocol,
  ...edges,
  ...crashes,
  ...forgeries,
  revoked,
  ...delays,
  cancel,
  injection,
  ...local,
  ...neighbours,
  ...closing,
  ...bypass,
  ...rubbishes,
  policy,
  datagram,
  passcode,
  ...cafe,
  ...network,
  ...fleet,
  ...around,
]
