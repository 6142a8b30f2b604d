import { describe, expect, it } from 'vitest'
import { REFUSAL_RATE, REFUSALS, SHARE, SHARE_RATE, Shares } from '../../src/gate/share'

/** How often a part can be taken at a moment. */
function taken(shares: Shares, name: string, steady: number, part = 1): number {
  let times = 0
  while (times < 10_000 && shares.take(name, part, steady)) times++
  return times
}

it('the bounds are those of docs/operating.md', () => {
  expect({ SHARE, SHARE_RATE, REFUSALS, REFUSAL_RATE }).toEqual({ SHARE: 256, SHARE_RATE: 8, REFUSALS: 60, REFUSAL_RATE: 1 })
})

describe('a share', () => {
  it('is whole at first, and then so much a second', () => {
    const shares = new Shares(10, 2)
    expect([0, 0, 500, 1_000, 4_000, 100_000].map((steady) => taken(shares, 'a', steady))).toEqual([10, 0, 1, 1, 6, 10])
  })

  it('of one name is nobody else’s', () => {
    const shares = new Shares(10, 2)
    taken(shares, 'a', 0)
    expect(taken(shares, 'b', 0)).toBe(10)
  })

  it('is taken in parts, and not at all where too little is left', () => {
    const shares = new Shares(10, 2)
    expect([shares.take('a', 7, 0), shares.take('a', 7, 0), shares.take('a', 3, 0), shares.take('a', 1, 0)]).toEqual([
      true,
      false,
      true,
      false,
    ])
  })

  it('does not grow while it is asked for in vain', () => {
    const shares = new Shares(10, 2)
    taken(shares, 'a', 0)
    for (let steady = 0; steady < 1_000; steady++) shares.take('a', 100, steady)
    expect(taken(shares, 'a', 1_000)).toBe(2)
  })

  it('is kept of 262,144 names, those that have taken last', () => {
    const shares = new Shares(1, 0)
    shares.take('first', 1, 0)
    shares.take('second', 1, 0)
    for (let i = 2; i < 262_145; i++) shares.take(`${i}`, 1, 0)
    expect([shares.take('second', 1, 0), shares.take('first', 1, 0)]).toEqual([false, true])
  })
})
