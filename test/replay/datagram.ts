import type { Refusal } from '../../src/gate/policy'
import { composeDatagram, DATAGRAM_LENGTHS } from '../../src/protocol/datagram'
import { compose } from '../../src/protocol/knock'
import type { Request } from '../../src/protocol/request'
import { requestOf } from '../gate/listener/ear'
import type { Attack, Outcome, Scale } from './attack'
import { Tally } from './tally'
import { ATTACKER, serverKey, USER, World, type WorldOptions } from './world'

/* Datagrams: a whole knock in one packet, which is heard, sent again, changed and forged. */

const HINT_BYTES = 8

interface Replayed {
  readonly meanwhile?: (world: World) => Promise<void>
  readonly how?: Parameters<World['datagram']>[1]
  readonly says: Refusal | null
  /** Milliseconds before the user can knock again. */
  readonly wait?: number
}

/** A user sends a datagram, something happens, the attacker sends it again and the user knocks again; each time with a server of its own. */
const again =
  ({ meanwhile, how = { source: ATTACKER }, says, wait = 0 }: Replayed) =>
  async ({ times }: Scale): Promise<Outcome> => {
    const tally = new Tally()
    for (let seed = 1; seed <= times(30, 300); seed++) {
      const world = await World.begin({ seed })
      const payload = world.composeDatagram(seed % 2 ? {} : { address: '::' })
      await tally.knock(world, () => world.datagram(payload))
      await meanwhile?.(world)
      await tally.attack(
        world,
        async () => {
          for (let n = 0; n < 3; n++) await world.datagram(payload, how)
          await world.pass(1_000)
        },
        says,
      )
      await world.pass(wait)
      await tally.knock(world, () => world.datagram(world.composeDatagram()))
    }
    return tally
  }

/** An unheard datagram is changed; the result opens nothing and gets silence, and the datagram itself still opens. */
const spoiled =
  (spoil: (payload: Uint8Array, world: World) => Iterable<Uint8Array>, options: WorldOptions = {}) =>
  async ({ times }: Scale): Promise<Outcome> => {
    const tally = new Tally()
    for (let seed = 1; seed <= times(5, 50); seed++) {
      for (const address of ['0.0.0.0', '::']) {
        const world = await World.begin({ seed, ...options })
        const payload = world.composeDatagram({ address })
        for (const bytes of spoil(payload, world)) {
          await tally.attack(world, () => world.datagram(bytes, { source: ATTACKER }), null)
          // The budget for guesses is not tried here.
          await world.pass(10)
        }
        await world.pass(200)
        await tally.knock(world, () => world.datagram(payload))
      }
    }
    return tally
  }

function* flips(payload: Uint8Array): Iterable<Uint8Array> {
  for (let bit = 0; bit < 8 * payload.length; bit++) yield payload.with(bit >> 3, payload[bit >> 3] ^ (1 << (bit & 7)))
}

function* lengths(payload: Uint8Array): Iterable<Uint8Array> {
  for (let length = 0; length < 64; length++) {
    const bytes = new Uint8Array(length)
    bytes.set(payload.subarray(0, length))
    if (length !== payload.length) yield bytes
  }
}

const joined = (head: Uint8Array, tail: Uint8Array): Uint8Array =>
  Uint8Array.of(...head.subarray(0, HINT_BYTES), ...tail.subarray(HINT_BYTES))

/** The hint of each key and window with the seal of every other. */
function* crossed(_: Uint8Array, world: World): Iterable<Uint8Array> {
  const all = world.keys.flatMap(({ key }) =>
    [-1, 0, 1].map((ahead) => world.composeDatagram({}, key, world.window(key) + ahead)),
  )
  for (const head of all) for (const tail of all) if (head !== tail) yield joined(head, tail)
}

/** A hint that was heard, and bytes behind it that nobody has sealed. */
function random(payload: Uint8Array, world: World): Uint8Array {
  const length = DATAGRAM_LENGTHS[Math.floor(2 * world.random())]
  return joined(
    payload,
    Uint8Array.from({ length }, () => Math.floor(256 * world.random())),
  )
}

/**
 * A listener floods with the hints that they have heard of one key, from its accepted windows and from those that have passed. Other
 * users go on knocking, by datagrams and on ports; so does the key's own user, on ports.
 */
async function heardHints({ times }: Scale): Promise<Outcome> {
  const tally = new Tally()
  const seconds = times(10, 60)
  const world = await World.begin({ keys: [serverKey(1), serverKey(2), serverKey(3)] })
  const [victim, second, third] = world.keys
  const heard = Array.from({ length: 12 }, (_, ago) => world.composeDatagram({}, victim.key, world.window() - ago))
  const flood = (count: number) =>
    tally.attack(
      world,
      () => {
        for (let n = 0; n < count; n++) {
          const payload = random(heard[n % heard.length], world)
          world.wall += 0.05
          world.steady += 0.05
          world.daemon.hear({ source: `10.0.${n >> 8}.${n & 255}`, destination: '198.51.100.1', port: 53, payload })
        }
        return world.settled()
      },
      null,
    )
  for (let n = 0; n < seconds; n++) {
    await flood(10_000)
    const source = `192.0.2.${n}`
    await tally.knock(world, () => world.datagram(world.composeDatagram({}, second.key), { source }))
    await flood(1_000)
    await tally.knock(world, () => world.knock({ key: third.key, source }))
    await flood(1_000)
    await tally.knock(world, () => world.knock({ key: victim.key, source }))
  }
  // After the flood, the key's own datagrams open again.
  await world.pass(1_000)
  await tally.knock(world, () => world.datagram(world.composeDatagram({}, victim.key)))
  tally.note = `${tally.tried} floods of 1,000 or 10,000 datagrams at 20,000/s`
  return tally
}

/** One request, sealed once, sent in two ways: V is the same. */
const twoWays =
  (first: 'ports' | 'datagram', source: string, says: Refusal | null) =>
  async ({ times }: Scale): Promise<Outcome> => {
    const tally = new Tally()
    for (let seed = 1; seed <= times(30, 300); seed++) {
      const world = await World.begin({ seed })
      const [{ key }] = world.keys
      const request = requestOf(60_000 + seed)
      const ways = {
        ports: (from: string) => world.taps(compose(key, world.window(), request), { source: from }),
        datagram: (from: string) => world.datagram(composeDatagram(key, world.window(), request), { source: from }),
      }
      await tally.knock(world, () => ways[first](USER))
      const again = async () => {
        await ways[first === 'ports' ? 'datagram' : 'ports'](source)
        await world.pass(1_000)
      }
      await tally.attack(world, again, says)
      await tally.knock(world)
    }
    return tally
  }

/** Outside the grant, as on ports. */
async function outsideGrant({ times }: Scale): Promise<Outcome> {
  const tally = new Tally()
  const asks: [Partial<Request>, Refusal][] = [
    [{ port: 23 }, 'not-granted'],
    [{ seconds: 3_601 }, 'not-granted'],
    [{ protocol: 'udp' }, 'not-granted'],
    [{ action: 'lock' }, 'not-granted'],
    [{ address: USER }, 'address-mismatch'],
  ]
  for (let seed = 1; seed <= times(10, 100); seed++) {
    const world = await World.begin({ seed })
    for (const [request, says] of asks)
      await tally.attack(world, () => world.datagram(world.composeDatagram(request), { source: ATTACKER }), says)
    await tally.knock(world, () => world.datagram(world.composeDatagram()))
  }
  return tally
}

/** A datagram that was stopped is delivered from another address: as for a knock on ports, `require_address` is the protection. */
async function heldBack({ times }: Scale): Promise<Outcome> {
  const tally = new Tally()
  for (let seed = 1; seed <= times(30, 300); seed++) {
    const world = await World.begin({ seed, keys: [serverKey(1, { requireAddress: true })] })
    const held = world.composeDatagram({ address: USER })
    await tally.attack(world, () => world.datagram(held, { source: ATTACKER }), 'address-mismatch')
    await tally.attack(world, () => world.datagram(world.composeDatagram(), { source: ATTACKER }), 'not-granted')
    await tally.knock(world, () => world.datagram(held))
  }
  return tally
}

export const attacks: Attack[] = [
  {
    kind: 'datagram',
    name: 'a datagram at once',
    what: 'A listener sends a datagram from their own address as soon as they have heard it.',
    run: again({ says: 'replayed' }),
  },
  {
    kind: 'datagram',
    name: 'a datagram from the same address',
    what: "A listener who can send from the user's address sends the user's datagram again: it opens nothing more, and raises no alarm.",
    run: again({ how: { source: USER }, says: null }),
  },
  {
    kind: 'datagram',
    name: 'a datagram in the next window',
    what: 'A listener sends a datagram half a minute later, when its window has passed and is still accepted.',
    run: again({ meanwhile: (world) => world.pass(30_000), says: 'replayed' }),
  },
  {
    kind: 'datagram',
    name: 'a datagram after its windows',
    what: 'A listener sends a datagram two minutes later, when its window is no longer accepted.',
    run: again({ meanwhile: (world) => world.pass(120_000), says: 'replayed' }),
  },
  {
    kind: 'datagram',
    name: 'a datagram after a restart',
    what: 'A listener sends a datagram when the daemon has been restarted.',
    run: again({ meanwhile: (world) => world.restart(), says: 'replayed' }),
  },
  {
    kind: 'datagram',
    name: 'a datagram after kill -9',
    what: "An attacker who shares the user's address sends a datagram to a daemon that was killed and no longer knows who sent it first.",
    run: again({
      meanwhile: async (world) => {
        world.kill()
        await world.start()
      },
      how: { source: USER },
      says: 'replayed',
    }),
  },
  {
    kind: 'datagram',
    name: 'a datagram over the other family',
    what: 'A listener sends over IPv6 what was sent over IPv4.',
    run: again({ how: { source: '2001:db8::66', destination: '2001:db8::1' }, says: 'replayed' }),
  },
  {
    kind: 'datagram',
    name: 'a datagram to the other port',
    what: 'A listener sends to port 443 what was sent to port 53.',
    run: again({ how: { source: ATTACKER, port: 443 }, says: 'replayed' }),
  },
  {
    kind: 'datagram',
    name: 'a datagram with a bit flipped',
    what: 'Each bit of an unheard datagram is flipped by itself.',
    run: spoiled(flips),
  },
  {
    kind: 'datagram',
    name: 'a datagram cut short or made longer',
    what: 'An unheard datagram is sent in every length from 0 to 63 bytes.',
    run: spoiled(lengths),
  },
  {
    kind: 'datagram',
    name: 'the hint of one key with the seal of another',
    what: 'Hints and seals of three keys and three windows are combined in every way but the right one.',
    run: spoiled(crossed, { keys: [serverKey(1), serverKey(2), serverKey(3)] }),
  },
  {
    kind: 'datagram',
    name: 'heard hints with random seals',
    what: "A listener floods with the hints that they have heard of one key: others' datagrams still open, and so do all knocks on ports.",
    run: heardHints,
  },
  {
    kind: 'datagram',
    name: 'a datagram sent again on ports',
    what: 'What was sent in a datagram is sent on ports, by an attacker who is given its codebook: it is the same knock.',
    run: twoWays('datagram', ATTACKER, 'replayed'),
  },
  {
    kind: 'datagram',
    name: 'a knock on ports sent again in a datagram',
    what: 'What was sent on ports is sent in a datagram, by an attacker who is given its hint: it is the same knock.',
    run: twoWays('ports', ATTACKER, 'replayed'),
  },
  {
    kind: 'datagram',
    name: 'a knock sent in both ways from the same address',
    what: 'A user sends one knock on ports and in a datagram: it is one knock, and raises no alarm.',
    run: twoWays('ports', USER, null),
  },
  {
    kind: 'datagram',
    name: 'a datagram outside the grant',
    what: 'The holder of a key asks in datagrams for more than its grant.',
    run: outsideGrant,
  },
  {
    kind: 'datagram',
    name: 'a datagram that was held back, with require_address',
    what: "An attacker who has stopped a datagram that names the user's address sends it from their own; the user can still send it.",
    run: heldBack,
  },
]
