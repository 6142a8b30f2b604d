import type { Attack, Outcome, Scale } from './attack'
import { Tally } from './tally'
import { type Coming, passes, play, stream } from './traffic'
import { serverKey, USER, World } from './world'

/*
 * Honest neighbours: nobody attacks. Tried is what must open nothing more and raise no alarm: the second passes, and everything that is
 * still sent after a knock has opened.
 */

/** Milliseconds between the SYNs that Linux sends for one connect: a browser gives up none of them. */
const RETRANSMITS = [0, 1_000, 3_000, 7_000, 15_000, 31_000, 63_000, 127_000]

/** Sends what some users send; every knock must open once, and nothing may be an alarm. */
async function together(tally: Tally, world: World, knocks: number, ...senders: Coming[][]): Promise<void> {
  const [openings, since] = [world.openings.length, world.log.length]
  await play(world, ...senders)
  const accepted = world.said(since).accepted ?? 0
  tally.honest.tried += knocks
  tally.honest.opened += Math.min(knocks, accepted)
  tally.tried += knocks
  tally.opened += Math.max(0, accepted - knocks, world.openings.length - openings - knocks)
  tally.hear(world, since)
  const alarms = world.log.slice(since).filter(({ refusal }) => refusal)
  tally.promise(alarms.length === 0, `logged an alarm: ${alarms[0]?.refusal}`)
}

/** Users with keys of their own knock from one address within some milliseconds, with their second passes. */
const behindOneAddress =
  (users: number, within: number, passCount = 2) =>
  async ({ times }: Scale): Promise<Outcome> => {
    const tally = new Tally()
    const keys = Array.from({ length: users }, (_, n) => serverKey(n + 1))
    let first = 0
    for (let seed = 1; seed <= times(30, 300); seed++) {
      const world = await World.begin({ seed, keys })
      const senders = keys.map(({ key }) =>
        passes(world, world.compose({}, key), { from: within * world.random(), times: passCount }),
      )
      const early = (sender: Coming[]) => sender.filter(({ at }) => at < within + 100)
      const rehearsal = await World.begin({ seed, keys })
      await play(rehearsal, ...senders.map(early))
      first += rehearsal.openings.length
      await together(tally, world, users, ...senders)
    }
    tally.note = `${first} of ${tally.honest.tried} opened by their first pass alone`
    return tally
  }

/** Two devices have the same key, and knock from one address in one window. */
const oneKeyTwice =
  (apart: number, times = 2) =>
  async (scale: Scale): Promise<Outcome> => {
    const tally = new Tally()
    for (let seed = 1; seed <= scale.times(30, 300); seed++) {
      const world = await World.begin({ seed })
      const knocks = [world.compose(), world.compose({ once: true })]
      await together(tally, world, 2, ...knocks.map((ports, n) => passes(world, ports, { from: n * apart, times })))
    }
    return tally
  }

/** Twenty users knock from one address, one a second, for as long as it takes. */
async function office({ times }: Scale): Promise<Outcome> {
  const tally = new Tally()
  for (let seed = 1; seed <= times(3, 30); seed++) {
    const keys = Array.from({ length: 20 }, (_, n) => serverKey(n + 1))
    const world = await World.begin({ seed, keys, seconds: 59_000_000 * 30 })
    await together(
      tally,
      world,
      keys.length,
      ...keys.map(({ key }, n) => passes(world, world.compose({}, key), { from: 1_000 * n })),
    )
  }
  return tally
}

/**
 * A browser knocks, and goes on sending to its ports for two minutes; meanwhile another user knocks from the same address, and the
 * browser's user knocks again in a later window.
 */
async function browser({ times }: Scale): Promise<Outcome> {
  const tally = new Tally()
  for (let seed = 1; seed <= times(20, 200); seed++) {
    const world = await World.begin({ seed, keys: [serverKey(1), serverKey(2)] })
    const [{ key }, other] = world.keys
    const [first, second] = [world.compose(), world.compose({}, key, world.window() + 2)]
    const syns = (ports: number[], from: number) =>
      RETRANSMITS.flatMap((after) => stream(ports, { from: from + after + 20 * world.random(), every: 0.5 }))
    const neighbour = world.compose({}, other.key, world.window() + 1)
    const later = passes(world, neighbour, { from: 20_000 + 10_000 * world.random() })
    await together(tally, world, 3, syns(first, 0), later, syns(second, 62_000))
    await world.pass(15_000)
    tally.promise(!world.log.some(({ refusal }) => refusal), 'logged an alarm in the end')
  }
  return tally
}

/** The client's --wait sends one knock again and again until the service answers, and a new one when the next window begins. */
async function waiting({ times }: Scale): Promise<Outcome> {
  const tally = new Tally()
  for (let seed = 1; seed <= times(20, 200); seed++) {
    const world = await World.begin({ seed, keys: [serverKey(1), serverKey(2)] })
    const senders = world.keys.map(({ key }, user) =>
      [0, 1, 2].flatMap((step) => {
        const ports = world.compose({}, key, world.window() + step)
        // The next window begins after 15, 45 and 75 s.
        return Array.from({ length: 20 }, (_, n) => stream(ports, { from: 30_000 * step + 700 * n + 40 * user }))
      }),
    )
    await together(tally, world, 6, senders.flat(2))
  }
  return tally
}

/** The same knock is sent from two addresses of one user: from IPv4 and from IPv6. */
async function twoPaths({ times }: Scale): Promise<Outcome> {
  const tally = new Tally()
  for (let seed = 1; seed <= times(20, 200); seed++) {
    const world = await World.begin({ seed })
    const [v4, v6] = [world.compose(), world.compose()]
    await together(tally, world, 2, passes(world, v4, { source: USER }), passes(world, v6, { source: '2001:db8::2' }))
  }
  return tally
}

export const attacks: Attack[] = [
  {
    kind: 'neighbours',
    name: 'two users behind one address',
    what: 'Two users with their own keys knock from one address in the same 100 ms, each twice, as the client does.',
    run: behindOneAddress(2, 100),
  },
  {
    kind: 'neighbours',
    name: 'two users behind one address, tap by tap',
    what: 'Two users knock from one address, tap by tap in turn; if their second passes overlap as well, they need a third.',
    run: behindOneAddress(2, 0.05, 3),
  },
  {
    kind: 'neighbours',
    name: 'five users behind one address',
    what: 'Five users with their own keys knock from one address in the same 100 ms, each three times, as the client does with --wait.',
    run: behindOneAddress(5, 100, 3),
  },
  {
    kind: 'neighbours',
    name: 'twenty users behind one address',
    what: 'Twenty users knock from one address, one a second: the rendezvous ports of all of them are in one session.',
    run: office,
  },
  {
    kind: 'neighbours',
    name: 'two knocks of one key in a window',
    what: 'Two devices with one key knock from one address, five seconds apart.',
    run: oneKeyTwice(5_000),
  },
  {
    kind: 'neighbours',
    name: 'two knocks of one key in the same 100 ms',
    what: 'Two devices with one key knock from one address, 50 ms apart.',
    run: oneKeyTwice(50),
  },
  {
    kind: 'neighbours',
    name: 'two knocks of one key at once',
    what: 'Two devices with one key knock from one address, tap by tap in turn; if their second passes overlap as well, they need a third.',
    run: oneKeyTwice(0.05, 3),
  },
  {
    kind: 'neighbours',
    name: "a browser's SYNs for two minutes",
    what: 'A browser repeats the SYNs of its knock for two minutes; a neighbour and the user knock meanwhile from the same address.',
    run: browser,
  },
  {
    kind: 'neighbours',
    name: 'two clients that wait',
    what: 'Two clients behind one address send their knocks every 700 ms until the service answers, through three windows.',
    run: waiting,
  },
  {
    kind: 'neighbours',
    name: 'a user with two addresses',
    what: 'A user knocks over IPv4 and over IPv6 at the same time.',
    run: twoPaths,
  },
]
