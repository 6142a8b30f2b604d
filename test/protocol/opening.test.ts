import { describe, expect, it } from 'vitest'
import { judge, type Opening } from '../../src/protocol/opening'

describe('what is known of a port that answers', () => {
  it.each<[string, number | null, number | null, number, Opening | null]>([
    ['nothing, while nobody has answered', null, null, 700, null],
    ['that it was open before, where the attempt in front of the knock is answered', 80, null, 80, 'before'],
    ['so, too, where another one was answered first', 100, 80, 100, 'before'],
    ['so, too, as long as its SYN has not been said again', 900, 80, 900, 'before'],
    ['no more than that it is open, where the SYN may have been said again', 1_080, 80, 1_080, 'unclear'],
    ['nothing, until the attempt in front has had a round trip and 50 ms', null, 80, 129, null],
    ['that it has opened, when that one is unanswered then', null, 80, 130, 'opened'],
    ['that it has opened, however much later', null, 80, 20_000, 'opened'],
    ['that it has opened, at a round trip just short enough to tell', null, 850, 900, 'opened'],
    ['no more than that it is open, where the round trip is too long to tell', null, 851, 2_000, 'unclear'],
  ])('is %s', (_, answered, roundTrip, after, opening) => {
    const began = 5_000
    const shown = { began, answered: answered === null ? null : began + answered, roundTrip, touched: began - 1_000 }
    expect(judge(shown, began + after)).toBe(opening)
  })
})

describe('what is known of a port that answers in front of the knock', () => {
  it.each<[string, number | null, number, Opening | null]>([
    ['nothing, while the burst is not over', null, 600, null],
    ['nothing, until the touches have had as long as the answer took', 140, 219, null],
    ['that it was open before, from then on', 140, 220, 'before'],
  ])('is %s', (_, touched, after, opening) => {
    const began = 5_000
    const shown = { began, answered: began + 80, roundTrip: null, touched: touched === null ? null : began + touched }
    expect(judge(shown, began + after)).toBe(opening)
  })
})

it('tells less where SYNs are said again sooner', () => {
  const shown = { began: 5_000, answered: 5_300, roundTrip: null, touched: 4_000 }
  expect([judge(shown, 6_000, 300), judge(shown, 6_000, 299)]).toEqual(['before', 'unclear'])
})
