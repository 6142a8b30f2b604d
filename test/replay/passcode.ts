import type { Refusal } from '../../src/gate/policy'
import type { ServerKey } from '../../src/gate/server-key'
import type { Key } from '../../src/protocol/key'
import { PASSCODE_BASE, passcodePorts } from '../../src/protocol/passcode'
import { passcode } from '../../src/protocol/totp'
import { keyOf, shuffled } from '../gate/listener/ear'
import type { Attack, Outcome, Scale } from './attack'
import { Tally } from './tally'
import { ATTACKER, cidrs, serverKey, USER, World, type WorldOptions } from './world'

/* Passcodes: what may be tried by who has no phone, has heard somebody else's passcode, or wants nobody to say one. */

const PIN = '0417'
const PERIOD = 30_000
/** Failures after which a source waits, and after which all do (docs/protocol.md, "Passcode knock"). */
const OF_SOURCE = 3
const OF_SERVER = 20
/** Passcode ports of a PIN of four digits. */
const PORTS = Array.from({ length: 120 }, (_, i) => PASSCODE_BASE + i)
/** The service that a passcode opens; a sealed knock may open the other one, too. */
const SSH = { port: 22, protocol: 'tcp' } as const
const WEB = { port: 443, protocol: 'tcp' } as const

/** The nth key, with a passcode. */
function withPasscode(n: number, more: { key?: Key; once?: boolean } = {}) {
  const { once = true, ...rest } = more
  return serverKey(n, { services: [SSH, WEB] }, { passcode: { pin: PIN, services: [SSH], seconds: 300, once }, ...rest })
}

const begin = (options: WorldOptions = {}) => World.begin({ keys: [withPasscode(1)], ...options })

/** What the phone shows, as ports. */
const portsOf = (world: World, { key = world.keys[0].key, shift = 0, pin = PIN } = {}): number[] =>
  passcodePorts(pin, passcode(key, world.window(key) + shift))
/** A passcode that no key has: the PIN is wrong. */
const wrong = (n: number): number[] => passcodePorts('9999', String(n).padStart(8, '0'))
const addressOf = (n: number): string => `203.0.${n >> 8}.${n & 255}`

/** To the beginning of the next window, and a little further. */
const turn = (world: World) => world.pass(PERIOD - (world.wall % PERIOD) + 100)

/** The user's own passcode. */
const honest = (tally: Tally, world: World, ports = portsOf(world)) => tally.knock(world, () => world.taps(ports))

// ---- guessing

/** Guesses window by window; what they come to is seen by the right passcode, said behind so many wrong ones. */
async function guessed({ times }: Scale, sourceOf: (n: number) => string, limit: number): Promise<Outcome> {
  const tally = new Tally()
  let guesses = 0
  for (let seed = 1; seed <= times(3, 30); seed++) {
    const world = await begin({ seed })
    for (let window = 0; window < times(5, 50); window++) {
      await tally.attack(
        world,
        async () => {
          for (let n = 0; n < limit; n++) await world.taps(wrong(guesses++), { source: sourceOf(n) })
          // By now nobody is listened to who guesses like this, whatever he says.
          await world.taps(portsOf(world), { source: sourceOf(limit) })
        },
        undefined,
      )
      await turn(world)
      await honest(tally, world)
      await turn(world)
    }
    tally.hear(world)
  }
  tally.note = `${guesses} guesses; the right passcode behind ${limit} of them in one window is not tried`
  return tally
}

// ---- scanning

async function scanned({ times }: Scale): Promise<Outcome> {
  const tally = new Tally()
  const orders = (world: World) => [PORTS, PORTS.toReversed(), shuffled(PORTS, world.random)]
  for (let seed = 1; seed <= times(10, 100); seed++) {
    const world = await begin({ seed })
    await tally.attack(
      world,
      async () => {
        for (let n = 0; n < 2 * OF_SERVER; n++)
          for (const order of orders(world)) await world.taps(order, { source: addressOf(n) })
      },
      null,
    )
    // So many scans are no failures: a passcode of the same window is heard.
    await honest(tally, world)
  }
  return tally
}

async function scannedFromUser({ times }: Scale): Promise<Outcome> {
  const tally = new Tally()
  let shut = 0
  for (let seed = 1; seed <= times(5, 50); seed++) {
    const world = await begin({ seed })
    await tally.attack(world, () => world.taps(PORTS), null)
    await world.taps(portsOf(world))
    if (!world.isOpen()) shut++
    await tally.knock(world, () => world.knock({ request: { port: WEB.port } }))
    await world.pass(60_000)
    await honest(tally, world)
  }
  tally.note = `of ${tally.tried} passcodes right behind a scan from the user's own address ${tally.tried - shut} opened; a minute later all did`
  return tally
}

// ---- forging

async function forged({ times }: Scale): Promise<Outcome> {
  const tally = new Tally()
  const passcodes = { tried: 0, opened: 0 }
  let forgeries = 0
  for (let seed = 1; seed <= times(3, 30); seed++) {
    const world = await begin({ seed })
    for (let window = 0; window < 5; window++) {
      await tally.attack(world, async () => {
        for (let n = 0; n < OF_SERVER; n++) await world.taps(wrong(forgeries++), { source: addressOf(n) })
      })
      const before = world.openings.length
      await world.taps(portsOf(world))
      passcodes.tried++
      if (world.openings.length > before) passcodes.opened++
      await tally.knock(world, () => world.knock({ request: { port: WEB.port } }))
      await turn(world)
    }
    // Where nobody forges, the next window is like any other.
    await honest(tally, world)
    tally.promise(
      world.log.some(({ msg }) => String(msg).startsWith('too many wrong passcodes')),
      'the log should say that passcodes wait',
    )
  }
  tally.note = `${OF_SERVER * PORTS.length * 0.1} forged SYNs a window: ${passcodes.opened} of ${passcodes.tried} passcodes opened, and every sealed knock`
  return tally
}

// ---- listening

/** A user says his passcode, something happens, and who has heard it says it, too. */
const replayed =
  (meanwhile: (world: World) => Promise<unknown>) =>
  async ({ times }: Scale): Promise<Outcome> => {
    const tally = new Tally()
    for (let seed = 1; seed <= times(30, 300); seed++) {
      const world = await begin({ seed })
      const ports = portsOf(world)
      await honest(tally, world, ports)
      await meanwhile(world)
      await tally.attack(world, () => world.taps(shuffled(ports, world.random), { source: ATTACKER }), 'replayed')
      await turn(world)
      await honest(tally, world, portsOf(world, { shift: 1 }))
    }
    return tally
  }

/** Who has heard eleven digits of a user says the twelfth in his own name: digits of two sources are never one passcode. */
async function pieced({ times }: Scale): Promise<Outcome> {
  const tally = new Tally()
  for (let seed = 1; seed <= times(30, 300); seed++) {
    const world = await begin({ seed })
    const ports = portsOf(world)
    await world.taps(ports.slice(0, -1))
    await tally.attack(world, () => world.taps(PORTS.slice(-10), { source: ATTACKER }), null)
    await honest(tally, world, ports.slice(-1))
  }
  return tally
}

/** Who hears eleven digits and is quicker with the twelfth opens for himself; what that gives him is measured, and bounded. */
async function raced({ times }: Scale): Promise<Outcome> {
  const tally = new Tally()
  const races = { tried: 0, won: 0 }
  for (let seed = 1; seed <= times(30, 300); seed++) {
    const world = await begin({ seed })
    const ports = portsOf(world)
    const known = ports.slice(0, -1)
    await world.taps(known)
    for (const last of shuffled(PORTS.slice(-10), world.random)) await world.taps([...known, last], { source: ATTACKER })
    races.tried++
    const [won] = world.openings
    if (won) {
      races.won++
      tally.promise(won.lease.once && won.lease.port === SSH.port, 'the lease is another than the passcode gives')
      // The user's own last digit comes too late, and that is told.
      await tally.attack(world, () => world.taps(ports.slice(-1)), 'replayed')
    } else await honest(tally, world, ports.slice(-1))
    await turn(world)
    await honest(tally, world, portsOf(world, { shift: 1 }))
  }
  tally.promise(races.won < races.tried, 'a source has more than three tries in a window')
  tally.note = `of ${races.tried} races from one address the listener won ${races.won}: ${OF_SOURCE} of the 10 last digits can be tried`
  return tally
}

// ---- chance

async function twins({ times }: Scale): Promise<Outcome> {
  const tally = new Tally()
  for (let seed = 1; seed <= times(10, 100); seed++) {
    const key: Key = { ...keyOf(2), totpSecret: keyOf(1).totpSecret }
    const world = await begin({ seed, keys: [withPasscode(1), withPasscode(2, { key })] })
    for (const source of [USER, ATTACKER]) await tally.attack(world, () => world.taps(portsOf(world), { source }), null)
    await tally.knock(world)
  }
  return tally
}

// ---- policy

/** Right passcodes that their key may not say: from where, of what key, and what becomes of them. */
async function outside({ times }: Scale): Promise<Outcome> {
  const tally = new Tally()
  const key = withPasscode(1)
  const only = (...blocks: string[]) => ({ ...key, grant: { ...key.grant, addresses: cidrs(...blocks) } })
  const cases: [ServerKey, string, Refusal][] = [
    [{ ...key, revoked: 1 }, USER, 'revoked'],
    [{ ...key, expires: 1 }, USER, 'revoked'],
    [only('203.0.113.0/24'), USER, 'not-granted'],
    [key, '0.0.0.1', 'not-granted'],
    [key, '224.0.0.1', 'not-granted'],
    [key, '255.255.255.255', 'not-granted'],
    [key, 'ff02::1', 'not-granted'],
  ]
  for (let seed = 1; seed <= times(3, 30); seed++) {
    for (const [held, source, says] of cases) {
      const world = await begin({ seed, keys: [held] })
      await tally.attack(world, () => world.taps(portsOf(world), { source }), says)
    }
    // Taken away while the ledger is written: what the key's file says then counts.
    const world = await begin({ seed, keys: [key] })
    world.disk.slow = true
    const { passcode: _, ...bare } = key
    await tally.attack(
      world,
      async () => {
        for (const port of portsOf(world)) world.tap(port)
        await world.setKeys([bare])
        world.disk.sync()
        await world.settled()
      },
      'not-granted',
    )
    // The other service of the grant stays shut to the right passcode of who may.
    const open = await begin({ seed })
    await honest(tally, open)
    tally.promise(open.isOpen() && !open.isOpen(USER, WEB.port), 'a passcode opens what it should not')
  }
  return tally
}

export const attacks: Attack[] = (
  [
    [
      'guessing from one address',
      'Somebody says wrong passcodes from one address, and the right one behind three of them.',
      (scale) => guessed(scale, () => ATTACKER, OF_SOURCE),
    ],
    [
      'guessing from a /64',
      'Somebody guesses from ever new IPv6 addresses of his one network.',
      (scale) => guessed(scale, (n) => `2001:db8:66::${(n + 1).toString(16)}`, OF_SOURCE),
    ],
    [
      'guessing from many addresses',
      'Somebody guesses from an address of its own for each guess, and says the right passcode behind twenty of them.',
      (scale) => guessed(scale, addressOf, OF_SERVER),
    ],
    ['scans over the passcode ports', 'Scanners touch all passcode ports, in three orders, from forty addresses.', scanned],
    [
      "a scan over the passcode ports from the user's address",
      "A scan in the user's name makes his passcode void for a minute; his sealed knocks open.",
      scannedFromUser,
    ],
    ['forged failures', 'Somebody forges twenty failures a window, so that passcodes wait; sealed knocks go on.', forged],
    ['a passcode at once', 'Who has heard a passcode says it from his own address.', replayed(async () => {})],
    ['a passcode in the next window', 'Who has heard a passcode says it when the window has turned.', replayed(turn)],
    [
      'a passcode after a restart',
      'Who has heard a passcode says it to a daemon that was started again.',
      replayed((world) => world.restart()),
    ],
    [
      'a passcode after kill -9',
      'Who has heard a passcode says it to a daemon that was killed.',
      replayed(async (world) => {
        world.kill()
        await world.start()
      }),
    ],
    ['a passcode pieced together', 'Who has heard eleven digits says the twelfth from his own address.', pieced],
    [
      'a listener quicker than the user',
      'Who hears eleven digits says them with every twelfth, before the user has said his: up to three tries are his.',
      raced,
    ],
    [
      'passcodes outside their grant',
      'Right passcodes of keys that have been revoked, from addresses that may not, or taken away at that moment.',
      outside,
    ],
    ['a passcode that fits two keys', 'Two keys show the same code at the same time, with the same PIN.', twins],
  ] as const satisfies [string, string, Attack['run']][]
).map(([name, what, run]) => ({ kind: 'passcode', name, what, run }))
