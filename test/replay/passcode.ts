import type { Refusal } from '../../src/gate/policy'
import type { ServerKey } from '../../src/gate/server-key'
import type { Key } from '../../src/protocol/key'
import { PASSCODE_BASE, passcodePorts } from '../../src/protocol/passcode'
import { passcode } from '../../src/protocol/totp'
import { keyOf, shuffled } from '../gate/listener/ear'
import type { Attack, Outcome, Scale } from './attack'
import { Tally } from './tally'
import { ATTACKER, cidrs, serverKey, USER, World, type WorldOptions } from './world'

/* Passcodes: what an attacker may try who has no phone, has heard another user's passcode, or wants to keep passcodes from working. */

const PIN = '0417'
const PERIOD = 30_000
/** Failures after which a source waits, and after which all sources do (docs/protocol.md, "Passcode knock"). */
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
/** A passcode of no key: the PIN is wrong. */
const wrong = (n: number): number[] => passcodePorts('9999', String(n).padStart(8, '0'))
const addressOf = (n: number): string => `203.0.${n >> 8}.${n & 255}`

/** To the beginning of the next window, and a little further. */
const turn = (world: World) => world.pass(PERIOD - (world.wall % PERIOD) + 100)

/** The user's own passcode. */
const honest = (tally: Tally, world: World, ports = portsOf(world)) => tally.knock(world, () => world.taps(ports))

// ---- guessing

/** Guesses window by window; the right passcode, sent after a number of wrong ones, shows whether guesses are still tried. */
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
          // By now nothing from a source that guesses like this is tried, not even the right passcode.
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
  tally.note = `${guesses} guesses; after ${limit} of them in one window the right passcode is not tried`
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
    // A scan is no failure: a passcode of the same window is accepted.
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
  tally.note = `${tally.tried - shut} of ${tally.tried} passcodes opened right after a scan from the user's own address; a minute later all did`
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
    // When nobody forges, the next window is like any other.
    await honest(tally, world)
    tally.promise(
      world.log.some(({ msg }) => String(msg).startsWith('too many wrong passcodes')),
      'not logged: passcodes wait',
    )
  }
  tally.note = `${OF_SERVER * PORTS.length * 0.1} forged SYNs a window: ${passcodes.opened} of ${passcodes.tried} passcodes opened, and every sealed knock`
  return tally
}

// ---- listening

/** A user sends a passcode, something happens, and a listener sends it, too. */
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

/** A listener who has heard eleven digits of a user sends the twelfth from their own address: digits from two sources are never one passcode. */
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

/** A listener who hears eleven digits and is quicker with the twelfth opens for themselves; what this gives them is measured, and limited. */
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
      tally.promise(won.lease.once && won.lease.port === SSH.port, 'the lease is not the one that the passcode gives')
      // The user's own last digit comes too late, and this is logged.
      await tally.attack(world, () => world.taps(ports.slice(-1)), 'replayed')
    } else await honest(tally, world, ports.slice(-1))
    await turn(world)
    await honest(tally, world, portsOf(world, { shift: 1 }))
  }
  tally.promise(races.won < races.tried, 'a source had more than three tries in a window')
  tally.note = `the listener won ${races.won} of ${races.tried} races from one address: ${OF_SOURCE} of the 10 last digits can be tried`
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

/** Right passcodes that their key may not use: from where, of what key, and the result. */
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
    // Removed while the ledger is written: what the key's file says then counts.
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
    // The other service of the grant stays closed to the right passcode.
    const open = await begin({ seed })
    await honest(tally, open)
    tally.promise(open.isOpen() && !open.isOpen(USER, WEB.port), 'a passcode opened what it should not')
  }
  return tally
}

export const attacks: Attack[] = (
  [
    [
      'guessing from one address',
      'An attacker sends wrong passcodes from one address, and the right one after three of them.',
      (scale) => guessed(scale, () => ATTACKER, OF_SOURCE),
    ],
    [
      'guessing from a /64',
      'An attacker guesses from ever new IPv6 addresses of their one network.',
      (scale) => guessed(scale, (n) => `2001:db8:66::${(n + 1).toString(16)}`, OF_SOURCE),
    ],
    [
      'guessing from many addresses',
      'An attacker uses a new address for each guess, and sends the right passcode after twenty of them.',
      (scale) => guessed(scale, addressOf, OF_SERVER),
    ],
    ['scans over the passcode ports', 'Scanners send to all passcode ports, in three orders, from forty addresses.', scanned],
    [
      "a scan over the passcode ports from the user's address",
      "A scan from the user's address makes the user's passcode void for a minute; sealed knocks open.",
      scannedFromUser,
    ],
    ['forged failures', 'An attacker forges twenty failures a window, so that passcodes wait; sealed knocks still open.', forged],
    ['a passcode at once', 'A listener sends a passcode from their own address.', replayed(async () => {})],
    ['a passcode in the next window', 'A listener sends a passcode when the next window has begun.', replayed(turn)],
    [
      'a passcode after a restart',
      'A listener sends a passcode to a daemon that was restarted.',
      replayed((world) => world.restart()),
    ],
    [
      'a passcode after kill -9',
      'A listener sends a passcode to a daemon that was killed and started again.',
      replayed(async (world) => {
        world.kill()
        await world.start()
      }),
    ],
    ['a passcode pieced together', 'A listener who has heard eleven digits sends the twelfth from their own address.', pieced],
    [
      'a listener quicker than the user',
      'A listener who hears eleven digits sends them with each possible twelfth, before the user has sent theirs: up to three tries count.',
      raced,
    ],
    [
      'passcodes outside their grant',
      'Right passcodes of keys that have been revoked, from addresses outside the grant, or removed at that moment.',
      outside,
    ],
    ['a passcode that fits two keys', 'Two keys show the same code at the same time, with the same PIN.', twins],
  ] as const satisfies [string, string, Attack['run']][]
).map(([name, what, run]) => ({ kind: 'passcode', name, what, run }))
