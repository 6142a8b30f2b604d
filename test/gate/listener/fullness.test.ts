import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Fullness } from '../../../src/gate/listener/fullness'
import type { Touch } from '../../../src/gate/listener/readings'
import { codebook, PAGE, symbolOf } from '../../../src/protocol/codebook'
import { keyOf, POOL, WINDOW } from './ear'

const book = codebook(keyOf(1), WINDOW)
const port = (page: number, byte: number) => book.ports[8 + PAGE * page + byte]

/** What a plain count of the same touches says. */
function counted(touches: ReadonlyMap<number, Touch>, start: number) {
  const pages = new Map<number, number[]>()
  for (const [at, { count, last, said }] of touches) {
    const page = symbolOf(book, at) >> 8
    if (page >= 0 && last >= start && !said) pages.set(page, [...(pages.get(page) ?? []), count])
  }
  const isSettled = (counts: number[]) => counts.filter((count) => count === Math.max(...counts)).length === 1
  return { filled: pages.size, settled: [...pages.values()].filter(isSettled).length }
}

/** A touch or a loss of one of few ports, so that they meet. */
const acts = fc.array(fc.record({ page: fc.nat(5), byte: fc.nat(3), isLost: fc.boolean().map((is) => is), again: fc.nat(2) }), {
  maxLength: 200,
})

describe('the pages that are counted tap by tap', () => {
  it('are those of a plain count, whatever is touched and lost', () => {
    fc.assert(
      fc.property(acts, (all) => {
        const touches = new Map<number, Touch>()
        let kept = new Fullness()
        for (const [at, { page, byte, isLost, again }] of all.entries()) {
          const one = port(page, byte)
          const before = touches.get(one)
          if (isLost && before) {
            touches.delete(one)
            kept.remove(book, one, before.count)
          } else if (!isLost) {
            for (let i = 0; i <= again; i++) {
              const count = (touches.get(one)?.count ?? 0) + 1
              kept.add(book, one, count, count === 1)
              touches.set(one, { count, last: at, number: at, said: false })
            }
          }
          if (kept.isStale) kept = Fullness.of(touches, book, -Infinity)
          expect({ filled: kept.filled, settled: kept.settled }).toEqual(counted(touches, -Infinity))
        }
      }),
    )
  })

  it('are those since a moment, without what is explained', () => {
    const touch = (last: number, said = false): Touch => ({ count: 1, last, number: 0, said })
    const touches = new Map([
      [port(0, 1), touch(5)],
      [port(1, 1), touch(10)],
      [port(2, 1), touch(15)],
      [port(3, 1), touch(15, true)],
    ])
    expect([Fullness.of(touches, book, 0).settled, Fullness.of(touches, book, 10).settled]).toEqual([3, 2])
  })

  it('are none of rendezvous ports, and of ports that say nothing', () => {
    const silent = [...POOL].filter((one) => symbolOf(book, one) < 0)
    const kept = new Fullness()
    for (const one of silent) kept.add(book, one, 1, true)
    for (const one of silent) kept.remove(book, one, 1)
    expect([silent.length > 8, kept.filled, kept.settled]).toEqual([true, 0, 0])
  })
})
