import { logLineReader } from '../../src/daemon/taps/log-line'
import { PARITY } from '../../src/protocol/knock'
import { knockOf, requestOf, shuffled } from '../gate/listener/ear'
import type { Attack, Outcome, Scale } from './attack'
import { Tally } from './tally'
import { ATTACKER, SERVER, serverKey, USER, World, type WorldOptions } from './world'

/* Replay: what was recorded on the wire is sent again, byte for byte. */

/** Ports of a knock that open it: 8 rendezvous ports and 28 symbols. */
const RENDEZVOUS = 8
const ENOUGH = RENDEZVOUS + 28

interface Replayed {
  readonly options?: WorldOptions
  /** What the user knocks. */
  readonly compose?: (world: World) => number[]
  /** Before the knock is replayed: what happens to the server, or how long the attacker waits. */
  readonly meanwhile?: (world: World) => Promise<void>
  /** How the user sends, if that matters, and how the attacker does. */
  readonly say?: (world: World, ports: number[]) => Promise<void>
  readonly play?: (world: World, ports: number[], source: string) => Promise<void>
  readonly source?: string
  /** What must be logged for every try, or null if nothing may be logged. */
  readonly says: 'replayed' | 'stale' | null
  /** Milliseconds before the user can knock again. */
  readonly wait?: number
}

const played = (world: World, ports: number[], source: string) => world.taps(ports, { source })

/** A user knocks, something happens, the attacker replays it and the user knocks again; each time with a server of its own. */
async function replayed(times: number, how: Replayed): Promise<Outcome> {
  const { source = ATTACKER, says, wait = 0 } = how
  const tally = new Tally()
  for (let seed = 1; seed <= times; seed++) {
    const world = await World.begin({ seed, ...how.options })
    const ports = how.compose?.(world) ?? world.compose()
    await tally.knock(world, () => (how.say ?? world.taps.bind(world, ports))(world, ports))
    await how.meanwhile?.(world)
    await tally.attack(
      world,
      async () => {
        await (how.play ?? played)(world, ports, source)
        await world.pass(1_000)
        // A knock of a passed window is judged when its session has ended.
        await world.pass(12_000)
      },
      says,
    )
    tally.promise(!world.log.some(({ clock }) => clock), 'the log blames a clock for a replay')
    await world.pass(wait)
    await tally.knock(world)
  }
  return tally
}

const again =
  (how: Replayed) =>
  ({ times }: Scale): Promise<Outcome> =>
    replayed(times(30, 300), how)

/** The ports of a knock may come in any order: the attacker sends the ports of the user's knock in other ways. */
const inOtherOrder = async (world: World, ports: number[], source: string): Promise<void> => {
  const sorted = [...ports].sort((a, b) => a - b)
  const orders = [sorted, sorted.toReversed(), shuffled(ports, world.random), ports.flatMap((port) => [port, port])]
  for (const order of orders) await world.taps(order, { source })
}

/** Sends ports as LOG lines of one protocol, through the daemon's own reader. */
const byLogLine =
  (protocol: string) =>
  async (world: World, ports: number[], source = USER): Promise<void> => {
    const read = logLineReader('KNOCK:')
    for (const port of ports) {
      const tap = read(
        `KNOCK: IN=eth0 OUT= SRC=${source} DST=${SERVER} LEN=40 TOS=0x00 PREC=0x00 TTL=64 ID=1 DF ${protocol.replace('%', `${port}`)}`,
      )
      if (!tap) throw new Error(`the reader expected a tap of port ${port}, got none`)
      world.tap(tap.port, tap)
    }
    await world.settled()
  }
const byTcp = byLogLine('PROTO=TCP SPT=40000 DPT=% WINDOW=64240 RES=0x00 SYN URGP=0')
const byUdp = byLogLine('PROTO=UDP SPT=40000 DPT=% LEN=8')

const rebooted = (world: World): Promise<void> => world.reboot()
const killed = async (world: World): Promise<void> => {
  world.kill()
  await world.start()
}
const withoutLedger = async (world: World): Promise<void> => {
  world.kill()
  world.disk.delete()
  await world.start()
}
/** The key's file is taken out of the keyring and put back: it is another object then. */
const withKeyPutBack = async (world: World): Promise<void> => {
  await world.setKeys([])
  await world.setKeys([serverKey(1)])
}
const passing = (seconds: number) => (world: World) => world.pass(1_000 * seconds)

/** Ten thousand replays over more than three minutes: from the user's address, the attacker's, and a new one each. */
async function tenThousandTimes({ times }: Scale): Promise<Outcome> {
  const tally = new Tally()
  const count = times(10_000, 100_000)
  const world = await World.begin()
  const ports = world.compose()
  await tally.knock(world, () => world.taps(ports))
  const began = world.steady
  for (let n = 0; n < count; n++) {
    const source = [USER, ATTACKER, `10.${n >> 16}.${(n >> 8) & 255}.${n & 255}`][n % 3]
    await tally.attack(world, async () => {
      await world.taps(ports, { source })
      await world.pass(15)
    })
  }
  await world.pass(12_000)
  const minutes = (world.steady - began) / 60_000
  const refusals = world.log.filter(({ refusal }) => refusal).length
  // Once a minute, as long as it is replayed.
  const isOnceAMinute = Math.floor(minutes) <= refusals && refusals <= Math.ceil(minutes) + 1
  tally.promise(isOnceAMinute, `the log has ${refusals} refusals after ${minutes.toFixed(1)} minutes`)
  await tally.knock(world)
  tally.note = `${refusals} lines in the log`
  return tally
}

/** Everything that a listener has recorded of many users is replayed, all at once. */
async function everybodys({ times }: Scale): Promise<Outcome> {
  const tally = new Tally()
  const keys = Array.from({ length: times(20, 100) }, (_, n) => serverKey(n + 1))
  const world = await World.begin({ keys })
  const recorded = keys.map(({ key }) => world.compose({}, key))
  for (const [n, ports] of recorded.entries()) await tally.knock(world, () => world.taps(ports, { source: `192.0.2.${n + 1}` }))
  const shuffles = [recorded.flat(), shuffled(recorded.flat(), world.random), ...recorded]
  for (const ports of shuffles) {
    await tally.attack(world, async () => {
      await world.taps(ports, { source: ATTACKER })
      await world.pass(1_000)
    })
  }
  // Meanwhile they have moved behind one address.
  for (const { key } of keys) await tally.knock(world, () => world.knock({ key, source: '192.0.2.200' }))
  return tally
}

export const attacks: Attack[] = [
  {
    kind: 'replay',
    name: 'replay at once',
    what: 'A listener replays a knock from their own address as soon as they have heard it.',
    run: again({ says: 'replayed' }),
  },
  {
    kind: 'replay',
    name: 'replay from the same address',
    what: "A listener who can send from the user's address replays the user's knock: it opens nothing more, and raises no alarm.",
    run: again({ source: USER, says: null }),
  },
  {
    kind: 'replay',
    name: 'replay later in the window',
    what: 'A listener replays a knock from their own address ten seconds later, in the same window.',
    run: again({ meanwhile: passing(10), says: 'replayed' }),
  },
  {
    kind: 'replay',
    name: 'replay in the next window',
    what: 'A listener replays a knock from their own address half a minute later, when its window has passed and is still accepted.',
    run: again({ meanwhile: passing(30), says: 'replayed' }),
  },
  {
    kind: 'replay',
    name: 'replay in the next window from the same address',
    what: "A listener who can send from the user's address replays the user's knock when its window has passed and is still accepted.",
    run: again({ meanwhile: passing(30), source: USER, says: null }),
  },
  {
    kind: 'replay',
    name: 'replay after the windows',
    what: 'A listener replays a knock two minutes later, when its window is no longer accepted: it raises an alarm, and no clock is blamed.',
    run: again({ meanwhile: passing(120), says: 'replayed' }),
  },
  {
    kind: 'replay',
    name: 'replay after the windows, from the same address',
    what: "A listener who can send from the user's address replays the user's knock two minutes later: it raises no alarm, and no clock is blamed.",
    run: again({ meanwhile: passing(120), source: USER, says: null }),
  },
  {
    kind: 'replay',
    name: 'replay after the windows, when it is forgotten',
    what: 'A listener replays a knock two minutes later, and its key has knocked again meanwhile: the server no longer knows the knock, and blames no clock.',
    run: again({
      meanwhile: async (world) => {
        await world.pass(120_000)
        await world.knock()
        await world.pass(5_000)
      },
      says: 'stale',
    }),
  },
  {
    kind: 'replay',
    name: 'replay after the lease has ended',
    what: "A listener waits until the user's lease has ended, and replays the knock to get another.",
    run: again({
      compose: (world) => world.compose({ seconds: 5 }),
      meanwhile: async (world) => {
        await world.pass(8_000)
        if (world.isOpen() || world.rules.size > 0) throw new Error('the lease of 5 s has not ended after 8 s')
      },
      says: 'replayed',
    }),
  },
  {
    kind: 'replay',
    name: 'replay after the lease has ended, from the same address',
    what: "A listener who shares the user's address waits until the lease has ended, and replays the knock to get another.",
    run: again({
      compose: (world) => world.compose({ seconds: 5 }),
      meanwhile: async (world) => {
        await world.pass(8_000)
        if (world.isOpen() || world.rules.size > 0) throw new Error('the lease of 5 s has not ended after 8 s')
      },
      source: USER,
      says: null,
    }),
  },
  {
    kind: 'replay',
    name: 'replay of a knock for one connection',
    what: "An attacker who shares the user's address replays a knock that opened for one connection, to get a connection of their own.",
    run: again({ compose: (world) => world.compose({ once: true }), source: USER, says: null }),
  },
  {
    kind: 'replay',
    name: 'replay after a restart',
    what: 'A listener replays a knock when the daemon has been restarted.',
    run: again({ meanwhile: (world) => world.restart(), says: 'replayed' }),
  },
  {
    kind: 'replay',
    name: 'replay after kill -9',
    what: 'A listener replays a knock when the daemon has been killed and started again.',
    run: again({ meanwhile: killed, says: 'replayed' }),
  },
  {
    kind: 'replay',
    name: 'replay after kill -9, from the same address',
    what: "An attacker who shares the user's address replays a knock to a daemon that no longer knows who sent it first.",
    run: again({ meanwhile: killed, source: USER, says: 'replayed' }),
  },
  {
    kind: 'replay',
    name: 'replay after a reboot',
    what: 'A listener replays a knock when the machine has been rebooted: rules and all of tmpfs are gone, the ledger is kept.',
    run: again({ meanwhile: rebooted, says: 'replayed' }),
  },
  {
    kind: 'replay',
    name: 'replay to a server without its ledger',
    what: 'A listener replays a knock when the ledger has been deleted: the server does not know what is spent, so no knock of that time opens.',
    run: again({ meanwhile: withoutLedger, says: 'stale', wait: 90_000 }),
  },
  {
    kind: 'replay',
    name: 'replay after a reboot with the ledger on tmpfs',
    what: 'A listener replays a knock when the machine has been rebooted and the ledger was lost with tmpfs.',
    run: again({
      meanwhile: async (world) => {
        world.disk.delete()
        await world.reboot(5)
      },
      says: 'stale',
      wait: 90_000,
    }),
  },
  {
    kind: 'replay',
    name: 'replay after the key was put back',
    what: "A listener replays a knock when the administrator has removed the key's file and put it back.",
    run: again({ meanwhile: withKeyPutBack, says: 'replayed' }),
  },
  {
    kind: 'replay',
    name: 'replay over the other family',
    what: 'A listener replays over IPv6 what was sent over IPv4.',
    run: again({
      play: (world, ports) => world.taps(ports, { source: '2001:db8::66', destination: '2001:db8::1' }),
      says: 'replayed',
    }),
  },
  {
    kind: 'replay',
    name: 'replay at another address of the server',
    what: 'A listener replays a knock to another address of the server than the one that it was sent to.',
    run: again({ play: (world, ports, source) => world.taps(ports, { source, destination: '198.51.100.9' }), says: 'replayed' }),
  },
  {
    kind: 'replay',
    name: 'replay over UDP',
    what: 'A listener replays over UDP what was sent over TCP, as LOG lines: a tap has no protocol, so it is the same knock.',
    run: again({ say: byTcp, play: byUdp, says: 'replayed' }),
  },
  {
    kind: 'replay',
    name: 'replay over TCP',
    what: 'A listener replays over TCP what was sent over UDP, as LOG lines: a tap has no protocol, so it is the same knock.',
    run: again({ say: byUdp, play: byTcp, says: 'replayed' }),
  },
  {
    kind: 'replay',
    name: 'replay in another order',
    what: 'A listener replays the ports of a knock in ascending, descending and random order, and each of them twice.',
    run: again({ play: inOtherOrder, says: 'replayed' }),
  },
  {
    kind: 'replay',
    name: 'replay of other symbols',
    what: 'A user sends all 63 symbols and 28 of them open; a listener replays the others, which the server has not heard.',
    run: again({
      compose: ({ keys: [{ key }] }) => knockOf(key, 1, undefined, requestOf(60_000), 35),
      say: (world, ports) => world.taps(ports.slice(0, ENOUGH)),
      play: (world, ports, source) => world.taps([...ports.slice(0, RENDEZVOUS), ...ports.slice(ENOUGH)], { source }),
      says: 'replayed',
    }),
  },
  {
    kind: 'replay',
    name: 'replay of any 28 symbols',
    what: 'A listener replays four of the rendezvous ports and 28 symbols of a knock, of their choice.',
    run: again({
      play: (world, ports, source) => {
        const some = (from: number, to: number, count: number) => shuffled(ports.slice(from, to), world.random).slice(0, count)
        return world.taps([...some(0, RENDEZVOUS, 4), ...some(RENDEZVOUS, RENDEZVOUS + 28 + PARITY, 28)], { source })
      },
      says: 'replayed',
    }),
  },
  {
    kind: 'replay',
    name: 'replay ten thousand times',
    what: "A listener replays one knock ten thousand times in three minutes, from the user's address, their own and thousands of others.",
    run: tenThousandTimes,
  },
  {
    kind: 'replay',
    name: 'replay of all knocks together',
    what: 'A listener replays the knocks of many users from their own address, one after the other and all of them shuffled.',
    run: everybodys,
  },
]
