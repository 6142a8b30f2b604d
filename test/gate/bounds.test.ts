import { beforeEach, describe, expect, it, vi } from 'vitest'
import { Budget, MAX_CANDIDATE_DECODES, MAX_DECODES } from '../../src/gate/listener/budget'
import { MAX_TALLIES } from '../../src/gate/listener/candidates'
import { MAX_EXPLAINED, MAX_EXPLAINED_OF_SESSION } from '../../src/gate/listener/explained'
import { MAX_SESSION_DECODES } from '../../src/gate/listener/session'
import { MAX_PORTS, MAX_SESSIONS, MAX_TAPS } from '../../src/gate/listener/sessions'
import { MAX_STRAYS } from '../../src/gate/listener/strays'
import { codebook, rendezvous } from '../../src/protocol/codebook'
import type { Key } from '../../src/protocol/key'
import { Ear, keyOf, knockOf, OTHER, POOL, SOURCE, seededRandom, WINDOW } from './listener/ear'

/** What was decoded and computed: `open` and `rendezvous` as they are, but counted. */
const work = vi.hoisted(() => ({ decodes: [] as { key: unknown; window: number }[], candidates: 0 }))
vi.mock('../../src/protocol/knock', async (original) => {
  const real = await original<typeof import('../../src/protocol/knock')>()
  const open: typeof real.open = (key, window, ...rest) => {
    work.decodes.push({ key, window })
    return real.open(key, window, ...rest)
  }
  return { ...real, open }
})
vi.mock('../../src/protocol/codebook', async (original) => {
  const real = await original<typeof import('../../src/protocol/codebook')>()
  const rendezvous: typeof real.rendezvous = (key, window) => {
    work.candidates++
    return real.rendezvous(key, window)
  }
  return { ...real, rendezvous }
})
beforeEach(() => {
  work.decodes = []
  work.candidates = 0
})

const key = keyOf(1)
const other = keyOf(2)
const RENDEZVOUS = [...rendezvous(key, WINDOW)]
const KNOCK = knockOf(key)
/** Ports that say nothing to a listener of this key in these windows. */
const MEANINGLESS = [...POOL].filter((port) => !KNOCK.includes(port))
/** Sources that anybody can forge. */
const forged = (i: number) => `10.${(i >> 16) & 255}.${(i >> 8) & 255}.${i & 255}`
const NOTHING = { sessions: 0, taps: 0, tallies: 0 }

const books = new Map<string, Uint16Array>()
function bookOf(by: Key, window: number): Uint16Array {
  const name = `${by.fingerprint} ${window}`
  const ports = books.get(name) ?? codebook(by, window).ports
  books.set(name, ports)
  return ports
}
/** The symbol ports of rubbish: one per page, so that it costs decodes. */
function rubbish(by: Key, window: number, i: number, pages = 44): number[] {
  const ports = bookOf(by, window)
  return Array.from({ length: pages }, (_, page) => ports[8 + 256 * page + ((i * 31 + page * page * 7 + page) & 255)])
}
/** What somebody who has heard the rendezvous sends from one forged source to make the daemon decode. */
function attack(ear: Ear, i: number, by = key, window = WINDOW, pages = 28, source = forged(i)): void {
  ear.taps([...bookOf(by, window).subarray(0, 4), ...rubbish(by, window, i, pages)], { source, after: 0 })
}

it('the bounds are those of docs/protocol.md', () => {
  expect({ MAX_STRAYS, MAX_SESSIONS, MAX_TAPS, MAX_PORTS, MAX_EXPLAINED, MAX_EXPLAINED_OF_SESSION }).toEqual({
    MAX_STRAYS: 4_096,
    MAX_SESSIONS: 65_536,
    MAX_TAPS: 2 ** 20,
    MAX_PORTS: 256,
    MAX_EXPLAINED: 4_096,
    MAX_EXPLAINED_OF_SESSION: 32,
  })
  expect({ MAX_DECODES, MAX_CANDIDATE_DECODES, MAX_SESSION_DECODES }).toEqual({
    MAX_DECODES: 2_000,
    MAX_CANDIDATE_DECODES: 500,
    MAX_SESSION_DECODES: 256,
  })
})

describe('memory', () => {
  it('holds 4,096 strays at most', () => {
    const ear = new Ear([key])
    for (let i = 0; i < 3 * MAX_STRAYS; i++) ear.tap(MEANINGLESS[i % 9000], { source: forged(i % 5000), after: 0 })
    expect(ear.listener.sizes.strays).toBe(MAX_STRAYS)
  })

  it('holds no more strays when sessions take theirs out', () => {
    const ear = new Ear([key])
    for (let i = 0; i < 3 * MAX_STRAYS; i++) {
      ear.tap(KNOCK[8 + (i % 44)], { source: forged(i % 50), after: 1 })
      if (i % 7 === 0) ear.tap(RENDEZVOUS[0], { source: forged(i % 350) })
      if (i % 1000 === 0) ear.wait(12_000)
      if (ear.listener.sizes.strays > MAX_STRAYS) break
    }
    expect(ear.listener.sizes.strays).toBeLessThanOrEqual(MAX_STRAYS)
  })

  it('holds 65,536 sessions at most, and half of them without a quorum', () => {
    const ear = new Ear([key])
    for (let i = 0; i < 70_000; i++) ear.tap(RENDEZVOUS[i & 7], { source: forged(i), after: 0 })
    expect(ear.listener.sizes.sessions).toBe(MAX_SESSIONS / 2)
  })

  it('holds 256 ports of a session at most, the latest', () => {
    const ear = new Ear([key])
    ear.taps([RENDEZVOUS[0], ...POOL.subarray(0, 5000)])
    expect(ear.listener.sizes.taps).toBe(MAX_PORTS)
  })

  it('holds 2^20 taps at most, and half of them without a quorum', () => {
    const ear = new Ear([key])
    for (let i = 0; i < 2200; i++) ear.taps([RENDEZVOUS[0], ...POOL.subarray(0, 300)], { source: forged(i), after: 0 })
    expect(ear.listener.sizes.taps).toBeLessThanOrEqual(MAX_TAPS / 2)
  })

  it('holds 2^19 taps at most of sessions with a quorum', () => {
    const ear = new Ear([key])
    for (let i = 0; i < 18_000; i++) attack(ear, i)
    expect(ear.listener.sizes.taps).toBeLessThanOrEqual(MAX_TAPS / 2)
  })

  it('holds 16 MB of tallies at most, and hears knocks of sessions without one', () => {
    // As many as have tallies of 2 KB.
    const ear = new Ear(Array.from({ length: 350 }, (_, n) => keyOf(n + 1)))
    for (let i = 0; i < 9_000; i++) ear.taps([RENDEZVOUS[0], ...MEANINGLESS.slice(0, 32)], { source: forged(i), after: 0 })
    ear.taps(KNOCK)
    ear.wait(60)
    expect([ear.listener.sizes.tallies, ear.knocks.length]).toEqual([MAX_TALLIES, 1])
  })

  it('holds 256 codebooks at most', () => {
    const keys = Array.from({ length: 100 }, (_, n) => keyOf(n))
    const ear = new Ear(keys)
    for (const [n, by] of keys.entries()) {
      for (const step of [-1, 0, 1]) attack(ear, 3 * n + step, by, WINDOW + step)
      ear.wait(20)
    }
    expect(ear.listener.sizes.codebooks).toBe(256)
  })

  it('explains 4,096 knocks at most', () => {
    const ear = new Ear([key])
    const knock = KNOCK.slice(4, 36)
    for (let i = 0; i < MAX_EXPLAINED + 10; i++) ear.taps(knock, { source: forged(i), after: 0.1 })
    expect([ear.knocks.length, ear.listener.sizes.explained]).toEqual([MAX_EXPLAINED + 10, MAX_EXPLAINED])
  })

  it('explains 32 knocks of one session at most', () => {
    const ear = new Ear([key])
    for (let n = 0; n < 40; n++) {
      ear.taps(knockOf(key, n), { after: 0.1 })
      ear.wait(100)
    }
    expect([ear.knocks.length, ear.listener.sizes.explained]).toEqual([40, MAX_EXPLAINED_OF_SESSION])
  })

  it('is given back 11 s after a flood', () => {
    const ear = new Ear([key])
    for (let i = 0; i < 2_000; i++) {
      attack(ear, i)
      ear.tap(RENDEZVOUS[0], { source: forged(100_000 + i) })
    }
    ear.wait(11_500)
    expect(ear.listener.sizes).toMatchObject(NOTHING)
  })

  it('is counted right however often sessions gain and lose their quorum: in the end none is left', () => {
    const ear = new Ear([key, other])
    const random = seededRandom(7)
    const of = (ports: ArrayLike<number>) => ports[Math.floor(random() * ports.length)] as number
    for (let round = 0; round < 300; round++) {
      const source = forged(Math.floor(random() * 20))
      // With 256 ports in a session, each new one pushes out the oldest: a rendezvous port, perhaps.
      const noise = Array.from({ length: Math.floor(random() * 300) }, () => of(POOL))
      ear.taps([...RENDEZVOUS, ...noise, ...knockOf(random() < 0.5 ? key : other, round)], {
        source,
        after: random() < 0.1 ? 20 : 0.01,
      })
      if (random() < 0.3) ear.wait(10 * Math.floor(random() * 200))
      const { sessions, taps } = ear.listener.sizes
      expect([taps >= sessions, taps <= 20 * MAX_PORTS]).toEqual([true, true])
    }
    ear.wait(11_500)
    expect(ear.listener.sizes).toMatchObject(NOTHING)
  })

  it('leaves nothing to be done 11 s after a flood', () => {
    const ear = new Ear([key])
    for (let i = 0; i < 2_000; i++) attack(ear, i)
    ear.wait(15_000)
    expect(ear.listener.busy).toBe(false)
  })
})

describe('a flood of forged sources', () => {
  it('on rendezvous ports does not push out a session with a quorum', () => {
    const ear = new Ear([key])
    ear.taps(KNOCK.slice(0, 8 + 27))
    for (let i = 0; i < 200_000; i++) ear.tap(RENDEZVOUS[i & 7], { source: forged(i), after: 0.01 })
    ear.tap(KNOCK[8 + 27])
    expect(ear.salts).toEqual([1])
  })

  it('with a quorum each does not push out a session without', () => {
    const ear = new Ear([key, other])
    ear.taps(knockOf(other).slice(0, 8 + 20))
    for (let i = 0; i < 20_000; i++) attack(ear, i)
    ear.taps(knockOf(other).slice(8 + 20))
    ear.wait(200)
    expect(ear.salts).toEqual([1])
  })

  it('pushes out the oldest first, and not the newcomer', () => {
    const ear = new Ear([key])
    for (let i = 0; i < 40_000; i++) ear.tap(RENDEZVOUS[i & 7], { source: forged(i), after: 0 })
    ear.taps(KNOCK.slice(0, 8 + 20))
    for (let i = 0; i < 20_000; i++) ear.tap(RENDEZVOUS[i & 7], { source: forged(i), after: 0 })
    ear.taps(KNOCK.slice(8 + 20))
    expect(ear.salts).toEqual([1])
  })
})

describe('decodes', () => {
  /** Floods for a second with rubbish for some keys and windows, with many sessions each. */
  function flood(ear: Ear, targets: [Key, number][]): void {
    for (let i = 0; i < 2_000; i++) {
      const [by, window] = targets[i % targets.length]
      attack(ear, i, by, window, 44)
      ear.pass(0.5)
      if (i % 20 === 0) ear.due()
    }
  }

  it('are 500 a second at most for one key and window', () => {
    flood(new Ear([key]), [[key, WINDOW]])
    // A codebook costs as much as eight.
    expect(work.decodes.length).toBeGreaterThan(0.9 * MAX_CANDIDATE_DECODES)
    expect(work.decodes.length).toBeLessThanOrEqual(MAX_CANDIDATE_DECODES)
  })

  it('are 2,000 a second at most for all keys and windows', () => {
    const keys = [1, 2, 3, 4].map((n) => keyOf(n))
    flood(
      new Ear(keys),
      keys.flatMap((by) => [-1, 0, 1].map((step): [Key, number] => [by, WINDOW + step])),
    )
    expect(work.decodes.length).toBeGreaterThan(0.9 * MAX_DECODES)
    expect(work.decodes.length).toBeLessThanOrEqual(MAX_DECODES)
  })

  /** Sends rubbish from one address for some seconds. */
  function wearOut(ear: Ear, seconds: number): void {
    for (let turn = 0; turn < 5 * seconds; turn++) {
      ear.taps([...RENDEZVOUS, ...rubbish(key, WINDOW, turn)], { after: 0 })
      ear.wait(200)
    }
  }

  it('are 256 a session at most in ten seconds', () => {
    wearOut(new Ear([key]), 10)
    expect(work.decodes.length).toBe(MAX_SESSION_DECODES)
  })

  it('that rubbish has used up are there again ten seconds later, though the rendezvous is touched on and on', () => {
    const ear = new Ear([key])
    wearOut(ear, 10)
    for (let second = 0; second < 11; second++) {
      ear.wait(1_000)
      ear.taps(RENDEZVOUS)
    }
    ear.taps(knockOf(key, 2))
    expect(ear.salts).toEqual([2])
  })

  it('are none without a quorum, whatever else is touched', () => {
    const ear = new Ear([key])
    for (let i = 0; i < 100; i++) {
      ear.taps([...KNOCK.slice(0, 3), ...MEANINGLESS.slice(i * 100, i * 100 + 100)], { source: forged(i) })
    }
    ear.wait(15_000)
    expect(work.decodes.length).toBe(0)
  })

  it('for a key whose rendezvous is heard and flooded starve no other key', () => {
    const ear = new Ear([key, other])
    let opened = -1
    for (let i = 0; i < 4_000 && opened < 0; i++) {
      attack(ear, i, key, WINDOW + (i % 3) - 1, 44)
      ear.pass(0.5)
      if (i % 20 === 0) ear.due()
      if (i !== 3_000) continue
      ear.taps(knockOf(other), { source: SOURCE })
      opened = ear.salts.length
    }
    expect(opened).toBe(1)
  })

  it('that wait are given to whom has had the fewest', () => {
    const ear = new Ear([key])
    // The same window as the flood's: the newcomer waits for the next share of it, and is the first then.
    for (let i = 0; i < 200; i++) attack(ear, i, key, WINDOW, 44)
    ear.taps(KNOCK, { source: OTHER })
    ear.wait(2_000)
    expect(ear.salts).toEqual([1])
  })
})

describe('attempts', () => {
  /** What was taken of the budget for so many pages, of each of which two symbols are heard, so that none is settled. */
  function takenFor(pages: number): number {
    const taken = vi.spyOn(Budget.prototype, 'takeAttempt')
    const ear = new Ear([key])
    const [one, two] = [1, 2].map((i) => rubbish(key, WINDOW, i, pages))
    ear.taps([...RENDEZVOUS.slice(0, 4), ...one.flatMap((port, page) => [port, two[page]])], { after: 0 })
    ear.wait(60)
    const { length } = taken.mock.results
    taken.mockRestore()
    return length
  }

  it('count where it turns out that there is nothing to decode', () => {
    expect([takenFor(28), work.decodes.length]).toEqual([1, 0])
  })

  it('are none where too few pages have any symbol', () => {
    expect(takenFor(27)).toBe(0)
  })

  it('are those of one source for all addresses of a /64', () => {
    const ear = new Ear([key])
    for (let i = 0; i < 1_000; i++) attack(ear, i, key, WINDOW, 28, `2001:db8:1:1::${i.toString(16)}`)
    ear.taps(KNOCK, { source: '2001:db8:1:2::1' })
    // The first attempts of so many sources would take two seconds.
    ear.wait(500)
    expect(ear.salts).toEqual([1])
  })
})

describe('the table', () => {
  const keys = Array.from({ length: 10_000 }, (_, n) => keyOf(n))

  it.each([
    [350, true],
    [400, false],
  ])('with %i keys names wrong clocks: %s', (count, names) => {
    expect(new Ear(keys.slice(0, count)).listener.namesWrongClocks).toBe(names)
  })

  it('with 400 keys leaves a far window silent', () => {
    const ear = new Ear(keys.slice(0, 400))
    ear.taps(knockOf(keys[0], 1, WINDOW + 3))
    ear.wait(12_000)
    expect(ear.salts).toEqual([])
  })

  it('with 10,000 keys is computed in slices of 128 candidates at most', () => {
    const ear = new Ear([])
    ear.listener.setKeys(keys)
    const slices: number[] = []
    for (let complete = false; !complete; ) {
      const before = work.candidates
      complete = ear.listener.prepare(ear.now)
      slices.push(work.candidates - before)
    }
    expect(Math.max(...slices)).toBeLessThanOrEqual(128)
    expect(work.candidates).toBe(5 * keys.length)
  })

  it('with 10,000 keys lets the last be heard', () => {
    const ear = new Ear(keys)
    ear.taps(knockOf(keys[9_999]))
    ear.wait(200)
    expect(ear.knocks.map((knock) => knock.key === keys[9_999])).toEqual([true])
  })

  it('has the windows to come ready before their time', () => {
    const ear = new Ear(keys.slice(0, 10))
    ear.wait(1_000)
    work.candidates = 0
    ear.wait(13_900)
    expect(work.candidates).toBe(0)
  })
})
