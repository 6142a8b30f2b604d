import { expect, it } from 'vitest'
import { quantile, row, table } from './figures'

it('takes the least sample that the part does not exceed', () => {
  const samples = [5, 1, 4, 2, 3]
  expect([0, 0.2, 0.21, 0.5, 0.95, 1].map((part) => quantile(samples, part))).toEqual([1, 1, 2, 3, 5, 5])
})

it('gives a time as a multiple of its floor', () => {
  expect(row('ours', 'ms', [6], { what: 'bare', samples: [2] }).ratio).toBe(3)
})

it('compares rates by the cost of one', () => {
  expect(row('ours', 'claims/s', [2], { what: 'bare', samples: [6] }).ratio).toBeCloseTo(3)
})

it('shows what was missed and what could not be measured', () => {
  const rows = [
    { ...row('ours', 'ms', [12_345]), target: { what: '< 3 ms', met: false } },
    { what: 'theirs', value: null, unit: 'ms', note: 'not installed' },
  ]
  expect(table(rows).slice(1)).toEqual(['ours        12,300 ms                        < 3 ms: MISSED', 'theirs  not installed'])
})
