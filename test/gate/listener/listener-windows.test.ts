import { describe, expect, it } from 'vitest'
import { Ear, keyOf, knockOf, MIDDLE, WINDOW } from './ear'

const key = keyOf(1)
const BEFORE_THE_NEXT = (WINDOW + 1) * 30 - 0.5
const arrivals = (ear: Ear) => ear.knocks.map(({ arrival }) => arrival)

/** What becomes of a knock for the window `step` away, at `second` of this window. */
function arrivalOf(step: number, skew: number, second = 15): string[] {
  const ear = new Ear([key], { skew, seconds: WINDOW * 30 + second })
  ear.taps(knockOf(key, 1, WINDOW + step))
  ear.wait(12_000)
  return arrivals(ear)
}

describe('a knock for the window', () => {
  it.each([
    [-1, 1, 'timely'],
    [0, 1, 'timely'],
    [1, 1, 'timely'],
    [-2, 1, 'stale'],
    [2, 1, 'future'],
    [-11, 1, 'stale'],
    [11, 1, 'future'],
    [0, 0, 'timely'],
    [-1, 0, 'stale'],
    [1, 0, 'future'],
    [-10, 10, 'timely'],
    [10, 10, 'timely'],
    [-11, 10, 'stale'],
    [11, 10, 'future'],
  ])('%i away is, with a skew of %i, %s', (step, skew, arrival) => {
    expect(arrivalOf(step, skew)).toEqual([arrival])
  })

  // A window beyond: one is held in advance.
  it.each([-13, 13])('%i away is silence', (step) => {
    expect(arrivalOf(step, 1)).toEqual([])
  })

  it.each([
    [9, 'timely'],
    [11, 'stale'],
  ])('before is, with a skew of 0, %i s after its end %s', (second, arrival) => {
    expect(arrivalOf(-1, 0, second)).toEqual([arrival])
  })
})

describe('a knock for a far window', () => {
  it('of the future is reported at once, so that it can be written down before its window comes', () => {
    const ear = new Ear([key])
    ear.taps(knockOf(key, 1, WINDOW + 2))
    expect(arrivals(ear)).toEqual(['future'])
  })

  it.each([
    ['goes on with other taps', (ear: Ear, n: number) => ear.tap(50_000 + n)],
    ['goes on with other knocks', (ear: Ear, n: number) => ear.taps(knockOf(key, 100 + n, WINDOW + 2))],
  ])('of the future is reported though its source %s', (_, noise) => {
    const ear = new Ear([key])
    for (let n = 0; n < 4; n++) {
      noise(ear, n)
      ear.wait(5_000)
    }
    ear.taps(knockOf(key, 1, WINDOW + 3))
    expect(ear.salts).toContain(1)
  })

  it('of the past is not reported before its session ends', () => {
    const ear = new Ear([key])
    ear.taps(knockOf(key, 1, WINDOW - 2))
    ear.wait(9_900)
    expect(ear.salts).toEqual([])
  })

  it('is reported once, however many passes it has', () => {
    const ear = new Ear([key])
    for (let pass = 0; pass < 3; pass++) {
      ear.taps(knockOf(key, 1, WINDOW - 2))
      ear.wait(1_000)
    }
    ear.wait(12_000)
    expect(arrivals(ear)).toEqual(['stale'])
  })

  it('of the past is reported at the end of input', () => {
    const ear = new Ear([key])
    ear.taps(knockOf(key, 1, WINDOW - 2))
    expect(ear.listener.end(ear.now).map(({ arrival }) => arrival)).toEqual(['stale'])
  })

  it('is not reported where it is no knock', () => {
    const ear = new Ear([key])
    ear.taps([...knockOf(key, 1, WINDOW - 2).slice(0, 8), ...knockOf(key, 1, WINDOW - 3).slice(8)])
    ear.wait(12_000)
    expect(ear.salts).toEqual([])
  })

  it('is not reported 11 times in a second', () => {
    const ear = new Ear([key])
    const ports = knockOf(key, 1, WINDOW - 2)
    for (let i = 0; i < 30; i++) ear.taps(ports, { source: `203.0.113.${i}` })
    ear.wait(13_000)
    expect(ear.salts.length).toBeLessThanOrEqual(10)
  })
})

describe('a knock is judged by the arrival of its newest tap', () => {
  const LAST = knockOf(key, 1, WINDOW - 1)

  it('that comes in time, though the knock is understood when the window has passed', () => {
    const ear = new Ear([key], { seconds: (WINDOW + 1) * 30 - 0.01 })
    // Page 0 has two symbols: a tie, which is settled by chance, and only when the burst has had its time.
    ear.taps([knockOf(key, 2, WINDOW - 1)[8], ...LAST.slice(0, 8 + 28)])
    expect(arrivals(ear)).toEqual([])
    ear.wait(1_000)
    expect(arrivals(ear)).toEqual(['timely'])
  })

  it('that comes too late for the 28th symbol', () => {
    const ear = new Ear([key], { seconds: BEFORE_THE_NEXT })
    ear.taps(LAST.slice(0, 8 + 27))
    ear.wait(600)
    ear.taps(LAST.slice(8 + 27, 8 + 28))
    ear.wait(12_000)
    expect(arrivals(ear)).not.toContain('timely')
  })

  it('that would come when its window, once future, is accepted: too late, the knock has been written down', () => {
    const ear = new Ear([key], { seconds: BEFORE_THE_NEXT })
    const ports = knockOf(key, 1, WINDOW + 2)
    ear.taps(ports)
    ear.wait(1_000)
    ear.taps(ports)
    ear.wait(12_000)
    expect(arrivals(ear)).toEqual(['future'])
  })

  it('and not by a stranger’s tap after it', () => {
    const ear = new Ear([key], { seconds: (WINDOW + 1) * 30 - 0.01 })
    // A tie again: when it is settled, the stranger's tap is there, and the window is accepted.
    ear.taps([knockOf(key, 2, WINDOW + 2)[8], ...knockOf(key, 1, WINDOW + 2).slice(0, 8 + 28)])
    ear.tap(60_000, { after: 10 })
    ear.wait(12_000)
    expect(arrivals(ear)).toEqual(['future'])
  })
})

describe('a clock', () => {
  it('that is set forward an hour lets the windows of then be heard', () => {
    const ear = new Ear([key])
    ear.wall += 3_600_000
    ear.wait(100)
    ear.taps(knockOf(key, 1, WINDOW + 120))
    expect(arrivals(ear)).toEqual(['timely'])
  })

  it('that is set back an hour lets the windows of then be heard', () => {
    const ear = new Ear([key])
    ear.wall -= 3_600_000
    ear.wait(100)
    ear.taps(knockOf(key, 1, WINDOW - 120))
    expect(arrivals(ear)).toEqual(['timely'])
  })

  it('near 1970 has no windows before it', () => {
    const ear = new Ear([key], { seconds: 10 })
    ear.taps(knockOf(key, 1, 0))
    expect(arrivals(ear)).toEqual(['timely'])
  })
})

it('without a call in between, the windows beside the first one are there for a whole window', () => {
  const ear = new Ear([key], { seconds: MIDDLE })
  ear.pass(30_000)
  ear.taps(knockOf(key, 1, WINDOW + 2))
  expect(arrivals(ear)).toEqual(['timely'])
})
