import { describe, expect, it } from 'vitest'
import { Deafness } from '../../src/gate/deafness'

const GRACE = 5_000
/** What each look gives: [packets logged, taps heard, seconds]. */
const looks = (...all: [number, number, number][]) => {
  const deafness = new Deafness()
  return all.map(([logged, heard, seconds]) => deafness.look(logged, heard, seconds * 1000))
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
    expect(looks([0, 0, 0], [1, 0, 10], [2, 0, 20], [2, 1, 30], [3, 2, 40]).slice(2)).toEqual(['deaf', 'hears again', null])
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
    deafness.look(0, 0, 0)
    deafness.look(1, 0, 10)
    expect(deafness.look(2, 0, 10 + GRACE - 1)).toBeNull()
    expect(deafness.look(2, 0, 10 + GRACE)).toBe('deaf')
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
