import type { Refusal } from '../../src/gate/policy'
import type { GrantRules } from '../../src/gate/server-key'
import type { Request } from '../../src/protocol/request'
import type { Attack, Outcome, Scale } from './attack'
import { Tally } from './tally'
import { ATTACKER, serverKey, USER, World } from './world'

/* The delayed knock: stopped on its way, and delivered by the attacker when and from where they like. */

interface Delayed {
  readonly request?: Partial<Request>
  readonly grant?: Partial<GrantRules>
  /** Seconds for which the knock is held back. */
  readonly after: number
  readonly says: Refusal
  /** Whether the user's own packets, which arrive at last, still open. */
  readonly arrives?: boolean
}

/** The user names their own address, as a grant may require. */
const NAMED = { address: USER }
const required = { requireAddress: true }

async function deliver(world: World, ports: number[], source = ATTACKER): Promise<void> {
  await world.taps(ports, { source })
  await world.pass(1_000)
}

/** The attacker stops a knock and delivers it from their own address; then the user knocks again. */
const stopped =
  ({ request = {}, grant = {}, after, says, arrives = false }: Delayed) =>
  async ({ times }: Scale): Promise<Outcome> => {
    const tally = new Tally()
    for (let seed = 1; seed <= times(30, 300); seed++) {
      const world = await World.begin({ seed, keys: [serverKey(1, grant)] })
      const ports = world.compose(request)
      await world.pass(1_000 * after)
      await tally.attack(
        world,
        async () => {
          await deliver(world, ports)
          // A knock of a passed window is judged when its session has ended.
          await world.pass(12_000)
        },
        says,
      )
      if (arrives) await tally.knock(world, () => world.taps(ports))
      await tally.knock(world, () => world.knock({ request: NAMED }))
      tally.promise(
        world.openings.every(({ lease }) => lease.address === USER),
        'a door has been opened for someone other than the user',
      )
    }
    return tally
  }

/**
 * The known limit: a knock that names no address belongs to whoever delivers it first. The note reports how often that opened; what counts
 * is whether it opens a second time, for anyone.
 */
async function whoeverDelivers({ times }: Scale): Promise<Outcome> {
  const tally = new Tally()
  let taken = 0
  for (let seed = 1; seed <= times(30, 300); seed++) {
    const world = await World.begin({ seed })
    const ports = world.compose()
    await world.pass(20_000)
    await deliver(world, ports)
    taken += world.openings.length
    for (const source of [ATTACKER, '198.51.100.67', USER]) await tally.attack(world, () => deliver(world, ports, source))
    await tally.knock(world)
  }
  tally.note = `known limit: a knock without an address opened for whoever delivered it, ${taken} of ${tally.honest.tried}; see require_address`
  return tally
}

/** Delivered from the user's own address, or for a key that may name other addresses, it opens what the user asked for, once. */
const forTheUser =
  (grant: Partial<GrantRules>, source: string) =>
  async ({ times }: Scale): Promise<Outcome> => {
    const tally = new Tally()
    for (let seed = 1; seed <= times(30, 300); seed++) {
      const world = await World.begin({ seed, keys: [serverKey(1, grant)] })
      const ports = world.compose(NAMED)
      await world.pass(20_000)
      await tally.knock(world, () => deliver(world, ports, source))
      for (const again of [source, ATTACKER, USER]) await tally.attack(world, () => deliver(world, ports, again))
      tally.promise(
        world.openings.every(({ lease }) => lease.address === USER),
        'a door has been opened for someone other than the user',
      )
    }
    return tally
  }

/** A listener repeats each of the user's taps from their own address, before it arrives or right after. */
const copied =
  (request: Partial<Request>, isQuicker: boolean) =>
  async ({ times }: Scale): Promise<Outcome> => {
    const tally = new Tally()
    for (let seed = 1; seed <= times(30, 300); seed++) {
      const world = await World.begin({ seed })
      const ports = world.compose(request)
      const sources = isQuicker ? [ATTACKER, USER] : [USER, ATTACKER]
      await tally.knock(world, async () => {
        for (const port of ports) for (const source of sources) world.tap(port, { source })
        await world.pass(200)
      })
      tally.tried++
      const { accepted = 0 } = world.said()
      if (accepted > 1 || world.openings.some(({ lease }) => lease.address !== USER)) tally.opened++
      tally.hear(world)
    }
    return tally
  }

/** All of a listener's copy arrives before the first of the user's own packets. */
async function wholeCopyFirst({ times }: Scale): Promise<Outcome> {
  const tally = new Tally()
  for (let seed = 1; seed <= times(30, 300); seed++) {
    const world = await World.begin({ seed })
    const ports = world.compose(NAMED)
    const copy = () => world.taps(ports, { source: ATTACKER })
    await tally.attack(world, copy, 'address-mismatch')
    await tally.knock(world, () => world.taps(ports))
    await tally.attack(world, copy)
  }
  return tally
}

export const attacks: Attack[] = [
  {
    kind: 'delay',
    name: 'delayed, with the address named',
    what: "An attacker on the path stops a knock that names its address, and delivers it from their own in time; the user's packets come last.",
    run: stopped({ request: NAMED, after: 10, says: 'address-mismatch', arrives: true }),
  },
  {
    kind: 'delay',
    name: 'delayed beyond its windows, with the address named',
    what: 'An attacker on the path stops a knock that names its address and delivers it from their own two minutes later.',
    run: stopped({ request: NAMED, after: 120, says: 'stale' }),
  },
  {
    kind: 'delay',
    name: 'delayed beyond its windows, with the zero address',
    what: 'An attacker on the path stops a knock that names no address and delivers it from their own two minutes later.',
    run: stopped({ after: 120, says: 'stale' }),
  },
  {
    kind: 'delay',
    name: 'delayed, with the zero address',
    what: 'An attacker on the path stops a knock that names no address and delivers it in time: it opens for them; then everyone sends it again.',
    run: whoeverDelivers,
  },
  {
    kind: 'delay',
    name: 'delayed, with the zero address, when an address is required',
    what: 'An attacker on the path stops a knock that names no address, of a key with require_address, and delivers it from their own.',
    run: stopped({ grant: required, after: 10, says: 'not-granted' }),
  },
  {
    kind: 'delay',
    name: 'delayed, with the address named as required',
    what: 'An attacker on the path stops a knock of a key with require_address and delivers it from their own address.',
    run: stopped({ request: NAMED, grant: required, after: 10, says: 'address-mismatch', arrives: true }),
  },
  {
    kind: 'delay',
    name: "delayed, and delivered from the user's address",
    what: 'An attacker on the path delivers a stopped knock from the address that it names: it opens for that address, once.',
    run: forTheUser({}, USER),
  },
  {
    kind: 'delay',
    name: 'delayed, of a key that may name others',
    what: 'An attacker on the path delivers a stopped knock of a key that is not bound to its source: it opens for the named address, once.',
    run: forTheUser({ bindSource: false }, ATTACKER),
  },
  {
    kind: 'delay',
    name: 'a quicker copy, tap by tap',
    what: "A listener who is quicker than the user repeats each tap from their own address before it arrives; the knock names the user's address.",
    run: copied(NAMED, true),
  },
  {
    kind: 'delay',
    name: 'a quicker copy, all at once',
    what: "A listener's copy arrives before the user's first packet; the knock names the user's address, and is not used up.",
    run: wholeCopyFirst,
  },
  {
    kind: 'delay',
    name: 'a slower copy, tap by tap',
    what: 'A listener repeats each tap from their own address as soon as they hear it; the knock names no address.',
    run: copied({}, false),
  },
]
