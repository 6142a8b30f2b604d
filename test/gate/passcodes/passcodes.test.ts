import { describe, expect, it } from 'vitest'
import type { Knock } from '../../../src/gate/knock'
import { chanceOfGuess, MAX_CHANCE } from '../../../src/gate/passcodes/guesses'
import { Passcodes } from '../../../src/gate/passcodes/passcodes'
import { MAX_PASSCODE_SESSIONS } from '../../../src/gate/passcodes/sessions'
import { deriveKey, type Key } from '../../../src/protocol/key'
import { PASSCODE_V, passcodePorts, passcodeRange } from '../../../src/protocol/passcode'
import { parsePool } from '../../../src/protocol/pool'
import { passcode } from '../../../src/protocol/totp'
import vectors from '../../vectors/passcodes.json'
import { keyOf, MIDDLE, seededRandom, shuffled, WINDOW } from '../listener/ear'

const BASE = 48_000
const PIN = '0417'
const USER = '198.51.100.2'
const SERVER = '198.51.100.1'
const key = keyOf(1)
/** What a passcode opens, but for its PIN. */
const OPENS = { services: [], seconds: 300, once: true }
/** What a passcode asks. */
const REQUEST = { action: 'open', protocol: 'any', once: true, salt: 0, port: 0, seconds: 300, address: '0.0.0.0' }

/** Passcodes with clocks of their own. */
class Desk {
  readonly passcodes: Passcodes
  readonly passed: Knock[] = []
  wall: number
  steady = 1_000_000

  constructor({ keys = [{ key, pin: PIN }], base = BASE, pinDigits = 4, skew = 1, seconds = MIDDLE } = {}) {
    this.wall = seconds * 1000
    this.passcodes = new Passcodes({ base, pinDigits, skew })
    this.setKeys(keys)
    this.compute()
  }

  setKeys(keys: readonly { readonly key: Key; readonly pin: string }[]): void {
    this.passcodes.setKeys(keys.map(({ key, pin }) => ({ key, passcode: { ...OPENS, pin } })))
  }

  get now() {
    return { wall: this.wall, steady: this.steady }
  }

  compute(): void {
    while (!this.passcodes.prepare(this.now)) {}
  }

  pass(milliseconds: number): void {
    this.wall += milliseconds
    this.steady += milliseconds
    this.passcodes.due(this.now)
  }

  /** Taps, one each millisecond. @returns how many passcodes they completed that fit */
  taps(ports: Iterable<number>, { source = USER, destination = SERVER, after = 1 } = {}): number {
    const before = this.passed.length
    for (const port of ports) {
      this.wall += after
      this.steady += after
      this.passed.push(...this.passcodes.hear({ source, destination, port }, this.now))
    }
    return this.passed.length - before
  }

  /** Somebody says a PIN and a code. */
  say(code = passcode(key, WINDOW), how: { pin?: string; source?: string; destination?: string; after?: number } = {}): number {
    return this.taps(passcodePorts(how.pin ?? PIN, code), how)
  }

  /** The nth wrong passcode. */
  fail(n: number, source = USER): number {
    return this.say(String(n).padStart(8, '0'), { pin: '9999', source })
  }
}

/** Another key with the same codes, as chance would make it. */
const twin: Key = { ...keyOf(2), totpSecret: key.totpSecret }

describe.each(vectors)('the vector of window $window with PIN "$pin"', ({ key: material, window, pin, base, ports }) => {
  const { secret, server, period, pool } = material
  const bytes = Uint8Array.from(Buffer.from(secret, 'hex'))
  const own = deriveKey({ secret: bytes, server, period, pool: parsePool(pool) })
  const seconds = (window + 0.5) * period
  const desk = () => new Desk({ keys: [{ key: own, pin }], base, pinDigits: pin.length, seconds })

  it('is a passcode of its key', () => {
    const fresh = desk()
    fresh.taps(ports)
    const what = { window, request: REQUEST, v: PASSCODE_V, arrival: 'timely', by: 'passcode' }
    expect(fresh.passed).toEqual([{ key: own, ...what, source: USER, destination: SERVER, heard: fresh.steady }])
  })

  it('is one in any order, with digits said again', () => {
    const fresh = desk()
    expect(fresh.taps(shuffled([...ports.slice(1), ...ports.slice(1), ports[0]], seededRandom(window)))).toBe(1)
  })

  it('is none with a digit missing', () => {
    expect(desk().taps(ports.slice(1))).toBe(0)
  })
})

describe('a passcode', () => {
  it.each([-1, 0, 1])('of the window %i from now fits', (shift) => {
    expect(new Desk().say(passcode(key, WINDOW + shift))).toBe(1)
  })

  it.each([
    [1, -2],
    [1, 2],
    [10, -2],
    [10, 2],
    [0, -1],
    [0, 1],
  ])('with a skew of %i and of the window %i from now does not fit', (skew, shift) => {
    expect(new Desk({ skew }).say(passcode(key, WINDOW + shift))).toBe(0)
  })

  it('with a skew of 0 fits in its own window', () => {
    expect(new Desk({ skew: 0 }).say()).toBe(1)
  })

  it('fits window after window', () => {
    const desk = new Desk()
    for (let window = WINDOW; window < WINDOW + 10; window++) {
      expect(desk.say(passcode(key, window))).toBe(1)
      desk.pass(30_000)
    }
  })

  it('with the PIN of another key does not fit', () => {
    const desk = new Desk({
      keys: [
        { key, pin: PIN },
        { key: keyOf(2), pin: '1111' },
      ],
    })
    expect([desk.say(passcode(key, WINDOW), { pin: '1111' }), desk.say(passcode(keyOf(2), WINDOW), { pin: '1111' })]).toEqual([
      0, 1,
    ])
  })

  it('that fits two keys opens neither', () => {
    const desk = new Desk({
      keys: [
        { key, pin: PIN },
        { key: twin, pin: PIN },
      ],
    })
    expect(desk.say()).toBe(0)
  })

  it('that fits two keys in two windows opens neither', () => {
    // By their numbers windows have the same codes, whatever their periods.
    const [mine, theirs] = [30, 15].map((period) => ({ key: { ...twin, period }, pin: PIN }))
    const desk = new Desk({ keys: [mine, theirs], seconds: 15 })
    expect(desk.say(passcode(mine.key, 0))).toBe(0)
  })

  it('that fits two keys but for the PIN opens its own', () => {
    const desk = new Desk({
      keys: [
        { key, pin: PIN },
        { key: twin, pin: '1111' },
      ],
    })
    desk.say()
    expect(desk.passed.map((passed) => passed.key)).toEqual([key])
  })

  it('may take a minute', () => {
    expect(new Desk().say(passcode(key, WINDOW + 1), { after: 3_500 })).toBe(1)
  })

  it('is forgotten, digit by digit, after a minute', () => {
    const desk = new Desk()
    const [first, ...rest] = passcodePorts(PIN, passcode(key, WINDOW + 2))
    desk.taps([first])
    desk.pass(60_001)
    expect([desk.taps(rest), desk.taps([first])]).toEqual([0, 1])
  })

  it('is pieced together from one source only', () => {
    const desk = new Desk()
    const ports = passcodePorts(PIN, passcode(key, WINDOW))
    expect(desk.taps(ports.slice(0, 11)) + desk.taps(ports.slice(11), { source: '198.51.100.3' })).toBe(0)
  })

  it('is pieced together at one destination only', () => {
    const desk = new Desk()
    const ports = passcodePorts(PIN, passcode(key, WINDOW))
    expect(desk.taps(ports.slice(0, 11)) + desk.taps(ports.slice(11), { destination: '198.51.100.9' })).toBe(0)
  })

  it('of a key that is no longer there does not fit', () => {
    const desk = new Desk()
    desk.setKeys([{ key: keyOf(2), pin: PIN }])
    desk.compute()
    expect(desk.say()).toBe(0)
  })
})

describe('a second digit at a position', () => {
  const ports = passcodePorts(PIN, passcode(key, WINDOW + 1))
  const other = ports[3] === BASE + 39 ? BASE + 38 : ports[3] + 1

  it('voids the session for a minute', () => {
    const desk = new Desk()
    desk.taps([ports[3], other])
    expect(desk.taps(ports)).toBe(0)
    desk.pass(59_000)
    expect(desk.taps(ports)).toBe(0)
  })

  it('is forgiven after a minute', () => {
    const desk = new Desk()
    desk.taps([ports[3], other])
    desk.pass(60_000)
    expect(desk.say(passcode(key, WINDOW + 2))).toBe(1)
  })

  it('is no failure', () => {
    const desk = new Desk()
    for (let port = BASE; port < BASE + 120; port++) desk.taps([port])
    expect(desk.passcodes.sizes.failing).toBe(0)
  })

  it('after a passcode that has passed is that of the next', () => {
    const desk = new Desk()
    expect([desk.say(), desk.say(passcode(key, WINDOW + 1))]).toEqual([1, 1])
  })

  it('does not spoil the next passcode where the last is still being said', () => {
    const desk = new Desk()
    desk.say()
    const [before, after] = [passcodePorts(PIN, passcode(key, WINDOW)), passcodePorts(PIN, passcode(key, WINDOW + 1))]
    expect(desk.taps(after.flatMap((port, i) => [port, before[i]]))).toBe(1)
  })
})

describe('a failure', () => {
  it('counts once, however often it is said again in its window', () => {
    const desk = new Desk()
    for (let pass = 0; pass < 10; pass++) desk.fail(1)
    expect(desk.say()).toBe(1)
  })

  it.each([
    [2, 1],
    [3, 0],
  ])('%i times from a source leaves it %i more try', (times, more) => {
    const desk = new Desk()
    for (let n = 0; n < times; n++) desk.fail(n)
    expect(desk.say()).toBe(more)
  })

  it('three times from a source leaves others alone', () => {
    const desk = new Desk()
    for (let n = 0; n < 3; n++) desk.fail(n)
    expect(desk.say(undefined, { source: '198.51.100.3' })).toBe(1)
  })

  it('three times from a /64 keeps all of it waiting, and not the next', () => {
    const desk = new Desk()
    for (let n = 0; n < 3; n++) desk.fail(n, `2001:db8::${n + 1}`)
    const from = (source: string) => desk.say(undefined, { source })
    expect([from('2001:db8::ffff:1'), from('2001:db8:0:1::1')]).toEqual([0, 1])
  })

  it('is forgotten with its window, and what was said while it lasted may be said again', () => {
    const desk = new Desk()
    for (let n = 0; n < 3; n++) desk.fail(n)
    expect(desk.say()).toBe(0)
    desk.pass(15_000)
    expect(desk.say()).toBe(1)
  })

  it('twenty times on the server has all passcodes wait for the next window', () => {
    const desk = new Desk()
    const waits = () => desk.passcodes.waits(desk.now)
    for (let n = 0; n < 19; n++) desk.fail(n, `203.0.113.${n}`)
    expect(waits()).toBe(false)
    desk.fail(19, '203.0.113.19')
    expect([waits(), desk.say()]).toEqual([true, 0])
    desk.pass(15_000)
    expect([waits(), desk.say()]).toEqual([false, 1])
  })

  it('counts on over a change of keys', () => {
    const desk = new Desk()
    for (let n = 0; n < 3; n++) desk.fail(n)
    desk.setKeys([{ key, pin: PIN }])
    desk.compute()
    expect(desk.say()).toBe(0)
  })

  it('is not counted while codes are still being computed, nor is what is said then lost', () => {
    const desk = new Desk()
    desk.setKeys([{ key, pin: PIN }])
    expect(desk.say()).toBe(0)
    desk.compute()
    expect([desk.passcodes.sizes.failing, desk.say()]).toEqual([0, 1])
  })
})

describe('of many', () => {
  const sourceOf = (n: number) => `10.${n >> 16}.${(n >> 8) & 255}.${n & 255}`
  const ports = passcodePorts(PIN, passcode(key, WINDOW))

  it('sessions, so many are held and no more', () => {
    const desk = new Desk()
    for (let n = 0; n < MAX_PASSCODE_SESSIONS + 100; n++) desk.taps([ports[0]], { source: sourceOf(n), after: 0 })
    expect(desk.passcodes.sizes.sessions).toBe(MAX_PASSCODE_SESSIONS)
  })

  it('sessions, those with the fewest digits are forgotten, and then the oldest', () => {
    const desk = new Desk()
    desk.taps(ports.slice(0, 2))
    for (let n = 0; n < MAX_PASSCODE_SESSIONS; n++) desk.taps([ports[0]], { source: sourceOf(n), after: 0 })
    expect(desk.taps(ports.slice(2))).toBe(1)
    // The first of the others has made room; the second is still there.
    expect(desk.taps(ports.slice(1), { source: sourceOf(0), after: 0 })).toBe(0)
    expect(desk.taps(ports.slice(1), { source: sourceOf(MAX_PASSCODE_SESSIONS - 1), after: 0 })).toBe(1)
  })

  it('sessions, all are let go when they are over', () => {
    const desk = new Desk()
    for (let n = 0; n < 25_000; n++) desk.taps([ports[n % 12]], { source: sourceOf(n), after: 0 })
    for (let n = 0; n < 4; n++) desk.pass(n === 0 ? 60_000 : 1_000)
    expect(desk.passcodes.sizes.sessions).toBe(0)
  })

  it('failing sources, no more than failures are held', () => {
    const desk = new Desk()
    for (let n = 0; n < 100; n++) desk.fail(n, sourceOf(n))
    expect(desk.passcodes.sizes.failing).toBe(20)
  })

  it('windows, only the codes of those to come are held', () => {
    const desk = new Desk()
    for (let n = 0; n < 10; n++) desk.pass(30_000)
    expect(desk.passcodes.sizes.codes).toBe(4)
  })

  it('keys, each opens by its own code', () => {
    const keys = Array.from({ length: 150 }, (_, n) => ({ key: keyOf(n), pin: PIN }))
    const desk = new Desk({ keys })
    for (const [n, own] of keys.entries()) desk.say(passcode(own.key, WINDOW), { source: sourceOf(n) })
    expect(desk.passed.map((passed) => passed.key)).toEqual(keys.map((own) => own.key))
  })
})

describe('the ports', () => {
  it('are heard where a key has a passcode, and no others', () => {
    const { passcodes } = new Desk()
    const [low, high] = passcodeRange(BASE, 4)
    expect([low - 1, low, high, high + 1].map((port) => passcodes.hears(port))).toEqual([false, true, true, false])
  })

  it('are heard by nobody where no key has a passcode', () => {
    expect(new Desk({ keys: [] }).passcodes.hears(BASE)).toBe(false)
  })
})

it('in the ledger a passcode has the word for its V', () => {
  expect(Buffer.from(PASSCODE_V, 'hex')).toEqual(Buffer.concat([Buffer.from('passcode'), Buffer.alloc(8)]))
})

describe('the chance of a lucky guess a year', () => {
  const keys = (count: number, period = 30) => Array.from({ length: count }, () => ({ period }))

  it.each([
    ['one key without a PIN', keys(1), 0, 1, 0.63],
    ['one key with a PIN of 4 digits', keys(1), 4, 1, 0.000063],
    ['one key with a skew of 0', keys(1), 4, 0, 0.000021],
    ['one key with a skew of 10', keys(1), 4, 10, 0.000063],
    ['keys of periods that differ', [...keys(1, 300), ...keys(1, 30)], 4, 1, 0.00013],
    ['no key', [], 0, 1, 0],
  ])('is small or not: %s', (_, having, pinDigits, skew, chance) => {
    expect(Number(chanceOfGuess(having, pinDigits, skew).toPrecision(2))).toBe(chance)
  })

  it('allows 158 keys with a PIN of 4 digits', () => {
    expect([158, 159].map((count) => chanceOfGuess(keys(count), 4, 1) <= MAX_CHANCE)).toEqual([true, false])
  })
})
