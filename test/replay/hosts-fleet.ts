// Several gateways that share a ledger: what one has heard, another one does not accept. By real packets, real firewalls and a real etcd.

import { setTimeout as sleep } from 'node:timers/promises'
import { DOOR, type Fleet, type FleetOptions, makeFleet } from '../lab/fleet'
import { until } from '../lab/waiters'
import { seededRandom } from '../random'
import type { Attack, Outcome, Scale } from './attack'
import { said } from './doors'
import { secondAcceptances } from './fleet-count'
import { Faults } from './fleet-faults'
import { type Played, Players } from './fleet-play'

/** Knocks that `npm test` has time for; `npm run test:full` says how many it has. */
const KNOCKS = Number(process.env.KNOCKTURN_FLEET_KNOCKS) || 60
/** As many as `npm run test:full` has, or more. */
const FULL = 300
/** Of `npm run attack -- --long`. */
const MANY = 10_000
/** So many that no key has used up its share of the firewall (256 at once) when all have knocked. */
const KEYS = 40
/** Knocks a second while nothing is wrong; and while much is, so that more happens the more knocks there are. */
const CALM = 40
const [ROUGH, ROUGH_LONG] = [5, 20]
/** What must be accepted where nothing is wrong. */
const ALMOST_ALL = 0.99
/** What must be accepted at least where much is: otherwise a fleet that is closed has proved nothing. */
const SOME = 0.05
/** Users who knock at the end. */
const LAST = 10
/** Milliseconds until a fleet opens again: windows that a raised base waits for, and the time that a gateway takes to see that it is well. */
const RECOVERY = 120_000
/** What chance begins with: what befalls a fleet can be tried again, as far as processes and networks go. */
const SEED = Number(process.env.KNOCKTURN_FLEET_SEED) || 20

/** Runs an attack on a fleet that is made for it. */
async function onFleet(
  options: FleetOptions,
  act: (fleet: Fleet, players: Players, random: () => number) => Promise<{ broken: string[]; note: string }>,
): Promise<Outcome> {
  const fleet = await makeFleet({ keys: KEYS, ...options })
  try {
    const random = seededRandom(SEED)
    const players = await Players.begin(fleet, KEYS, random)
    // What may have been sent before the fleet was there is dead.
    await players.untilOpen(RECOVERY)
    const { broken, note } = await act(fleet, players, random)
    const honest = await lastOf(players)
    const granted = players.granted()
    const { count, told } = secondAcceptances(granted)
    const known = new Set(players.played.map(({ name }) => name))
    const strange = [...granted.keys()].filter((name) => !known.has(name))
    if (strange.length > 0) broken.push(`accepted, and never sent: ${strange[0]}`)
    const heard = said(fleet.gateways.flatMap(({ lines }) => lines))
    return { tried: players.again, opened: count, honest, said: heard, broken: [...told.slice(0, 5), ...broken], note }
  } finally {
    await fleet.end()
  }
}

/** Users knock when all is well again. */
async function lastOf(players: Players) {
  await players.untilOpen(RECOVERY)
  const last = []
  for (let n = 0; n < LAST; n++) last.push(await players.knock())
  await players.settled()
  const granted = players.granted()
  return { tried: last.length, opened: last.filter(({ name }) => granted.has(name)).length }
}

/** Plays knocks, so many a second, some of them again. */
async function playAll(players: Players, count: number, rate: number, knock: () => Promise<Played>): Promise<Played[]> {
  const began = performance.now()
  const knocks: Played[] = []
  for (let n = 0; n < count; n++) {
    knocks.push(await knock())
    if (n % 10 === 9) await players.replay(players.ofAge(500, 5_000, 5))
    await sleep(Math.max(0, began + ((n + 1) * 1_000) / rate - performance.now()))
  }
  return knocks
}

/** How many knocks were accepted. */
function acceptedOf(players: Players, knocks: readonly Played[]) {
  const granted = players.granted()
  return { tried: knocks.length, accepted: knocks.filter(({ name }) => granted.has(name)).length }
}

async function calm({ times }: Scale): Promise<Outcome> {
  return onFleet({}, async (_, players) => {
    const knocks = await playAll(players, times(KNOCKS, MANY), CALM, () => players.knock())
    await players.settled()
    const { tried, accepted } = acceptedOf(players, knocks)
    const broken = accepted >= ALMOST_ALL * tried ? [] : [`only ${accepted} of ${tried} knocks were accepted`]
    return { broken, note: `${accepted} of ${tried} knocks were accepted, each played at three gateways at the same moment` }
  })
}

async function onPorts({ times }: Scale): Promise<Outcome> {
  return onFleet({}, async (fleet, players) => {
    const broken: string[] = []
    for (let n = 0; n < times(5, 50); n++) {
      const { name, source } = await players.knockOnPorts()
      await until(() => players.granted().has(name), 'a knock on ports is accepted').catch(() =>
        broken.push('a knock was not accepted'),
      )
      const doors = fleet.gateways.map(({ host }) => fleet.listener.connect(host.ipv4, DOOR, 300, source))
      if (!(await Promise.all(doors)).some(({ saw }) => saw === 'open')) broken.push('no door was open')
    }
    return { broken, note: '' }
  })
}

async function rough({ times }: Scale): Promise<Outcome> {
  // Who waits no longer knows less: what became of a claim is not known more often.
  return onFleet({ etcd: { disk: '200M' }, timeout: '1s' }, async (fleet, players, random) => {
    // With clocks that can be set.
    for (const gateway of fleet.gateways) await gateway.restart()
    const faults = new Faults(fleet, players, random)
    const ending = new AbortController()
    const going = faults.go(ending.signal)
    // Some are heard at one gateway first: what the others have not noted themselves, only etcd can tell them.
    const knock = () => players.knock(1 + Math.floor(random() * fleet.gateways.length))
    const knocks = await playAll(players, times(2 * KNOCKS, MANY), times(ROUGH, ROUGH_LONG), knock)
    ending.abort()
    await going
    const { tried, accepted } = acceptedOf(players, knocks)
    const happened = Object.entries(faults.happened).map(([what, count]) => `${what} ${count}`)
    const broken = [...new Set(faults.failed)]
    if (accepted < SOME * tried) broken.push(`only ${accepted} of ${tried} knocks were accepted: that proves nothing`)
    if (times(0, 1) === 1 && happened.length < faults.kinds) broken.push(`only these faults happened: ${happened.join(', ')}`)
    return { broken, note: `${accepted} of ${tried} knocks were accepted; ${happened.join(', ')}` }
  })
}

/** How etcd is restored: what is hardest to tell first. */
const RESTORED: readonly { readonly isNew?: true; readonly isAway?: true; readonly token?: string }[] = [
  { isAway: true },
  { isNew: true, isAway: true },
  { token: 'another' },
  {},
]

async function restored({ times }: Scale): Promise<Outcome> {
  return onFleet({}, async (fleet, players, random) => {
    const { etcd } = fleet
    if (!etcd) throw new Error('a fleet that shares nothing')
    const faults = new Faults(fleet, players, random)
    const broken: string[] = []
    let after = 0
    for (const way of KNOCKS < FULL ? RESTORED.slice(0, times(1, RESTORED.length)) : RESTORED) {
      await players.untilOpen(RECOVERY)
      const snapshot = way.isNew ? null : await etcd.save()
      const knocks = await playAll(players, times(KNOCKS, MANY / 10), CALM, () => players.knock(1))
      await faults.restore(snapshot, way)
      after += acceptedOf(players, knocks).accepted
    }
    if (after === 0) broken.push('nothing was accepted that etcd could have forgotten')
    return { broken, note: `${after} accepted knocks were forgotten by etcd` }
  })
}

export const fleet: Attack[] = [
  {
    kind: 'fleet',
    name: 'a knock at three gateways at the same moment',
    what: 'A listener who is as quick as the user plays each knock at all three gateways of a fleet at the same moment, and again later.',
    run: calm,
  },
  {
    kind: 'fleet',
    name: 'packets of a knock, at three gateways',
    what: 'A listener plays the packets of a knock on ports at all three gateways of a fleet at the same moment.',
    run: onPorts,
  },
  {
    kind: 'fleet',
    name: 'a knock at three gateways while members and gateways fail',
    what: 'A listener plays knocks at all gateways while members of etcd and gateways are killed, cut off and stopped, disks fill and clocks are set off.',
    run: rough,
  },
  {
    kind: 'fleet',
    name: 'a knock that a restored etcd has forgotten',
    what: 'etcd is restored from a snapshot, or begins anew, and a listener plays what was accepted since then at the gateways that have not heard it.',
    run: restored,
  },
]
