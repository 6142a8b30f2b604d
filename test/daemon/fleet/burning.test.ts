import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { Burning, BurnQueue, MAX_BURNING, MAX_BURNING_OF_KEY } from '../../../src/daemon/fleet/burning'
import type { Attempt } from '../../../src/daemon/fleet/claim'
import { KEY, knock, type Saying } from '../../gate/disk'
import { MIDDLE, WINDOW } from '../../gate/listener/ear'

const attemptOf = (saying: Saying = {}, fingerprint = KEY): Attempt => ({
  ...{ knock: knock(saying), fingerprint, raises: false },
  spent: { attempt: saying.v ?? 'a', gateway: 'gw1', source: '', until: 0 },
})
/** A moment, in milliseconds after the middle of the window. */
const at = (steady: number, wall = steady) => ({ wall: MIDDLE * 1000 + wall, steady })
const vs = (waiting: readonly { readonly attempt: Attempt }[]) => waiting.map(({ attempt }) => attempt.knock.v)

describe('a knock that is to be dead', () => {
  it('is asked for at once, or after a grace', () => {
    const queue = new BurnQueue(1)
    queue.add(attemptOf({ v: 'a' }), 0, at(0))
    queue.add(attemptOf({ v: 'b' }), 5_000, at(0))
    expect([vs(queue.take(at(0))), queue.next(), vs(queue.take(at(4_999))), vs(queue.take(at(5_000)))]).toEqual([
      ['a'],
      5_000,
      [],
      ['b'],
    ])
  })

  it('is asked for again, ever later and every 5 s at most, until it is known to be dead', () => {
    const queue = new BurnQueue(1)
    queue.add(attemptOf(), 0, at(0))
    const times: number[] = []
    for (let now = 0; times.length < 7; now = queue.next() ?? Infinity) {
      const [waiting] = queue.take(at(now))
      if (waiting) queue.told(waiting, false, at(now))
      times.push(now)
    }
    expect(times).toEqual([0, 250, 750, 1_750, 3_750, 7_750, 12_750])
    const [waiting] = queue.take(at(20_000))
    if (waiting) queue.told(waiting, true, at(20_000))
    expect([queue.size, queue.next()]).toEqual([0, null])
  })

  it('is not asked for twice at a time', () => {
    const queue = new BurnQueue(1)
    queue.add(attemptOf(), 0, at(0))
    queue.take(at(0))
    expect([queue.take(at(60_000)), queue.next(), queue.size]).toEqual([[], null, 1])
  })

  it('is let go of when the answer comes, where it is over meanwhile', () => {
    const queue = new BurnQueue(1)
    queue.add(attemptOf(), 0, at(0))
    const [waiting] = queue.take(at(0))
    queue.take(at(100_000))
    const size = queue.size
    if (waiting) queue.told(waiting, false, at(100_000))
    queue.take(at(200_000))
    expect([size, queue.size]).toEqual([1, 0])
  })

  // With a skew of 1, window W is accepted until the end of W + 1, which is 45 s from the middle of W.
  it.each([
    [74_999, 1],
    [75_000, 0],
  ])('is let go of a window after no gateway takes it: after %i ms %i waits', (time, left) => {
    const queue = new BurnQueue(1)
    queue.add(attemptOf(), 1_000_000, at(0))
    queue.take(at(time))
    expect(queue.size).toBe(left)
  })

  it.each([
    ['forward', 1_000, 3_600_000],
    ['back', 3_600_000, 1_000],
  ])('is not let go of by a clock that was set %s', (_, steady, wall) => {
    const queue = new BurnQueue(1)
    queue.add(attemptOf(), 10_000_000, at(0))
    queue.take(at(steady, wall))
    expect(queue.size).toBe(1)
  })

  it('leaves room for those of other keys', () => {
    const queue = new BurnQueue(1)
    for (let i = 0; i < MAX_BURNING_OF_KEY; i++) queue.add(attemptOf({ v: `${i}` }), 0, at(0))
    expect([queue.add(attemptOf({ v: 'one more' }), 0, at(0)), queue.add(attemptOf({}, 'decade'), 0, at(0))]).toEqual([
      false,
      true,
    ])
  })

  it('gives its room back', () => {
    const queue = new BurnQueue(1)
    for (let i = 0; i < MAX_BURNING_OF_KEY; i++) queue.add(attemptOf({ v: `${i}` }), 0, at(0))
    for (const waiting of queue.take(at(0))) queue.told(waiting, true, at(0))
    expect([queue.size, queue.add(attemptOf({ v: 'one more' }), 0, at(0))]).toEqual([MAX_BURNING_OF_KEY - 16, true])
  })

  it('is one of 8,192 at most', () => {
    const queue = new BurnQueue(1)
    const kept = Array.from({ length: 20 * MAX_BURNING_OF_KEY }, (_, i) =>
      queue.add(attemptOf({ v: `${i}` }, `${i % 20}`), 0, at(0)),
    )
    expect([kept.filter((isKept) => isKept).length, queue.size]).toEqual([MAX_BURNING, MAX_BURNING])
  })

  it('is asked for with 15 others at a time, those that have waited longest first', () => {
    const queue = new BurnQueue(1)
    for (let i = 0; i < 40; i++) queue.add(attemptOf({ v: `${i}` }), 40 - i, at(0))
    const first = queue.take(at(100))
    expect([vs(first)[0], first.length, queue.take(at(100)), queue.next()]).toEqual(['39', 16, [], null])
    if (first[0]) queue.told(first[0], true, at(100))
    expect(vs(queue.take(at(100)))).toEqual(['23'])
  })
})

describe('making knocks dead', () => {
  beforeEach(() => void vi.useFakeTimers())
  afterEach(() => void vi.useRealTimers())

  function burning(burn: (attempt: Attempt) => Promise<boolean>) {
    const warnings: string[] = []
    const now = () => at(performance.now())
    return { warnings, burning: new Burning({ skew: 1, now, warn: (message) => warnings.push(message), burn }) }
  }

  it('goes on by itself until each is dead, whatever is thrown', async () => {
    const outcomes: (() => Promise<boolean>)[] = [
      async () => false,
      () => Promise.reject(new Error('no answer')),
      async () => true,
    ]
    let asked = 0
    const { burning: it } = burning(() => outcomes[asked++]?.() ?? Promise.resolve(true))
    it.add(attemptOf())
    await vi.advanceTimersByTimeAsync(10_000)
    expect([asked, it.size]).toEqual([3, 0])
  })

  it('goes through a crowd without a pause', async () => {
    const { burning: it } = burning(async () => true)
    for (let i = 0; i < 100; i++) it.add(attemptOf({ v: `${i}` }))
    await vi.advanceTimersByTimeAsync(10)
    expect(it.size).toBe(0)
  })

  it('says once a minute for how many there was no room', async () => {
    const { burning: it, warnings } = burning(async () => false)
    for (let i = 0; i < MAX_BURNING_OF_KEY + 3; i++) it.add(attemptOf({ v: `${i}`, window: WINDOW + 100 }))
    await vi.advanceTimersByTimeAsync(60_000)
    it.add(attemptOf({ v: 'x', window: WINDOW + 100 }))
    expect(warnings).toEqual([expect.stringMatching(/no room \(1\)/), expect.stringMatching(/no room \(3\)/)])
    await it.end(1)
  })

  it('asks at its end for all that waits, those in their grace as well, and then never again', async () => {
    const asked: string[] = []
    const { burning: it } = burning(async ({ knock: { v } }) => {
      asked.push(v)
      return v !== '7'
    })
    for (let i = 0; i < 40; i++) it.add(attemptOf({ v: `${i}` }), 5_000)
    await it.end(5_000)
    await vi.advanceTimersByTimeAsync(100_000)
    expect([asked.length, it.size]).toEqual([40, 1])
  })

  it('waits at its end no longer than it is told', async () => {
    const { burning: it } = burning(() => new Promise(() => {}))
    it.add(attemptOf())
    const ended = it.end(5_000)
    await vi.advanceTimersByTimeAsync(5_000)
    await expect(ended).resolves.toBeUndefined()
  })
})
