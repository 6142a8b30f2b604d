import { windowAt } from '../../src/protocol/key'
import type { Attack, Outcome, Scale } from './attack'
import { Tally } from './tally'
import { anyOf, type Coming, passes, play, stream } from './traffic'
import { ATTACKER, serverKey, USER, World } from './world'

/*
 * Scans: an attacker without a key sends to ports, in orders that scanners use. The daemon receives everything that is sent, also what is
 * outside the pool and would not pass the log rule.
 */

/** Packets a second of a whole scan. */
const FAST = 1_000
/** Milliseconds between two honest knocks during a scan, each of which asks for a port of its own. */
const BETWEEN = 3_000
const FIRST_DOOR = 1_000
const DOORS = 64
const ALL = Array.from({ length: 65_535 }, (_, i) => i + 1)

/** The ports that nmap tries first. */
const NMAP_FIRST = [
  21, 22, 23, 25, 53, 80, 110, 111, 113, 135, 139, 143, 199, 256, 443, 445, 554, 587, 993, 995, 1025, 1720, 1723, 3306, 3389,
  5900, 8080, 8888,
]

type Order = (world: World, ports: readonly number[], rate: number) => number[]

const ORDERS: Record<string, Order> = {
  ascending: (_, ports) => [...ports],
  descending: (_, ports) => ports.toReversed(),
  random: (world, ports) => anyOf(world, ports),
  "nmap's order": nmapOrder,
}

/**
 * As nmap 7.93 does if nothing answers (observed): common ports first, then all others at random; it repeats what it has sent in a second
 * before it goes on.
 */
function nmapOrder(world: World, ports: readonly number[], rate: number): number[] {
  const isFirst = new Set(NMAP_FIRST)
  const order = [true, false].flatMap((first) =>
    anyOf(
      world,
      ports.filter((port) => isFirst.has(port) === first),
    ),
  )
  const seconds = Array.from({ length: Math.ceil(order.length / rate) }, (_, n) => order.slice(n * rate, (n + 1) * rate))
  return seconds.flatMap((sent) => [...sent, ...sent])
}

/** The scanners: the user's own address, another, or 250 addresses by turns. */
const SCANNERS: ((n: number) => string)[] = [() => USER, () => ATTACKER, (n) => `203.0.113.${1 + (n % 250)}`]

interface Scan {
  readonly order: Order
  readonly ports: (world: World) => readonly number[]
  readonly scanners?: readonly ((n: number) => string)[]
  readonly rate?: number
  /** Seconds after which the scan stops. */
  readonly seconds?: number
  /** Whether a user knocks meanwhile; otherwise they knock afterwards. */
  readonly amid: boolean
}

/** Scans, from each scanner in turn. */
async function scan(
  tally: Tally,
  seed: number,
  { order, ports, scanners = SCANNERS, rate = FAST, seconds = Infinity, amid }: Scan,
) {
  for (const sourceOf of scanners) {
    const services = Array.from({ length: DOORS }, (_, n) => ({ port: FIRST_DOOR + n, protocol: 'tcp' as const }))
    const world = await World.begin({ seed, keys: [serverKey(1, { services })] })
    const touched = order(world, ports(world), rate).slice(0, rate * seconds)
    const taps = stream(touched, { every: 1_000 / rate }).map((tap, n) => ({ ...tap, source: sourceOf(n) }))
    const scanned = (1_000 * touched.length) / rate
    const knocks: Coming[][] = []
    if (amid) {
      for (let from = BETWEEN * world.random(); from < scanned; from += BETWEEN) {
        const port = FIRST_DOOR + knocks.length
        knocks.push(passes(world, world.compose({ port }, undefined, windowAt((world.wall + from) / 1_000, 30)), { from }))
      }
    }
    await play(world, taps, ...knocks)
    tally.tried++
    const opened = world.openings.map(({ lease }) => lease)
    const doors = new Set(opened.filter(({ address }) => address === USER).map(({ port }) => port))
    tally.honest.tried += knocks.length
    tally.honest.opened += knocks.filter((_, n) => doors.has(FIRST_DOOR + n)).length
    if (
      opened.length > knocks.length ||
      opened.some(({ address, port }) => address !== USER || port >= FIRST_DOOR + knocks.length)
    )
      tally.opened++
    if (!amid) await tally.knock(world, () => world.knock({ request: { port: FIRST_DOOR } }))
    tally.hear(world)
    tally.promise(!world.log.some(({ refusal }) => refusal), 'logged an alarm')
  }
}

const poolOf = (world: World): number[] => [...world.keys[0].key.pool]

/** Scans of the whole pool and of all ports, alone and with an honest knock every three seconds. */
const whole =
  (order: Order) =>
  async ({ times }: Scale): Promise<Outcome> => {
    const tally = new Tally()
    for (let seed = 1; seed <= times(1, 10); seed++) {
      for (const amid of [false, true]) await scan(tally, seed, { order, ports: poolOf, amid })
      await scan(tally, seed, { order, ports: () => ALL, scanners: [SCANNERS[0], SCANNERS[2]], amid: true })
    }
    tally.note = `${FAST} packets/s, of the pool and of all ports`
    return tally
  }

/** Slow scans, which stay in a session for longer. */
const slow =
  (rate: number) =>
  async ({ times }: Scale): Promise<Outcome> => {
    const tally = new Tally()
    for (let seed = 1; seed <= times(3, 30); seed++) {
      for (const order of Object.values(ORDERS)) {
        for (const ports of [poolOf, () => ALL]) await scan(tally, seed, { order, ports, rate, seconds: 30, amid: true })
      }
    }
    tally.note = `${rate} packets/s for 30 s, in all four orders`
    return tally
  }

export const attacks: Attack[] = [
  ...Object.entries(ORDERS).map(
    ([name, order]): Attack => ({
      kind: 'scan',
      name: `whole scan, ${name}`,
      what: "A scanner sends to the pool and to all ports, from the user's address, another and 250, alone and while the user knocks.",
      run: whole(order),
    }),
  ),
  ...[10, 100].map(
    (rate): Attack => ({
      kind: 'scan',
      name: `scan at ${rate} packets a second`,
      what: "A patient scanner sends to ports for half a minute, from the user's address, from another and from 250, while the user knocks.",
      run: slow(rate),
    }),
  ),
]
