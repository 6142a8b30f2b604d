import { Refused } from '../../src/gate/firewall'
import type { Request } from '../../src/protocol/request'
import type { Attack, Outcome, Scale } from './attack'
import { Tally } from './tally'
import { serverKey, USER, World } from './world'

/*
 * Closing a door while it is being opened: the holder of a key wants a door that stays open and that nobody knows of. They close it and have
 * the key revoked while the firewall is still changing. Tried are the doors that must be closed in the end; opened is what is left of them.
 */

/** As many services as a knock could ask for when this was found. */
const MANY = 41
const FIRST = 20_000

const services = (count: number) => Array.from({ length: count }, (_, i) => ({ port: FIRST + i, protocol: 'tcp' as const }))
const key = (count: number) => serverKey(1, { services: services(count), allowUntilClosed: true, lock: true })
const everything: Partial<Request> = { port: 0, seconds: 0 }

/** A server whose firewall is slow. */
const server = (seed: number, count: number) => World.begin({ seed, keys: [key(count), serverKey(2)] })

/** Rules of the user's, for one port or for all. */
const left = (world: World, port = 0) =>
  [...world.rules].filter((rule) => rule.address === USER && 'port' in rule && (port === 0 || rule.port === port)).length

/** In the end nothing is left, not even after a flush and a check of the firewall; and another user gets in. */
async function isOver(tally: Tally, world: World, ports: readonly number[]): Promise<void> {
  await world.settled()
  await world.pass(6_000)
  for (const port of ports) {
    tally.tried++
    if (left(world, port) > 0) tally.opened++
  }
  await tally.knock(world, () => world.knock({ key: serverKey(2).key, source: '203.0.113.9' }))
  tally.hear(world)
}

/** Everything is opened until it is closed, and a part of it is closed before the firewall has followed. */
const closed =
  (request: (last: number) => Partial<Request>, of: (last: number) => number[]) =>
  async ({ times }: Scale): Promise<Outcome> => {
    const tally = new Tally()
    for (let seed = 1; seed <= times(30, 300); seed++) {
      const count = 1 + (seed % MANY)
      const world = await server(seed, count)
      const last = FIRST + count - 1
      const release = world.hold()
      await world.tapped(world.compose(everything))
      await world.passes(20 + (seed % 60))
      await world.tapped(world.compose(request(last)))
      release()
      await isOver(tally, world, of(last))
    }
    return tally
  }

/** The same, and the key is revoked or removed a moment later; the daemon may be killed meanwhile and start again. */
const revoked =
  (keysAfter: (world: World) => Parameters<World['setKeys']>[0], isKilled: boolean) =>
  async ({ times }: Scale): Promise<Outcome> => {
    const tally = new Tally()
    for (let seed = 1; seed <= times(30, 300); seed++) {
      const count = 1 + (seed % MANY)
      const world = await server(seed, count)
      const release = world.hold()
      await world.tapped(world.compose(everything))
      await world.tapped(world.compose({ ...everything, port: FIRST }))
      const after = keysAfter(world)
      if (isKilled) {
        release()
        await world.settled()
        world.kill()
        world.keys = after
        await world.start()
      } else {
        await world.setKeys(after)
        release()
      }
      await isOver(
        tally,
        world,
        services(count).map(({ port }) => port),
      )
    }
    return tally
  }

/** The firewall fails once, while the door is opened, extended or closed; then everything is closed. */
async function failing({ times }: Scale): Promise<Outcome> {
  const tally = new Tally()
  for (let seed = 1; seed <= times(60, 600); seed++) {
    const world = await server(seed, 3)
    let fails = 1 + (seed % 3)
    world.fault = () => {
      if (--fails === 0) throw seed % 2 ? new Refused('a rule is refused') : new Error('the time limit has passed')
    }
    for (const request of [{ ...everything, seconds: 60 }, everything, { action: 'close' as const, port: FIRST }, everything])
      await world.taps(world.compose(request))
    await world.taps(world.compose({ action: 'close', port: 0 }))
    await isOver(
      tally,
      world,
      services(3).map(({ port }) => port),
    )
  }
  return tally
}

/** A user who knows that a knock takes time locks themselves out in the middle of it, while more of their knocks are being processed: these open nothing. */
async function lockedMeanwhile({ times }: Scale): Promise<Outcome> {
  const tally = new Tally()
  for (let seed = 1; seed <= times(30, 300); seed++) {
    const world = await server(seed, 3)
    const [lock, ...knocks] = [{ action: 'lock' as const, seconds: 60 }, everything, everything].map((request) =>
      world.compose(request),
    )
    // Claimed all together: the disk writes them in one step.
    world.disk.slow = true
    for (const ports of [lock as number[], ...knocks]) await world.tapped(ports)
    world.disk.slow = false
    world.disk.sync()
    await world.settled()
    tally.tried += knocks.length
    tally.opened += world.openings.length
    const { accepted = 0, locked = 0 } = world.said()
    tally.promise(accepted === 1 && locked === knocks.length, `logged: ${JSON.stringify(world.said())}`)
    await isOver(tally, world, [FIRST])
  }
  return tally
}

const gone = (world: World) => world.keys.slice(1)
const over = (world: World) => world.keys.map((one, i) => (i === 0 ? { ...one, revoked: 0 } : one))

export const attacks: Attack[] = [
  {
    kind: 'closing',
    name: 'a service closed while it is opened',
    what: 'The holder of a key opens up to 41 services until they are closed, and closes the last one while the firewall is still changing.',
    run: closed(
      (last) => ({ action: 'close', port: last }),
      (last) => [last],
    ),
  },
  {
    kind: 'closing',
    name: 'everything closed while it is opened',
    what: 'The holder of a key opens up to 41 services until they are closed, and closes all of them while the firewall is still changing.',
    run: closed(
      () => ({ action: 'close', port: 0 }),
      (last) => [FIRST, last],
    ),
  },
  {
    kind: 'closing',
    name: 'a lock while doors are opened',
    what: 'The holder of a key opens up to 41 services until they are closed, and locks their own address while the firewall is still changing.',
    run: closed(
      () => ({ action: 'lock', seconds: 5 }),
      (last) => [FIRST, last],
    ),
  },
  {
    kind: 'closing',
    name: 'a key revoked while its doors are opened',
    what: 'The key is revoked while the firewall is still changing for its knocks: a rule that is left would have no end and no owner.',
    run: revoked(over, false),
  },
  {
    kind: 'closing',
    name: 'a key removed while its doors are opened',
    what: "The key's file is deleted while the firewall is still changing for its knocks.",
    run: revoked(gone, false),
  },
  {
    kind: 'closing',
    name: 'a key revoked while the daemon was down',
    what: 'The daemon is killed while the doors are open, and the key is revoked before the daemon runs again.',
    run: revoked(over, true),
  },
  {
    kind: 'closing',
    name: 'a firewall that fails once',
    what: 'The firewall fails at one of several changes of a door, and then the door is closed.',
    run: failing,
  },
  {
    kind: 'closing',
    name: 'knocks on their way from an address that is locked',
    what: 'The holder of a key locks their own address while more of their knocks are being written to the disk.',
    run: lockedMeanwhile,
  },
]
