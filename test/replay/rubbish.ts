import { codebook, PAGE, rendezvous } from '../../src/protocol/codebook'
import type { Key } from '../../src/protocol/key'
import { passcodePorts } from '../../src/protocol/passcode'
import { passcode } from '../../src/protocol/totp'
import { MIDDLE } from '../gate/listener/ear'
import type { Attack, Outcome, Scale } from './attack'
import { Tally } from './tally'
import { serverKey, World } from './world'

/*
 * Rubbish under heard rendezvous ports, at a steady rate, made so that the daemon decodes as much of it as it can. Tried are the packets, which
 * must open nothing; honest are users who knock meanwhile, in every possible way, with the keys that were heard and with others.
 */

/** Packets a second, and honest knocks of each kind. */
const RATE = 10_000
const HONEST = 30
/** Milliseconds between the honest knocks of one kind, and within which each has to open. */
const EVERY = 240
const PATIENCE = 2_000
const PIN = '0417'
const SSH = { port: 22, protocol: 'tcp' } as const

/** Keys that a listener has heard, and one that nobody has heard; each of the first has a passcode, because each opens once a window. */
const HEARD = Array.from({ length: HONEST }, (_, n) =>
  serverKey(n + 1, {}, { passcode: { pin: PIN, services: [SSH], seconds: 300, once: true } }),
)
const QUIET = serverKey(HONEST + 1)

/** The ports that one forged source sends to. */
type Rubbish = (world: World, books: readonly Book[], n: number) => number[]
interface Book {
  readonly rendezvous: number[]
  /** A symbol of a page. */
  readonly port: (page: number, byte: number) => number
}

function bookOf(key: Key, window: number): Book {
  const { ports } = codebook(key, window)
  return {
    rendezvous: [...rendezvous(key, window)],
    port: (page, byte) => ports[8 + PAGE * page + (byte & 255)],
  }
}

const range = (count: number) => Array.from({ length: count }, (_, i) => i)
const byte = (world: World) => Math.floor(256 * world.random())

/** This many pages of one key, each with this many symbols: if each has two, none of them counts and nothing is decoded. */
const pages =
  (count: number, symbols: number): Rubbish =>
  (world, [book], n) => [
    ...book.rendezvous.slice(n % 5, (n % 5) + 4),
    ...range(count).flatMap((page) => range(symbols).map(() => book.port(page, byte(world)))),
  ]

/** The rendezvous of many keys at once, and random ports, which mean something in the codebooks of all of them. */
const manyKeys: Rubbish = (world, books, n) => {
  const { pool } = world.keys[0].key
  const some = range(12).map((i) => books[(n + i) % books.length] as Book)
  return [
    ...some.flatMap((book) => book.rendezvous.slice(0, 4)),
    ...range(70).map(() => pool[Math.floor(world.random() * pool.length)]),
  ]
}

const V4 = (n: number) => `10.${(n >> 16) & 255}.${(n >> 8) & 255}.${n & 255}`
/** Many hosts of one /64, and a /64 for each. */
const ONE_64 = (n: number) => `2001:db8:1:1::${(n + 1).toString(16)}`
const MANY_64 = (n: number) => `2001:db8:${(n >> 16).toString(16)}:${(n & 0xffff).toString(16)}::1`

/** One user of each kind, from an address of their own. */
function users(world: World, n: number): { source: string; ports?: number[]; payload?: Uint8Array }[] {
  const [heard, own] = [world.keys[0].key, HEARD[n].key]
  const from = (kind: number) => `198.51.${100 + kind}.${n + 1}`
  const ipv6 = { address: `2001:db8:ffff::${n + 1}` }
  return [
    { source: from(0), ports: world.compose({}, heard) },
    { source: from(1), ports: world.compose(ipv6, heard) },
    { source: from(2), ports: world.compose({}, QUIET.key) },
    { source: from(3), ports: world.compose(ipv6, QUIET.key) },
    { source: from(4), payload: world.composeDatagram({}, heard) },
    { source: from(5), payload: world.composeDatagram({}, QUIET.key) },
    { source: from(6), ports: passcodePorts(PIN, passcode(own, world.window(own))) },
  ]
}

const beside =
  (rubbish: Rubbish, sourceOf: (n: number) => string) =>
  async ({ times }: Scale): Promise<Outcome> => {
    const tally = new Tally()
    for (let seed = 1; seed <= times(1, 10); seed++) {
      const grant = { bindSource: false }
      const keys = [...HEARD, QUIET].map((key) => ({ ...key, grant: { ...key.grant, ...grant } }))
      // From the first seconds of a window: all of it falls into that window.
      const world = await World.begin({ seed, keys, seconds: MIDDLE - 14 })
      const books = world.keys.slice(0, -1).map(({ key }) => bookOf(key, world.window(key)))
      const queue: { at: number; source: string; port: number; payload?: Uint8Array }[] = []
      const opens = new Map<string, number>()
      for (let n = 0; n < HONEST; n++) {
        const at = 1_000 + n * EVERY
        for (const [kind, { source, ports, payload }] of users(world, n).entries()) {
          opens.set(source, at)
          if (payload) queue.push({ at: at + kind, source, port: 53, payload })
          else for (const [i, port] of (ports ?? []).entries()) queue.push({ at: at + kind + i * 0.05, source, port })
        }
      }
      queue.sort((a, b) => a.at - b.at)
      const began = world.steady
      let forged: { source: string; port: number }[] = []
      let made = 0
      for (let passed = 0; passed < 1_000 + HONEST * EVERY + PATIENCE; passed += 10) {
        for (let i = 0; i < RATE / 100; i++) {
          if (forged.length === 0) forged = rubbish(world, books, made).map((port) => ({ source: sourceOf(made), port }))
          if (forged.length === 1) made++
          const { source, port } = forged.shift() as { source: string; port: number }
          world.tap(port, { source, after: 10 / (RATE / 100) })
          tally.tried++
          for (; queue.length > 0 && began + (queue[0]?.at ?? 0) <= world.steady; queue.shift()) {
            const { source, port, payload } = queue[0] as (typeof queue)[number]
            if (payload) world.daemon.hear({ source, destination: '198.51.100.1', port, payload })
            else world.tap(port, { source, after: 0 })
          }
        }
        world.daemon.tick()
        await world.settled()
      }
      const late = new Map(opens)
      for (const { msg, source } of world.log) if (msg === 'accepted') late.delete(String(source))
      tally.honest.tried += opens.size
      tally.honest.opened += opens.size - late.size
      tally.opened += world.log.filter(({ msg, source }) => msg === 'accepted' && !opens.has(String(source))).length
      const kinds = [...late.keys()].map((source) => source.split('.')[2])
      for (const kind of new Set(kinds)) {
        const what = [
          'on ports',
          'on ports, for IPv6',
          'with another key',
          'with another key, for IPv6',
          'in a datagram',
          'in a datagram with another key',
          'by passcode',
        ][Number(kind) - 100]
        tally.promise(false, `${kinds.filter((one) => one === kind).length} of ${HONEST} knocks ${what} did not open`)
      }
      tally.hear(world)
    }
    return tally
  }

const attack = (name: string, what: string, rubbish: Rubbish, sourceOf: (n: number) => string): Attack => ({
  kind: 'flood',
  name,
  what: `An attacker who has heard this window sends 10,000 packets a second ${what}, while users knock in every possible way.`,
  run: beside(rubbish, sourceOf),
})

export const attacks: Attack[] = [
  attack(
    'rubbish that is never decoded, from forged addresses',
    'that cannot be decoded, from forged IPv4 addresses',
    pages(40, 2),
    V4,
  ),
  attack(
    'rubbish that is never decoded, from a /64',
    'that cannot be decoded, from the addresses of one /64',
    pages(40, 2),
    ONE_64,
  ),
  attack(
    'rubbish that is decoded once, from forged addresses',
    'on 32 ports for each source, which can be decoded once',
    pages(28, 1),
    V4,
  ),
  attack(
    'rubbish that is decoded often, from forged addresses',
    'on 60 ports for each source, which can be decoded often',
    pages(56, 1),
    V4,
  ),
  attack('rubbish that is decoded often, from a /64', 'on 60 ports for each address of one /64', pages(56, 1), ONE_64),
  attack(
    'rubbish that is decoded often, from many /64s',
    'on 60 ports for each of as many /64s as there are sources',
    pages(56, 1),
    MANY_64,
  ),
  attack('rubbish of many keys, from forged addresses', 'under the rendezvous ports of twelve keys at once', manyKeys, V4),
]
