import fc from 'fast-check'
import { expect, it } from 'vitest'
import { MAX_EXPLAINED } from '../../src/gate/listener/explained'
import { MAX_SESSIONS, MAX_TAPS } from '../../src/gate/listener/sessions'
import { MAX_STRAYS } from '../../src/gate/listener/strays'
import { codebook } from '../../src/protocol/codebook'
import { PARITY } from '../../src/protocol/knock'
import type { Request } from '../../src/protocol/request'
import { Ear, keyOf, knockOf, POOL, seededRandom, shuffled, WINDOW } from '../gate/listener/ear'
import { ATTACKER, serverKey, USER, World } from './world'

/* What holds for anything: the daemon's whole pipeline, and any taps. */

const RENDEZVOUS = 8

it('any knock opens once, in any order, with any of its taps twice, and with up to 16 symbols lost or damaged', async () => {
  const grant = {
    services: [{ port: 22, protocol: 'tcp' } as const, { port: 53, protocol: 'udp' } as const],
    allowUntilClosed: true,
  }
  const requests: fc.Arbitrary<{ source: string; request: Partial<Request> }> = fc.record({
    source: fc.constantFrom(USER, '2001:db8::2'),
    request: fc.record({
      port: fc.constantFrom(22, 53),
      protocol: fc.constant('any' as const),
      once: fc.boolean(),
      salt: fc.nat(0xffff),
      seconds: fc.nat(3_600),
      address: fc.constantFrom('0.0.0.0', '::', 'own'),
    }),
  })
  const ways = fc.record({
    step: fc.integer({ min: -1, max: 1 }),
    /** Seconds of the window that have passed. */
    second: fc.integer({ min: 0, max: 20 }),
    /** Rendezvous ports and symbols that are lost, and taps that do not belong to the knock: up to 16 of both. */
    rendezvous: fc.nat(4),
    lost: fc.nat(PARITY),
    noise: fc.nat(PARITY),
    twice: fc.nat(20),
    /** Milliseconds between taps; in a slow knock there is no noise. */
    pace: fc.constantFrom(0.1, 1, 10, 70),
    passes: fc.integer({ min: 1, max: 3 }),
    seed: fc.nat(),
  })
  await fc.assert(
    fc.asyncProperty(requests, ways, async ({ source, request }, way) => {
      const world = await World.begin({ keys: [serverKey(1, grant)], seed: way.seed, seconds: WINDOW * 30 + way.second })
      const address = request.address === 'own' ? source : (request.address as string)
      const knock = world.compose({ ...request, address }, world.keys[0].key, WINDOW + way.step)
      const kept = [
        ...shuffled(knock.slice(0, RENDEZVOUS), world.random).slice(way.rendezvous),
        ...shuffled(knock.slice(RENDEZVOUS), world.random).slice(way.lost),
      ]
      const spoiled = way.pace > 10 ? 0 : Math.min(way.noise, PARITY - way.lost)
      const noise = Array.from({ length: spoiled }, () => POOL[Math.floor(world.random() * POOL.length)])
      for (let pass = 0; pass < way.passes; pass++) {
        const twice = shuffled(kept, world.random).slice(0, way.twice)
        for (const port of shuffled([...kept, ...twice, ...(pass === 0 ? noise : [])], world.random)) {
          world.tap(port, { source, after: way.pace % 10 })
          if (way.pace >= 10) await world.pass(way.pace)
        }
        await world.pass(700)
      }
      expect(world.openings.map(({ lease }) => [lease.address, lease.port])).toEqual([[source, request.port]])
    }),
    { numRuns: 200 },
  )
})

/** What an attacker can do who hears everything and has no secret: a number picks what they replay of it. */
type Deed =
  | { readonly kind: 'honest'; readonly key: number; readonly lost: number }
  | { readonly kind: 'play' | 'part' | 'mix' | 'change'; readonly of: number; readonly other: number; readonly source: number }
  | { readonly kind: 'noise' | 'own'; readonly source: number; readonly count: number }
  | { readonly kind: 'pass' | 'clock'; readonly seconds: number }
  | { readonly kind: 'restart' | 'reboot' }

it('no taps that are made without the secret ever open, whatever was heard before, replayed or mixed, and whatever happens to the clock', async () => {
  const source = fc.nat(2)
  const deeds: fc.Arbitrary<Deed> = fc.oneof(
    { weight: 4, arbitrary: fc.record({ kind: fc.constant('honest' as const), key: fc.nat(1), lost: fc.nat(PARITY) }) },
    {
      weight: 8,
      arbitrary: fc.record({ kind: fc.constantFrom('play', 'part', 'mix', 'change'), of: fc.nat(9), other: fc.nat(9), source }),
    },
    { weight: 3, arbitrary: fc.record({ kind: fc.constantFrom('noise', 'own'), source, count: fc.nat(200) }) },
    {
      weight: 3,
      arbitrary: fc.record({
        kind: fc.constantFrom('pass', 'clock'),
        seconds: fc.constantFrom(-3_600, -60, -30, 1, 30, 60, 3_600),
      }),
    },
    { weight: 1, arbitrary: fc.record({ kind: fc.constantFrom('restart', 'reboot') }) },
  )
  await fc.assert(
    fc.asyncProperty(fc.array(deeds, { minLength: 5, maxLength: 25 }), fc.nat(), async (todo, seed) => {
      const world = await World.begin({ keys: [serverKey(1), serverKey(2)], seed })
      const heard: number[][] = []
      let honest = 0
      for (const deed of todo) honest += await done(world, heard, deed)
      await world.pass(12_000)
      expect(world.openings.length).toBe(honest)
    }),
    { numRuns: 150 },
  )
})

/** Does one deed. @returns how many doors an honest knock has opened by it */
async function done(world: World, heard: number[][], deed: Deed): Promise<number> {
  const { random } = world
  const noise = (count: number) => Array.from({ length: count }, () => POOL[Math.floor(random() * POOL.length)])
  const before = world.openings.length
  switch (deed.kind) {
    case 'honest': {
      const ports = world.compose({ seconds: 60 + heard.length }, world.keys[deed.key].key)
      await world.taps(ports.slice(0, ports.length - deed.lost))
      await world.pass(200)
      // What is left of a knock that cannot be read yet expires after ten seconds.
      if (world.openings.length === before) await world.pass(12_000)
      // One that did not arrive (its window is below the floor, or it has too much noise) can be delivered by the attacker, which is not tried here.
      if (world.openings.length > before) heard.push(ports)
      return world.openings.length - before
    }
    case 'play':
    case 'part':
    case 'mix':
    case 'change': {
      if (heard.length === 0) return 0
      const [of, other] = [heard[deed.of % heard.length], heard[deed.other % heard.length]]
      const ports = {
        play: of,
        part: [...of.slice(0, RENDEZVOUS), ...shuffled(of.slice(RENDEZVOUS), random).slice(20), ...noise(30)],
        mix: shuffled([...of, ...other], random),
        change: of.map((port, i) => (i < RENDEZVOUS + 17 ? port : other[i])),
      }[deed.kind]
      await world.taps(ports, { source: [USER, ATTACKER, '203.0.113.9'][deed.source] })
      await world.pass(1_200)
      return 0
    }
    case 'noise':
      await world.taps(noise(deed.count), { source: [USER, ATTACKER, '203.0.113.9'][deed.source] })
      return 0
    case 'own':
      // The attacker has a key of another server.
      await world.taps(knockOf(keyOf(99), deed.count, world.window()), { source: [USER, ATTACKER, '203.0.113.9'][deed.source] })
      return 0
    case 'pass':
      await world.pass(1_000 * Math.abs(deed.seconds))
      return 0
    case 'clock':
      world.wall += 1_000 * deed.seconds
      await world.pass(500)
      return 0
    default:
      await world[deed.kind]()
      return 0
  }
}

it('no bound is ever passed, whatever is heard', () => {
  const key = keyOf(1)
  const KINDS = ['stray', 'rendezvous', 'rubbish', 'knock', 'scan'] as const
  const floods = fc.record({
    kind: fc.constantFrom(...KINDS),
    /** Few, or more than there may be sessions. */
    sources: fc.oneof(fc.integer({ min: 1, max: 50 }), fc.integer({ min: 4_000, max: 6_000 }), fc.constant(70_000)),
    step: fc.integer({ min: -1, max: 1 }),
    after: fc.constantFrom(0, 0.001, 0.1),
    pause: fc.constantFrom(0, 0, 5_000, 12_000),
  })
  /** Taps of one flood. */
  const MAX_FLOOD = 300_000
  fc.assert(
    fc.property(fc.array(floods, { minLength: 1, maxLength: 4 }), fc.nat(), (scenario, seed) => {
      const ear = new Ear([key], { seed })
      const random = seededRandom(seed)
      for (const [n, { kind, sources, step, after, pause }] of scenario.entries()) {
        const book = codebook(key, WINDOW + step).ports
        const knock = knockOf(key, n, WINDOW + step).slice(4, 36)
        const any = (count: number) => Array.from({ length: count }, () => POOL[Math.floor(random() * POOL.length)])
        const ports = {
          stray: () => any(2),
          rendezvous: () => [book[Math.floor(random() * RENDEZVOUS)]],
          rubbish: () => [
            ...book.subarray(0, 4),
            ...Array.from({ length: 28 }, (_, page) => book[8 + 256 * page + Math.floor(random() * 256)]),
          ],
          knock: () => knock,
          scan: () => [book[0], ...any(300)],
        }[kind]
        const count = Math.min(sources, Math.ceil(MAX_FLOOD / ports().length))
        for (let i = 0; i < count; i++) {
          ear.taps(ports(), { source: `10.${10 * n + (i >> 16)}.${(i >> 8) & 255}.${i & 255}`, after })
          if (i % 500 !== 0) continue
          ear.due()
          expect(ear.listener.sizes).toSatisfy(isBounded)
        }
        expect(ear.listener.sizes).toSatisfy(isBounded)
        ear.wait(pause)
      }
      ear.wait(15_000)
      expect(ear.listener.sizes).toMatchObject({ sessions: 0, taps: 0 })
    }),
    { numRuns: 6 },
  )
})

const isBounded = ({ sessions, taps, strays, explained, codebooks }: Ear['listener']['sizes']): boolean =>
  sessions <= MAX_SESSIONS && taps <= MAX_TAPS && strays <= MAX_STRAYS && explained <= MAX_EXPLAINED && codebooks <= MAX_CODEBOOKS

/** As in docs/protocol.md ("Receiving", 5). */
const MAX_CODEBOOKS = 256
