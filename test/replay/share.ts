import { SHARE, SHARE_RATE } from '../../src/gate/share'
import type { Attack, Outcome, Scale } from './attack'
import { Tally } from './tally'
import { serverKey, World } from './world'

/*
 * A key that wants all of the firewall: its holder knocks as fast as they can. Tried are the knocks beyond its share, which must open
 * nothing; honest are the knocks of another key meanwhile.
 */

/** Knocks a second of the key, and for how many seconds. */
const RATE = 45
const SECONDS = 12

/** Services of the key. */
const SERVICES = [22, 443, 8_443].map((port) => ({ port, protocol: 'tcp' as const }))
/** Log lines a second that a key may cause in the long run: the opening and the end of each service, and its refusals. */
const MOST_LINES = 3 * SHARE_RATE + 2

const LOW = '203.0.113.1'

/** Sends the key's knocks; meanwhile another user knocks every other second. */
const greedy =
  (once: boolean, addresses: number) =>
  async ({ times }: Scale): Promise<Outcome> => {
    const tally = new Tally()
    for (let seed = 1; seed <= times(1, 20); seed++) {
      const low = serverKey(1, { services: SERVICES, allowUntilClosed: true, lock: true })
      const world = await World.begin({ seed, keys: [low, serverKey(2)] })
      const began = world.steady
      let most = 0
      for (let n = 0; n < RATE * SECONDS; n++) {
        const source = addresses === 1 ? LOW : `203.0.113.${n % addresses}`
        // A change is under way at all times: the next is made from what has arrived meanwhile.
        const release = world.hold()
        await world.tapped(world.compose({ port: 0, once, seconds: 60 }, low.key), { source, after: 0.1 })
        await world.passes(1_000 / RATE - 6)
        release()
        await world.settled()
        if (n % (2 * RATE) === RATE) {
          const before = world.openings.length
          const at = world.steady
          await tally.knock(world, () => world.knock({ key: serverKey(2).key, source: `198.51.100.${n % 250}` }))
          tally.promise(world.openings.length > before && world.steady - at < 1_000, 'another key had to wait')
        }
        most = Math.max(most, world.rules.size)
      }
      const seconds = (world.steady - began) / 1_000
      const ofLow = world.log.filter(({ key }) => key === low.id)
      const accepted = ofLow.filter(({ msg }) => msg === 'accepted').length
      const share = (SHARE + SHARE_RATE * seconds) / SERVICES.length
      tally.tried += RATE * SECONDS
      tally.opened += Math.max(0, accepted - Math.ceil(share))
      tally.promise(ofLow.length <= SHARE + MOST_LINES * seconds, `the log has ${ofLow.length} lines of the key in ${seconds} s`)
      tally.promise(most <= SHARE + 64, `${most} rules existed at once`)
      // Refused knocks are spent: nobody can replay them when the key has a share again.
      const since = world.log.length
      await world.setKeys([{ ...low, revoked: 0 }, serverKey(2)])
      await world.settled()
      const after = world.log.slice(since).filter(({ msg, key }) => msg === 'accepted' && key === low.id).length
      tally.promise(after === 0, `${after} knocks of a revoked key were accepted`)
      tally.promise(![...world.rules].some(({ key }) => key === low.id), 'a rule of a revoked key is left')
      tally.hear(world)
    }
    tally.note = `${RATE} knocks a second for ${SECONDS} s; the key's share is ${SHARE} services at once and ${SHARE_RATE} a second`
    return tally
  }

/** A knock beyond the share is spent: it opens nothing when the key has a share again. */
async function kept({ times }: Scale): Promise<Outcome> {
  const tally = new Tally()
  for (let seed = 1; seed <= times(5, 50); seed++) {
    const services = Array.from({ length: 64 }, (_, i) => ({ port: 20_000 + i, protocol: 'tcp' as const }))
    const world = await World.begin({ seed, keys: [serverKey(1, { services }), serverKey(2)] })
    for (let n = 0; n < SHARE / 64; n++) await tally.knock(world, () => world.taps(world.compose({ port: 0 })))
    const beyond = world.compose({ port: 0 })
    await tally.attack(world, () => world.taps(beyond), 'not-granted')
    await world.pass(20_000)
    await tally.attack(world, () => world.taps(beyond, { source: '203.0.113.7' }), 'replayed')
    await tally.knock(world, () => world.taps(world.compose({ port: 0 })))
    await tally.knock(world, () => world.taps(world.compose({ action: 'close', port: 0 })))
  }
  return tally
}

/** Closes and locks have a share of their own, and are not refused because of what was opened. */
async function shutting({ times }: Scale): Promise<Outcome> {
  const tally = new Tally()
  for (let seed = 1; seed <= times(5, 50); seed++) {
    const world = await World.begin({ seed, keys: [serverKey(1, { lock: true }), serverKey(2)] })
    await tally.knock(world)
    // For one connection each, so that they replace each other and do not fill all the room.
    for (let n = 0; n < 2 * SHARE && !world.said()['not-granted']; n++) {
      await world.taps(world.compose({ once: true }), { source: `203.0.113.${n % 250}` })
      await world.pass(20)
    }
    tally.promise(world.said()['not-granted'] === 1, 'the share is not used up')
    await tally.knock(world, () => world.taps(world.compose({ action: 'close', port: 0 })))
    tally.tried++
    if (world.isOpen()) tally.opened++
    await tally.knock(world, () => world.taps(world.compose({ action: 'lock', seconds: 60 })))
    tally.promise(
      [...world.rules].some((rule) => !('port' in rule)),
      'the address is not locked',
    )
  }
  return tally
}

export const attacks: Attack[] = [
  {
    kind: 'share',
    name: 'a key that knocks without end',
    what: 'The holder of a key knocks 45 times a second, for one connection each, on three services; meanwhile another user knocks.',
    run: greedy(true, 1),
  },
  {
    kind: 'share',
    name: 'a key that knocks without end, from many addresses',
    what: 'The holder of a key knocks 45 times a second on three services, from 50 addresses; meanwhile another user knocks.',
    run: greedy(false, 50),
  },
  {
    kind: 'share',
    name: 'a knock beyond its share, kept for later',
    what: 'A knock beyond the share of its key is recorded, and replayed when the key has a share again.',
    run: kept,
  },
  {
    kind: 'share',
    name: 'closing when the share is used up',
    what: 'The holder of a key uses up its share; they can still close, and lock themselves out.',
    run: shutting,
  },
]
