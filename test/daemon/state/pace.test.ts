import { describe, expect, it } from 'vitest'
import { Pace } from '../../../src/daemon/state/pace'

const mark = (what: string, counters = 0) => ({ what, counters })

/** What a pace has been told: `a` was written at 1,000 in so many milliseconds. */
function written(took = 0) {
  const pace = new Pace()
  pace.wrote(mark('a'), 1_000 - took, 1_000)
  return pace
}

describe('a state', () => {
  it('is written first of all', () => {
    expect(new Pace().due(mark('a'), 0)).toBe('write')
  })

  it('is written when something has changed', () => {
    expect(written().due(mark('b'), 1_200)).toBe('write')
  })

  it('is left alone when nothing has', () => {
    expect(written().due(mark('a'), 5_999)).toBeNull()
  })

  it('is touched when nothing has changed for five seconds, and again five seconds later', () => {
    const pace = written()
    const first = pace.due(mark('a'), 6_000)
    pace.touched(6_000)
    expect([first, pace.due(mark('a'), 10_999), pace.due(mark('a'), 11_000)]).toEqual(['touch', null, 'touch'])
  })

  it('is written for counters alone every ten seconds, and touched in between', () => {
    const pace = written()
    const looks = [pace.due(mark('a', 9), 2_000), pace.due(mark('a', 9), 6_000)]
    pace.touched(6_000)
    expect([...looks, pace.due(mark('a', 9), 10_999), pace.due(mark('a', 9), 11_000)]).toEqual([null, 'touch', null, 'write'])
  })

  it('is not written again for twenty times as long as that took', () => {
    const pace = written(100)
    expect([pace.due(mark('b'), 2_999), pace.due(mark('b'), 3_000)]).toEqual([null, 'write'])
  })

  it('is written again after two seconds, however long that took', () => {
    const pace = written(1_000)
    expect([pace.due(mark('b'), 2_999), pace.due(mark('b'), 3_000)]).toEqual([null, 'write'])
  })

  it('that could not be written is tried again after five seconds, though nothing has changed', () => {
    const pace = written()
    pace.failed(2_000)
    expect([pace.due(mark('a'), 6_999), pace.due(mark('a'), 7_000)]).toEqual([null, 'write'])
  })
})
