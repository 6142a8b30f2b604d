import { codebook } from '../../src/protocol/codebook'
import { MAX_PARITY, symbolPorts } from '../../src/protocol/knock'
import { encodeRequest } from '../../src/protocol/request'
import { seal } from '../../src/protocol/seal'
import { knockOf, requestOf } from '../gate/listener/ear'
import type { Attack, Outcome, Scale } from './attack'
import { Tally } from './tally'
import { anyOf, type Coming, passes, play, stream } from './traffic'
import { ATTACKER, serverKey, USER, World } from './world'

/*
 * Spoiling knocks: nothing that one address sends costs another address its knock. An attacker who can send from the user's own address
 * can spoil the knock; the note reports how many packets that takes. Tried is what the attacker sends, which must open nothing; honest are the user's knocks.
 */

const RENDEZVOUS = 8
/** How much of a knock has been sent when the forged taps arrive. */
const MIDDLE = 26
const DOOR = 22

/** What an attacker sends: taps with their times, and where among them the user's knock begins. */
interface Scene {
  readonly forged: Coming[]
  readonly from: number
}

/** Users 1 (who knocks) and 2 (whom a listener has heard as well). */
const server = (seed: number) => World.begin({ seed, keys: [serverKey(1), serverKey(2)] })

/** Whether the user's knock opens, and nothing else does. */
async function tried(tally: Tally, world: World, ...senders: Coming[][]): Promise<void> {
  const since = world.log.length
  await tally.knock(world, () => play(world, ...senders))
  tally.tried++
  const { accepted = 0 } = world.said(since)
  if (accepted > 1 || world.openings.some(({ lease }) => lease.address !== USER)) tally.opened++
  tally.hear(world, since)
}

/** The attacker sends something before and while a user knocks. */
const beset =
  (scene: (world: World) => Scene) =>
  async ({ times }: Scale): Promise<Outcome> => {
    const tally = new Tally()
    for (let seed = 1; seed <= times(30, 300); seed++) {
      const world = await server(seed)
      const { forged, from } = scene(world)
      const window = world.window() + Math.floor((15 + from / 1_000) / 30)
      await tried(tally, world, forged, passes(world, world.compose({}, undefined, window), { from }))
    }
    return tally
  }

/**
 * Forged taps from the user's own address. The knock must open in spite of the first count; for the others the note reports how often it opens.
 * @param amid the user's knock, with this many forged taps
 */
const borne =
  (counts: readonly number[], unit: string, amid: (world: World, count: number) => Coming[]) =>
  async ({ times }: Scale): Promise<Outcome> => {
    const tally = new Tally()
    for (let seed = 1; seed <= times(30, 300); seed++) {
      const world = await server(seed)
      await tried(tally, world, amid(world, counts[0]))
    }
    const figures: string[] = []
    for (const count of counts.slice(1)) {
      const opened = new Tally()
      for (let seed = 1; seed <= 30; seed++) {
        const world = await server(seed)
        await tried(opened, world, amid(world, count))
      }
      figures.push(`${opened.honest.opened} with ${count}`)
    }
    tally.note = `all open with ${counts[0]} ${unit}; of 30: ${figures.join(', ')}`
    return tally
  }

/** Forged ports for each of the two passes of a knock. */
type Forgery = (world: World, count: number, knock: readonly number[]) => readonly number[][]

/** Forged taps in the middle of both passes. */
const inTheMiddle = (counts: readonly number[], forge: Forgery) =>
  borne(counts, 'forged ports in each pass', (world, count) => {
    const knock = world.compose()
    return forge(world, count, knock).flatMap((forged, pass) => {
      const ports = [...knock.slice(0, MIDDLE), ...forged, ...knock.slice(MIDDLE)]
      return stream(ports, { from: pass * (500 + 1_000 * world.random()) })
    })
  })

/** Random ports of the pool at a steady rate. */
const atARate = borne([1_000, 1_500, 2_000, 3_000], 'forged packets a second', (world, rate) => {
  const { pool } = world.keys[0].key
  const ports = Array.from({ length: 3 * rate }, () => pool[Math.floor(world.random() * pool.length)])
  return [...stream(ports, { every: 1_000 / rate }), ...passes(world, world.compose(), { from: 1_000 })]
})

const noise = (world: World, count: number): number[] => anyOf(world, world.keys[0].key.pool, count)
const rendezvousOf = (world: World, user: number): number[] => world.compose({}, world.keys[user].key).slice(0, RENDEZVOUS)

/** Rubbish under heard rendezvous ports, from one address or from many. */
const rubbish =
  (addresses: number, user = 0) =>
  (world: World): Scene => {
    const heard = rendezvousOf(world, user)
    const forged = Array.from({ length: 100 }, (_, n) =>
      stream([...heard, ...noise(world, 44)], {
        from: 20 * n,
        source: `203.0.${(n % addresses) >> 8}.${(n % addresses) & 255}`,
        every: 0.3,
      }),
    )
    return { forged: forged.flat(), from: 1_000 }
  }

/** Rubbish of the attacker's own: rendezvous ports that were heard and random ports, every two seconds for twenty seconds. */
const fromUser =
  (user: number, count: number) =>
  (world: World): Scene => {
    const heard = rendezvousOf(world, user)
    const forged = Array.from({ length: 12 }, (_, n) => stream([...heard, ...noise(world, count)], { from: 2_000 * n, every: 1 }))
    return { forged: forged.flat(), from: 20_500 }
  }

/**
 * Rubbish that is decoded: ports that are sent to with unequal counts rarely leave ties, so that each try costs decodes. Some thousand of
 * them use up a session; then one tap every half second keeps it alive for a minute.
 */
const wornOut = (world: World): Scene => {
  const heard = rendezvousOf(world, 0)
  const turns = Array.from({ length: 20 }, (_, turn) => {
    const ports = noise(world, 50).flatMap((port, i) => Array<number>(1 + (i % 4)).fill(port))
    return stream([...heard, ...ports], { from: 250 * turn, every: 1 })
  })
  const alive = stream(Array.from({ length: 15 }, () => heard).flat(), { from: 5_500, every: 500 })
  return { forged: [...turns.flat(), ...alive], from: 60_000 }
}

/** Recorded knocks of ten other users are replayed from the user's address right before the user's own. */
async function othersKnocks({ times }: Scale): Promise<Outcome> {
  const tally = new Tally()
  for (let seed = 1; seed <= times(10, 100); seed++) {
    const keys = Array.from({ length: 11 }, (_, n) => serverKey(n + 1))
    const world = await World.begin({ seed, keys })
    const [mine, ...others] = keys.map(({ key }) => world.compose({}, key))
    for (const [n, ports] of others.entries()) await tally.knock(world, () => world.taps(ports, { source: `192.0.2.${n}` }))
    await tally.attack(world, async () => {
      for (const ports of others) await world.taps(ports)
    })
    await tally.knock(world, () => play(world, stream(others.flat()), passes(world, mine, { from: 20 })))
  }
  return tally
}

/** Symbols that each knock of the key's holder sends, and how many knocks each is chosen from. */
const SYMBOLS = 34
const CHOICE = 20
/** Their knocks: without a limit on explained ports, 150 of them kept everyone else's from opening. */
const COVERING = 150

/** Knocks of a key's holder, each chosen for the ports that the earlier ones have not used; then they stop, and another user knocks. */
async function covered({ times }: Scale): Promise<Outcome> {
  const tally = new Tally()
  for (let seed = 1; seed <= times(2, 10); seed++) {
    // From the first second of a window: all of it falls into this window and the next.
    const world = await World.begin({ seed, seconds: 59_000_000 * 30 + 1, keys: [serverKey(1), serverKey(2)] })
    const { key } = world.keys[1]
    const touched = new Set<number>()
    for (let n = 0; n < COVERING; n++) {
      const choice = Array.from({ length: CHOICE }, (_, i) =>
        knockOf(key, 1, world.window(key), requestOf(n * CHOICE + i), MAX_PARITY),
      )
      const fresh = (ports: number[]) => ports.slice(RENDEZVOUS).filter((port) => !touched.has(port))
      const best = choice.reduce((a, b) => (fresh(b).length > fresh(a).length ? b : a))
      await world.taps([...best.slice(0, RENDEZVOUS), ...fresh(best).slice(0, SYMBOLS)], { after: 0.6 })
      await world.pass(80)
      for (const port of best.slice(RENDEZVOUS)) touched.add(port)
    }
    await world.pass(11_000)
    await tally.knock(world, () => play(world, passes(world, world.compose())))
    tally.tried++
    if (world.openings.some(({ lease }) => lease.address !== USER)) tally.opened++
  }
  return tally
}

/** Most knocks that the holder of a key chooses so that their symbols are the user's rendezvous ports; some eight are enough. */
const CHOSEN = 32

/** A listener also holds a key: they choose knocks whose symbols are the rendezvous ports that they have heard, and send them from the user's address. */
async function deafened({ times }: Scale): Promise<Outcome> {
  const tally = new Tally()
  for (let seed = 1; seed <= times(10, 50); seed++) {
    const world = await World.begin({ seed, seconds: 59_000_000 * 30 + 1, keys: [serverKey(1), serverKey(2)] })
    const { key } = world.keys[1]
    const book = codebook(key, world.window(key))
    const first = world.compose()
    await tally.knock(world, () => world.taps(first))
    const left = new Set(first.slice(0, RENDEZVOUS))
    for (let salt = 0, sent = 0; left.size > 0 && sent < CHOSEN; salt++) {
      const symbols = symbolPorts(book, seal(key, world.window(key), encodeRequest(requestOf(salt))))
      if (!symbols.some((port) => left.has(port))) continue
      for (const port of symbols) left.delete(port)
      sent++
      await world.taps(knockOf(key, 1, world.window(key), requestOf(salt)))
      await world.pass(60)
    }
    // At once, and when these taps no longer count and only what they explain is remembered.
    for (const silence of [0, 11_000, 0]) {
      await world.pass(silence)
      await tally.knock(world, () => play(world, passes(world, world.compose())))
      tally.tried++
    }
    if (world.openings.some(({ lease }) => lease.address !== USER)) tally.opened++
  }
  return tally
}

/** A recorded knock that closes or locks is replayed when the user has opened again: the door stays open, and the user can knock. */
const undone =
  (action: 'close' | 'lock', source: string) =>
  async ({ times }: Scale): Promise<Outcome> => {
    const tally = new Tally()
    for (let seed = 1; seed <= times(30, 300); seed++) {
      const world = await World.begin({ seed, keys: [serverKey(1, { lock: true })] })
      const recorded = world.compose({ action, port: 0, seconds: 5 })
      await tally.knock(world, () => world.taps(recorded))
      // A lock ends by itself.
      await world.pass(7_000)
      await tally.knock(world)
      tally.promise(world.isOpen(), 'the door is not open before the attack')
      await tally.attack(world, () => world.taps(recorded, { source }), source === USER ? null : 'replayed')
      await world.pass(500)
      tally.promise(world.isOpen(USER, DOOR), "the user's door has been closed")
      await tally.knock(world)
    }
    return tally
  }

export const attacks: Attack[] = [
  {
    kind: 'cancel',
    name: 'rubbish from another address',
    what: "The attacker sends rubbish under the user's rendezvous ports, which they have heard, from an address of their own while the user knocks.",
    run: beset(rubbish(1)),
  },
  {
    kind: 'cancel',
    name: 'rubbish from a hundred addresses',
    what: "The attacker sends rubbish under the user's rendezvous ports from a hundred addresses, at 50 knocks a second, while the user knocks.",
    run: beset(rubbish(100)),
  },
  {
    kind: 'cancel',
    name: "rubbish from the user's address before their knock",
    what: "An attacker who can send from the user's address sends the rendezvous ports that they have heard and 60 random ports, every two seconds.",
    run: beset(fromUser(0, 60)),
  },
  {
    kind: 'cancel',
    name: "rubbish of another key from the user's address",
    what: "An attacker who can send from the user's address sends another user's rendezvous ports and 100 random ports, every two seconds.",
    run: beset(fromUser(1, 100)),
  },
  {
    kind: 'cancel',
    name: "the user's session used up",
    what: "An attacker who can send from the user's address uses up its decodes with some thousand taps, and then sends two taps a second.",
    run: beset(wornOut),
  },
  {
    kind: 'cancel',
    name: "others' knocks from the user's address",
    what: "An attacker who can send from the user's address replays ten other users' knocks from there before and while the user knocks.",
    run: othersKnocks,
  },
  {
    kind: 'cancel',
    name: 'the pool covered by knocks',
    what: "The holder of another key knocks 150 times from the user's address, on ports chosen so that they cover the pool, and then stops.",
    run: covered,
  },
  {
    kind: 'cancel',
    name: 'the rendezvous covered by chosen knocks',
    what: "The holder of another key, who has heard the user's rendezvous ports, knocks from the user's address, with symbols chosen to be those ports.",
    run: deafened,
  },
  {
    kind: 'cancel',
    name: 'forged taps in the middle of a knock',
    what: "An attacker who can send from the user's address puts 30 random ports into the middle of the user's knock, the same into both passes.",
    run: inTheMiddle([30, 40, 60, 80], (world, count) => {
      const forged = noise(world, count)
      return [forged, forged]
    }),
  },
  {
    kind: 'cancel',
    name: 'other forged taps in each pass',
    what: "An attacker who can send from the user's address puts 80 random ports into the middle of the user's knock, and 80 others into its second pass.",
    run: inTheMiddle([80, 160, 240], (world, count) => [noise(world, count), noise(world, count)]),
  },
  {
    kind: 'cancel',
    name: 'forged taps, each twice',
    what: "An attacker who can send from the user's address puts five random ports into the middle of the user's knock, each twice, to outvote it.",
    run: inTheMiddle([5, 10, 20], (world, count) => {
      const forged = noise(world, count)
      return [1, 2].map(() => [...forged, ...forged])
    }),
  },
  {
    kind: 'cancel',
    name: 'a new rendezvous in the middle of a knock',
    what: "An attacker who can send from the user's address sends the rendezvous ports again in the middle of the user's knock, and 20 random ports.",
    run: inTheMiddle([20, 40, 60], (world, count, knock) => {
      const forged = [...knock.slice(0, RENDEZVOUS), ...noise(world, count)]
      return [forged, forged]
    }),
  },
  {
    kind: 'cancel',
    name: "random ports from the user's address",
    what: "An attacker who can send from the user's address sends 1,000 random ports a second from there before and while the user knocks.",
    run: atARate,
  },
  {
    kind: 'cancel',
    name: 'replay of a close',
    what: "A listener replays a user's close from their own address when the user has opened again.",
    run: undone('close', ATTACKER),
  },
  {
    kind: 'cancel',
    name: "replay of a close from the user's address",
    what: "An attacker who can send from the user's address replays the user's close when the user has opened again.",
    run: undone('close', USER),
  },
  {
    kind: 'cancel',
    name: 'replay of a lock',
    what: "A listener replays a user's lock, which has ended, to lock out either themselves or the user.",
    run: undone('lock', ATTACKER),
  },
  {
    kind: 'cancel',
    name: "replay of a lock from the user's address",
    what: "An attacker who can send from the user's address replays the user's lock when it has ended and the user has opened again.",
    run: undone('lock', USER),
  },
]
