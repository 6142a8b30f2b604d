import type { Request } from '../../src/protocol/request'
import { MIDDLE } from '../gate/listener/ear'
import type { Attack, Outcome, Scale } from './attack'
import { Tally } from './tally'
import { serverKey, USER, World } from './world'

/* The end of a door: what the rule itself contains, because the kernel enforces that with the daemon or without. */

/** Longest life of a lease for one connection, in seconds. */
const HOUR = 3_600
const DAY = 86_400
/** The services of the keys here. */
const SERVICES = [22, 443].map((port) => ({ port, protocol: 'tcp' as const }))
const ALL = { services: SERVICES, max: DAY, allowUntilClosed: true }

/** Requests by which someone tries to get the longest life. */
const LONG: Partial<Request>[] = [{ seconds: HOUR - 1 }, { seconds: HOUR + 1 }, { seconds: DAY }, { seconds: 0 }].flatMap(
  (request) => [22, 0].map((port) => ({ ...request, port })),
)

/** Counts the rules that live beyond a moment in Unix seconds, or allow more connections than were asked for. */
function count(tally: Tally, world: World, end: number, once: boolean): void {
  for (const rule of world.rules) {
    tally.tried++
    if (rule.until === null || rule.until > end || !('once' in rule) || rule.once !== once) tally.opened++
  }
}

/** Time passes, with the daemon running or dead; then no door is open. */
async function isShutAt(tally: Tally, world: World, end: number, isDead: boolean): Promise<void> {
  tally.promise(world.isOpen(USER, SERVICES[0].port), 'the door is not open before its end')
  if (isDead) {
    world.kill()
    world.wall = 1_000 * end
  } else {
    world.wall = 1_000 * end - 1_000
    await world.pass(1_500)
    tally.promise(world.rules.size === 0, 'a rule is left')
  }
  tally.tried++
  if (SERVICES.some(({ port }) => world.isOpen(USER, port))) tally.opened++
}

/** Whatever is asked with `once`, by one knock or by two: rules for one connection, of an hour at most. */
async function once({ times }: Scale): Promise<Outcome> {
  const tally = new Tally()
  for (let seed = 1; seed <= times(3, 30); seed++) {
    for (const request of LONG) {
      for (const isDead of [false, true]) {
        const world = await World.begin({ seed, keys: [serverKey(1, ALL)] })
        for (let n = 0; n < 2; n++) await tally.knock(world, () => world.knock({ request: { ...request, once: true } }))
        const end = Math.ceil(world.wall / 1_000) + HOUR
        count(tally, world, end, true)
        await isShutAt(tally, world, end, isDead)
      }
    }
  }
  return tally
}

/** A key that expires soon: each of its rules ends with it, however long a life was asked for, and however often. */
async function keysEnd({ times }: Scale): Promise<Outcome> {
  const tally = new Tally()
  for (let seed = 1; seed <= times(3, 30); seed++) {
    for (const request of LONG) {
      for (const once of [false, true]) {
        for (const isDead of [false, true]) {
          const end = MIDDLE + 60 + seed
          const world = await World.begin({ seed, keys: [serverKey(1, ALL, { expires: 1_000 * end + 500 })] })
          for (let n = 0; n < 2; n++) await tally.knock(world, () => world.knock({ request: { ...request, once } }))
          count(tally, world, end, once)
          await isShutAt(tally, world, end, isDead)
        }
      }
    }
  }
  return tally
}

export const attacks: Attack[] = [
  {
    kind: 'edge',
    name: 'one connection, for as long as possible',
    what: 'The holder of a key asks for one connection for hours, a day or without an end: the kernel, whose counter forgets after a day, has a rule of an hour.',
    run: once,
  },
  {
    kind: 'edge',
    name: "a lease beyond its key's end",
    what: 'The holder of a key that is about to expire asks for a door for longer than that: the rule ends with the key, even if the daemon is dead.',
    run: keysEnd,
  },
]
