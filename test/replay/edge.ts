import { type Key, windowAt } from '../../src/protocol/key'
import { keyOf, MIDDLE, WINDOW } from '../gate/listener/ear'
import type { Attack, Outcome, Scale } from './attack'
import { Tally } from './tally'
import { ATTACKER, serverKey, USER, World } from './world'

/*
 * The window's edge, and clocks that jump. The kernel's clock, which ends leases, is the wall clock here; test/e2e has a real one, which
 * no test can set.
 */

const MINUTE = 60
const DAY = 86_400
const YEAR = 365 * DAY
/** Unix seconds: from here to 1970. */
const TO_1970 = -MIDDLE

/** A daemon whose key has another period, at a given second. */
const server = (period: number, skew: number, seconds: number, seed: number) =>
  World.begin({ keys: [serverKey(1, {}, { key: keyOf(1, period) })], skew, seconds, seed })

/** Replays a knock from an address, and waits until it is judged. */
async function play(world: World, ports: number[], source = ATTACKER): Promise<void> {
  await world.taps(ports, { source })
  await world.pass(200)
}

/**
 * A knock that was held back is delivered at each second from some windows before its own to some after: outside the accepted windows it
 * opens nothing, in them it opens, and never a second time.
 */
async function everySecond({ times }: Scale): Promise<Outcome> {
  const tally = new Tally()
  const settings = [
    { period: 30, skew: 1, step: 1, grace: 0 },
    { period: 30, skew: 0, step: 1, grace: 10 },
    { period: 10, skew: 2, step: 1, grace: 0 },
    { period: 300, skew: 1, step: times(11, 1), grace: 0 },
    { period: 30, skew: 10, step: times(7, 1), grace: 0 },
  ]
  for (const { period, skew, step, grace } of settings) {
    const window = windowAt(MIDDLE, period)
    const [first, last] = [window - skew, window + 1 + skew].map((edge) => edge * period)
    for (let second = first - 2 * period; second < last + grace + 2 * period; second += step) {
      const world = await server(period, skew, second, second)
      const ports = world.compose({}, undefined, window)
      if (second >= first && second < last + grace) await tally.knock(world, () => play(world, ports, USER))
      else await tally.attack(world, () => play(world, ports, USER))
      await tally.attack(world, () => play(world, ports))
    }
  }
  return tally
}

/** A spent knock is replayed at each second of the two windows around it: the clock is set there, or runs there. */
async function spentAtEverySecond(): Promise<Outcome> {
  const tally = new Tally()
  const going = await World.begin()
  const spent = going.compose()
  await tally.knock(going, () => play(going, spent, USER))
  for (let second = 1; second <= 4 * 30; second++) {
    await going.pass(800)
    for (const source of [USER, ATTACKER]) await tally.attack(going, () => play(going, spent, source))
  }
  for (let second = -60; second <= 60; second++) {
    const world = await World.begin({ seed: second + 61 })
    const ports = world.compose()
    await tally.knock(world, () => play(world, ports, USER))
    world.wall += 1_000 * second
    await world.pass(300)
    for (const source of [USER, ATTACKER]) await tally.attack(world, () => play(world, ports, source))
  }
  return tally
}

/** The clock is set wrong by some seconds and later set right; two recorded knocks are replayed each time, at once and half a minute later. */
const clockSet =
  (seconds: number, between?: (world: World) => Promise<void>) =>
  async ({ times }: Scale): Promise<Outcome> => {
    const tally = new Tally()
    for (let seed = 1; seed <= times(20, 200); seed++) {
      const world = await World.begin({ seed })
      const recorded = [world.compose(), world.compose()]
      for (const ports of recorded) await tally.knock(world, () => play(world, ports, USER))
      const since = world.log.length
      for (const step of [seconds, -seconds]) {
        world.wall += 1_000 * step
        await between?.(world)
        for (const wait of [1_000, 30_000]) {
          await world.pass(wait)
          for (const ports of recorded) await tally.attack(world, () => play(world, ports))
        }
      }
      tally.hear(world, since)
      await tally.knock(world)
    }
    const jumps = Object.keys(tally.said).filter((line) => line.startsWith('the clock jumped'))
    // Only a daemon that ran when the clock jumped can log it.
    if (!between) tally.promise(jumps.length === 2, `expected 2 jumps of the clock in the log, got ${jumps.length}`)
    return tally
  }

/**
 * A knock that never arrived is kept, others open later, and the clock is set back to its window. Below the floor it is dead,
 * spent or not. At the floor it is alive: this is as in protocol.md, and with the right clock its window may still be accepted.
 */
const keptBelowFloor =
  (between?: (world: World) => Promise<void>) =>
  async ({ times }: Scale): Promise<Outcome> => {
    const tally = new Tally()
    let [kept, opened] = [0, 0]
    for (let seed = 1; seed <= times(5, 50); seed++) {
      for (const skew of [0, 1, 3, 10]) {
        const world = await World.begin({ seed, skew })
        const { period } = world.keys[0].key
        await tally.knock(world)
        const floor = world.window() - 2 * skew
        /** Sets the clock to the middle of a window, and replays an unheard knock of that window. */
        const playAt = async (window: number): Promise<void> => {
          world.wall = (window + 0.5) * period * 1_000
          await between?.(world)
          await world.pass(500)
          await play(world, world.compose({}, undefined, window))
        }
        for (const below of [1, 2, skew + 1, 3 * skew + 1, 100]) await tally.attack(world, () => playAt(floor - below), 'stale')
        const before = world.openings.length
        await playAt(floor)
        kept++
        opened += world.openings.length - before
        world.wall = MIDDLE * 1_000 + 60_000
        await between?.(world)
        await world.pass(500)
        await tally.knock(world)
      }
    }
    tally.promise(opened === kept, `of ${kept} knocks at the floor ${opened} open: the floor is higher than in protocol.md`)
    tally.note = `known limit: a kept knock at the floor, which never arrived, opened for whoever kept it, ${opened} of ${kept}`
    return tally
  }

/**
 * The attacker sets the server's clock at will, has the daemon restarted and killed and its machine rebooted, and replays every
 * knock that has ever opened, again and again.
 */
async function wanderingClock({ times }: Scale): Promise<Outcome> {
  const tally = new Tally()
  let opened = 0
  for (let seed = 1; seed <= times(20, 500); seed++) {
    const world = await World.begin({ seed })
    const pick = <T>(choices: readonly T[]): T => choices[Math.floor(world.random() * choices.length)]
    const recorded: number[][] = []
    const restart = [
      () => world.restart(),
      () => world.rebase(),
      () => world.reboot(),
      async () => {
        world.kill()
        await world.start()
      },
      async () => {
        world.skew = pick([0, 1, 10])
        await world.restart()
      },
    ]
    for (let turn = 0; turn < 20; turn++) {
      const moves = [...restart, () => world.pass(pick([1_000, 15_000, 40_000]))]
      await pick(moves)()
      world.wall = Math.max(0, world.wall + 1_000 * pick([0, 0, -29, 31, -61, 61, -3_600, 3_600, -DAY, DAY]))
      await world.pass(500)
      // Whether this opens depends on the floor: it may be ahead of such a clock.
      const ports = world.compose()
      const before = world.openings.length
      await play(world, ports, USER)
      if (world.openings.length > before) recorded.push(ports)
      for (const old of recorded) await tally.attack(world, () => play(world, old, pick([USER, ATTACKER])))
    }
    opened += recorded.length
  }
  tally.promise(opened > 0, 'none of the replayed knocks had opened before')
  tally.note = `${opened} knocks that had opened were replayed`
  return tally
}

/**
 * The ledger was begun when the clock was a year ahead, and then the clock is set right: nothing opens, not even with a new key, and the log
 * reports this and the remedy. The ledger is rebased. A listener replays all that was sent until then, at once and when its time comes.
 */
async function rebasedLedger({ times }: Scale): Promise<Outcome> {
  const tally = new Tally()
  for (let seed = 1; seed <= times(5, 50); seed++) {
    for (const skew of [0, 1, 3]) {
      const world = await World.begin({ seed, skew, seconds: MIDDLE + YEAR, keys: [serverKey(1), serverKey(2)] })
      const [hasty, right] = world.keys.map(({ key }) => key)
      world.kill()
      world.disk.delete()
      await world.start()
      const spent: number[][] = []
      const say = async (key: Key, window: number, source = USER): Promise<void> => {
        const ports = world.compose({}, key, window)
        spent.push(ports)
        await play(world, ports, source)
      }
      await world.pass(30_000 * (skew + 2))
      // Someone whose clock is as wrong as the server's, or more.
      await tally.knock(world, () => say(hasty, world.window()))
      await tally.attack(world, () => say(hasty, world.window() + skew + 4), 'future')
      world.wall -= 1_000 * YEAR
      const since = world.log.length
      await world.restart()
      const errors = world.log.slice(since).filter(({ level }) => level === 50)
      const isTold = errors.some(({ key, msg }) => !key && String(msg).includes('run "knockturn ledger rebase"'))
      tally.promise(isTold && errors.length === 2, `expected 2 floors ahead in the log, got ${errors.length}`)
      for (let window = -skew; window <= skew; window++)
        await tally.attack(world, () => say(right, world.window() + window), 'stale')
      await world.rebase()
      const playAll = async (): Promise<void> => {
        for (const ports of spent)
          for (const source of [ATTACKER, USER]) await tally.attack(world, () => play(world, ports, source))
      }
      await playAll()
      for (let window = 0; window <= 2 * skew + 2; window++) {
        await world.pass(30_000)
        await playAll()
      }
      // A key that had not knocked meanwhile opens; otherwise a new key is needed, which opens as well.
      await tally.knock(world, () => play(world, world.compose({}, right), USER))
      await world.setKeys([...world.keys, serverKey(3)])
      await tally.knock(world, () => play(world, world.compose({}, keyOf(3)), USER))
      await tally.attack(world, () => play(world, world.compose({}, hasty), USER), 'stale')
      world.wall = 1_000 * (MIDDLE + YEAR)
      await world.restart()
      for (let window = 0; window <= 2 * skew + 8; window++) {
        await playAll()
        await world.pass(30_000)
      }
    }
  }
  return tally
}

/** A lease does not live longer than was asked when the clock is set back. */
async function leaseUnderClock({ times }: Scale): Promise<Outcome> {
  const tally = new Tally()
  for (let seed = 1; seed <= times(5, 50); seed++) {
    for (const step of [-MINUTE, -DAY, TO_1970]) {
      const world = await World.begin({ seed })
      await tally.knock(world)
      world.wall += 1_000 * step
      await world.pass(62_000)
      tally.tried++
      if (world.isOpen() || world.rules.size > 0) tally.opened++
    }
  }
  return tally
}

/** Knocks are spent, the skew is changed at a restart, and everything that was ever recorded is replayed after each restart. */
async function skewChanged({ times }: Scale): Promise<Outcome> {
  const tally = new Tally()
  for (let seed = 1; seed <= times(12, 200); seed++) {
    const world = await World.begin({ seed, skew: 0 })
    const recorded: number[][] = []
    for (const skew of [0, 10, 0, 10, 1, 0, 10]) {
      world.skew = skew
      await world.restart()
      for (const ports of recorded) await tally.attack(world, () => play(world, ports))
      for (let n = 0; n < 3; n++) {
        const ports = world.compose()
        recorded.push(ports)
        await tally.knock(world, () => play(world, ports, USER))
        await world.pass(31_000 * world.random())
        for (const old of recorded) await tally.attack(world, () => play(world, old))
      }
    }
    await tally.knock(world)
  }
  return tally
}

/** A client whose clock is wrong by five minutes is named in the log, with the difference, and its knock has no other effect. */
async function wrongClock({ times }: Scale): Promise<Outcome> {
  const tally = new Tally()
  for (let seed = 1; seed <= times(20, 200); seed++) {
    for (const [minutes, refusal, way] of [
      [5, 'future', 'ahead'],
      [-5, 'stale', 'behind'],
    ] as const) {
      const world = await World.begin({ seed })
      const ports = world.compose({}, undefined, WINDOW + 2 * minutes)
      await tally.attack(
        world,
        async () => {
          await play(world, ports, USER)
          await world.pass(12_000)
        },
        refusal,
      )
      const [named] = world.log.filter(({ refusal }) => refusal)
      const [seconds, said] = /(\d+) s (\w+)$/.exec(String(named?.clock))?.slice(1) ?? []
      // It is the middle of a window: exactly, however late the session ended.
      const isNamed = named?.key === 'user1' && named.source === USER && said === way && Math.abs(Number(seconds) - 300) <= 1
      tally.promise(isNamed, `expected user1 and 300 s ${way} in the log, got ${named?.key} and "${named?.clock}"`)
      tally.promise(world.rules.size === 0, 'the firewall has been changed')
      await tally.knock(world)
    }
  }
  return tally
}

/** A client's clock is ahead: its knock is for a future window, and a listener replays it when that window comes. */
const futureKnock =
  (between?: (world: World) => Promise<void>) =>
  async ({ times }: Scale): Promise<Outcome> => {
    const tally = new Tally()
    for (let seed = 1; seed <= times(10, 100); seed++) {
      for (const ahead of [2, 3, 5, 10, 11]) {
        const world = await World.begin({ seed })
        const ports = world.compose({}, undefined, WINDOW + ahead)
        await tally.attack(world, () => play(world, ports, USER), 'future')
        await between?.(world)
        for (let window = 0; window < ahead + 2; window++) {
          await world.pass(30_000)
          for (const source of [ATTACKER, USER]) await tally.attack(world, () => play(world, ports, source))
        }
        await tally.knock(world)
      }
    }
    return tally
  }

/**
 * A client's clock is so far ahead that the server does not know its window: six minutes, or, with hundreds of keys, more than one. Then
 * nothing is recorded, so that only the address in the knock keeps the listener out when its window comes.
 */
async function unknownFuture({ times }: Scale): Promise<Outcome> {
  const tally = new Tally()
  let taken = 0
  const many = Array.from({ length: 400 }, (_, n) => serverKey(n + 1))
  for (let seed = 1; seed <= times(2, 20); seed++) {
    for (const [keys, ahead] of [
      [[serverKey(1)], 12],
      [many, 3],
    ] as const) {
      const world = await World.begin({ seed, keys })
      const [named, unnamed] = [{ address: USER }, {}].map((request) => world.compose(request, undefined, WINDOW + ahead))
      for (const ports of [named, unnamed]) await tally.attack(world, () => play(world, ports, USER), null)
      await world.pass(30_000 * ahead)
      await tally.attack(world, () => play(world, named), 'address-mismatch')
      await play(world, unnamed)
      taken += world.openings.length
      await tally.knock(world, () => play(world, named, USER))
    }
  }
  tally.note = `known limit: a knock that names no address opened for the listener, ${taken} of ${tally.honest.tried}`
  return tally
}

const restarted = (world: World): Promise<void> => world.restart()
const killed = async (world: World): Promise<void> => {
  world.kill()
  await world.start()
}

export const attacks: Attack[] = [
  {
    kind: 'edge',
    name: 'a held-back knock at every second',
    what: 'A knock arrives at each second from two windows before the accepted ones to two after, and again from elsewhere.',
    run: everySecond,
  },
  {
    kind: 'edge',
    name: 'a spent knock at every second',
    what: 'A listener replays a spent knock at every second of two windows before it (the clock is set back) and four after it.',
    run: spentAtEverySecond,
  },
  ...(
    [
      ['back a minute', -MINUTE],
      ['back a day', -DAY],
      ['back to 1970', TO_1970],
      ['forward a minute', MINUTE],
      ['forward a day', DAY],
    ] as const
  ).flatMap(([way, seconds]): Attack[] => [
    {
      kind: 'edge',
      name: `clock set ${way}`,
      what: `An attacker who can set the server's clock sets it ${way} and then right again, and replays recorded knocks each time.`,
      run: clockSet(seconds),
    },
    {
      kind: 'edge',
      name: `clock set ${way}, with a restart`,
      what: `An attacker who can set the server's clock sets it ${way} and then right again, while the daemon is not running.`,
      run: clockSet(seconds, restarted),
    },
  ]),
  {
    kind: 'edge',
    name: 'a kept knock from below the floor',
    what: "An attacker on the path has kept a knock that never arrived, and sets the server's clock back to its window.",
    run: keptBelowFloor(),
  },
  {
    kind: 'edge',
    name: 'a kept knock from below the floor, with a restart',
    what: "An attacker on the path has kept a knock that never arrived, and sets the server's clock back while the daemon is not running.",
    run: keptBelowFloor(restarted),
  },
  {
    kind: 'edge',
    name: 'a clock that is set again and again',
    what: 'An attacker who can set the clock and have the daemon restarted, killed and its skew changed replays all knocks that have ever opened.',
    run: wanderingClock,
  },
  {
    kind: 'edge',
    name: 'a ledger that is rebased',
    what: 'A listener replays all that they have heard when a ledger that was begun a year ahead is rebased to the present: at once and in a year.',
    run: rebasedLedger,
  },
  {
    kind: 'edge',
    name: 'a lease while the clock is set back',
    what: "An attacker who can set the server's clock sets it back while a door is open, to keep it open.",
    run: leaseUnderClock,
  },
  {
    kind: 'edge',
    name: 'skew changed between restarts',
    what: 'A listener replays all recorded knocks after each restart with another skew: 0, 10, 0, 10, 1, 0, 10.',
    run: skewChanged,
  },
  {
    kind: 'edge',
    name: 'a client whose clock is wrong by five minutes',
    what: "An honest user's clock is five minutes wrong: the log names key, address and difference, and nobody else learns of it.",
    run: wrongClock,
  },
  {
    kind: 'edge',
    name: 'a future knock when its time comes',
    what: 'A listener hears the knock of a user whose clock is ahead, and replays it when its window comes.',
    run: futureKnock(),
  },
  {
    kind: 'edge',
    name: 'a future knock when its time comes, after kill -9',
    what: 'A listener hears the knock of a user whose clock is ahead; the daemon is killed; the listener replays the knock when its window comes.',
    run: futureKnock(killed),
  },
  {
    kind: 'edge',
    name: 'a future knock of a window that the server does not know',
    what: "A listener hears the knock of a user whose clock is further ahead than the server's table, and replays it when its window comes.",
    run: unknownFuture,
  },
]
