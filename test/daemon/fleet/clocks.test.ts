import { describe, expect, it } from 'vitest'
import { ClockOfOther, judgeClocks, maySetBase, type OtherClock } from '../../../src/daemon/fleet/clocks'

const WINDOW = 30_000
const other = (offset: number, synchronised: boolean | null = true, name = 'gw2'): OtherClock => ({ name, offset, synchronised })

describe('the clock of another gateway', () => {
  /** What it is found to be ahead by, when its beats came so many milliseconds late. */
  const heard = (delays: readonly number[], ahead = 5_000) => {
    const clock = new ClockOfOther()
    for (const [i, delay] of delays.entries()) {
      const sent = 2_000 * i
      clock.hear(
        { wall: 1_000_000 + sent + ahead, steady: 70_000 + sent },
        { wall: 1_000_000 + sent + delay, steady: sent + delay },
      )
    }
    const last = 2_000 * (delays.length - 1)
    return clock.ahead({ wall: 1_000_000 + last + 100, steady: last + 100 })
  }

  it('is not known before it was heard', () => {
    expect(new ClockOfOther().ahead({ wall: 0, steady: 0 })).toBeNull()
  })

  it('is known as well as the quickest of its last eight beats came', () => {
    expect(heard([900, 20, 4_000, 300])).toBe(4_980)
    expect(heard([0, 500, 500, 500, 500, 500, 500, 500, 500])).toBe(4_500)
  })

  it('is known anew at the next beat where it was set, whatever that took', () => {
    const clock = new ClockOfOther()
    clock.hear({ wall: 1_000_000, steady: 70_000 }, { wall: 1_000_000, steady: 0 })
    clock.hear({ wall: 902_000, steady: 72_000 }, { wall: 1_003_500, steady: 3_500 })
    expect(clock.ahead({ wall: 1_003_500, steady: 3_500 })).toBe(-100_000)
  })

  it('is known at once where this machine’s own was set', () => {
    const clock = new ClockOfOther()
    clock.hear({ wall: 1_000_000, steady: 70_000 }, { wall: 1_000_000, steady: 0 })
    expect(clock.ahead({ wall: 1_061_000, steady: 1_000 })).toBe(-60_000)
  })
})

describe('a gateway among three and more', () => {
  it.each([
    ['goes on where all agree', [10, -20], false],
    ['goes on where one of the others is off', [10, 90_000], false],
    ['stops where it is a whole window behind all', [30_000, 30_000], true],
    ['stops where it is a whole window ahead of all', [-30_000, -30_100], true],
    ['goes on where it is less than a window off', [29_999, 29_999], false],
    ['stops where half of the others are far ahead, so that none is known to be right', [0, 60_000, 60_000], true],
    ['goes on where it is one of most', [0, 10, 90_000, 90_000], false],
  ])('%s', (_, offsets, stops) => {
    const clocks = offsets.map((offset, i) => other(offset, null, `gw${i + 2}`))
    expect(judgeClocks(null, clocks, WINDOW).stops !== null).toBe(stops)
  })

  it('says who is off', () => {
    expect(judgeClocks(true, [other(5), other(-45_000, true, 'gw3')], WINDOW).says).toBe(
      'clocks are off the median of 3 gateways: gw3 (45.0 s behind)',
    )
  })
})

describe('of two gateways whose clocks differ by a window', () => {
  it.each([
    ['this one stops that is not synchronised', false, true, true],
    ['this one goes on that is synchronised, where the other one is not', true, false, false],
    ['this one stops where neither is synchronised', false, false, true],
    ['this one goes on where both are synchronised', true, true, false],
    ['this one stops of which nobody says so, where the other one is synchronised', null, true, true],
    ['this one goes on where nobody says anything of either', null, null, false],
    ['this one goes on of which nobody says so, where the other one is not synchronised', null, false, false],
  ] as const)('%s', (_, own, their, stops) => {
    const { stops: why, says } = judgeClocks(own, [other(30_000, their)], WINDOW)
    expect(why !== null).toBe(stops)
    expect(why ?? says).toMatch(/^the clocks differ: this one is 30\.0 s behind that of gw2/)
  })

  it('one stops at least, unless nobody knows which is wrong', () => {
    const words = [true, false, null]
    for (const a of words) {
      for (const b of words) {
        const stopped = [judgeClocks(a, [other(40_000, b)], WINDOW), judgeClocks(b, [other(-40_000, a)], WINDOW)].filter(
          ({ stops }) => stops !== null,
        )
        const isUnknown = a === b && a !== false
        expect([a, b, stopped.length > 0]).toEqual([a, b, !isUnknown])
      }
    }
  })

  it('nothing is said of two that agree, and of one that is alone', () => {
    expect(judgeClocks(false, [other(29_000, true)], WINDOW)).toEqual({ stops: null, says: null })
    expect(judgeClocks(false, [], WINDOW)).toEqual({ stops: null, says: null })
  })
})

describe('who may say from when on a fleet knows the past', () => {
  it.each([
    ['synchronised, and another one agrees', true, [other(1_900, null)], true],
    ['synchronised, and one of several agrees', true, [other(90_000), other(-100)], true],
    ['synchronised, and nobody speaks', true, [], false],
    ['synchronised, and the other one is two seconds and more off', true, [other(2_001)], false],
    ['known not to be synchronised', false, [other(0)], false],
    ['not known to be synchronised', null, [other(0)], false],
  ] as const)('%s: %#', (_, own, others, may) => {
    expect(maySetBase(own, others, WINDOW)).toBe(may)
  })

  it('agrees more closely where windows are short', () => {
    expect(maySetBase(true, [other(600)], 1_000)).toBe(false)
  })
})
