import { describe, expect, it } from 'vitest'
import { Deafness } from '../../src/gate/deafness'

const GRACE = 5_000
const MINUTE = 60_000
/** What each look gives: [packets logged, taps heard, seconds]. */
const looks = (...all: [number, number, number][]) => {
  const deafness = new Deafness()
  return all.map(([logged, heard, seconds]) => deafness.look({ logged, arrived: heard, read: heard }, seconds * 1000))
}
/** What looks give at these milliseconds, when before each one more packet has been logged and has arrived, and none could be read. */
const oddLooks = (...times: number[]) => {
  const deafness = new Deafness()
  deafness.look({ logged: 0, arrived: 0, read: 0 }, 0)
  return times.map((steady, i) => deafness.look({ logged: 1 + i, arrived: 1 + i, read: 0 }, steady))
}

describe('a daemon', () => {
  it('is deaf when the firewall logs and nothing comes', () => {
    expect(looks([0, 0, 0], [52, 0, 10], [52, 0, 20])).toEqual([null, null, 'deaf'])
  })

  it('is deaf when it has heard before', () => {
    expect(looks([0, 0, 0], [52, 52, 10], [104, 52, 20], [104, 52, 30])).toEqual([null, null, null, 'deaf'])
  })

  it('is deaf once', () => {
    expect(looks([0, 0, 0], [1, 0, 10], [2, 0, 20], [3, 0, 30], [4, 0, 40])).toEqual([null, null, 'deaf', null, null])
  })

  it('hears again when taps come, once', () => {
    expect(looks([0, 0, 0], [1, 0, 10], [2, 0, 20], [2, 1, 30], [3, 2, 40]).slice(2)).toEqual(['deaf', 'recovered', null])
  })

  it('is deaf again after that', () => {
    expect(looks([0, 0, 0], [1, 0, 10], [1, 0, 20], [2, 1, 30], [3, 1, 40], [3, 1, 50]).at(-1)).toBe('deaf')
  })

  it('is not deaf when nothing is logged', () => {
    expect(looks([0, 0, 0], [0, 0, 10], [0, 0, 20], [0, 0, 1000])).toEqual([null, null, null, null])
  })

  it('is not deaf for what was logged before it looked', () => {
    expect(looks([1_000_000, 0, 0], [1_000_000, 0, 10], [1_000_000, 0, 20])).toEqual([null, null, null])
  })

  it('is not deaf while taps are under way', () => {
    const deafness = new Deafness()
    deafness.look({ logged: 0, arrived: 0, read: 0 }, 0)
    deafness.look({ logged: 1, arrived: 0, read: 0 }, 10)
    expect(deafness.look({ logged: 2, arrived: 0, read: 0 }, 10 + GRACE - 1)).toBeNull()
    expect(deafness.look({ logged: 2, arrived: 0, read: 0 }, 10 + GRACE)).toBe('deaf')
  })

  it('is not deaf when fewer come than are logged', () => {
    expect(looks([0, 0, 0], [100, 1, 10], [200, 2, 20], [300, 3, 30])).toEqual([null, null, null, null])
  })

  it('is not deaf when the counter starts anew', () => {
    expect(looks([500, 0, 0], [0, 0, 10], [0, 0, 20])).toEqual([null, null, null])
  })

  it('is deaf when the counter starts anew and rises', () => {
    expect(looks([500, 0, 0], [0, 0, 10], [7, 0, 20], [7, 0, 30])).toEqual([null, null, null, 'deaf'])
  })
})

describe('what arrives and can’t be read', () => {
  it('is heard: nobody is deaf', () => {
    expect(oddLooks(10_000, 20_000, 30_000, 40_000)).toEqual([null, null, null, null])
  })

  it('is told after a minute of nothing else, once', () => {
    expect(oddLooks(1, 30_000, MINUTE, MINUTE + 1, MINUTE + 10_000)).toEqual([null, null, null, 'unreadable', null])
  })

  it('is not told where it has not gone on for a minute', () => {
    expect(oddLooks(1, MINUTE + 2, 2 * MINUTE + 3)).toEqual([null, null, null])
  })

  it('is not told where it came once, and nothing since', () => {
    const deafness = new Deafness()
    const told = [0, 10, 20, 70, 80].map((seconds) => deafness.look({ logged: 9, arrived: 1, read: 0 }, seconds * 1000))
    expect(told).toEqual([null, null, null, null, null])
  })

  it('is not told while taps are among it', () => {
    const deafness = new Deafness()
    const told = Array.from({ length: 20 }, (_, i) => deafness.look({ logged: 9 * i, arrived: 9 * i, read: i }, 10_000 * i))
    expect(told).toEqual(Array(20).fill(null))
  })

  it('ends a deafness', () => {
    const deafness = new Deafness()
    deafness.look({ logged: 0, arrived: 0, read: 0 }, 0)
    deafness.look({ logged: 1, arrived: 0, read: 0 }, 10_000)
    expect(deafness.look({ logged: 1, arrived: 0, read: 0 }, 20_000)).toBe('deaf')
    expect(deafness.look({ logged: 2, arrived: 1, read: 0 }, 30_000)).toBe('recovered')
  })

  it('is over with the first tap', () => {
    const deafness = new Deafness()
    for (let i = 0; i < 8; i++) deafness.look({ logged: i, arrived: i, read: 0 }, 10_000 * i)
    expect(deafness.look({ logged: 8, arrived: 8, read: 1 }, 80_000)).toBe('recovered')
  })

  it('may become a deafness', () => {
    const deafness = new Deafness()
    const told = Array.from({ length: 8 }, (_, i) => deafness.look({ logged: i, arrived: i, read: 0 }, 10_000 * i))
    expect(told.at(-1)).toBe('unreadable')
    deafness.look({ logged: 9, arrived: 7, read: 0 }, 80_000)
    expect(deafness.look({ logged: 9, arrived: 7, read: 0 }, 90_000)).toBe('deaf')
  })
})
