import { expect, it } from 'vitest'
import { Sights } from '../../../src/daemon/fleet/sights'

const at = (steady: number) => ({ wall: 0, steady })
const ROW = { id: '3fa94b12', until: 100 }

it('a row that is seen again has no more time than at first, whatever it says then', () => {
  const sights = new Sights(() => true)
  sights.see('a', ROW, 60, at(0))
  expect([sights.see('a', ROW, 60, at(30_000)).end, sights.see('a', ROW, 600, at(30_000)).end]).toEqual([60_000, 60_000])
  expect(sights.see('a', ROW, 10, at(30_000)).end).toBe(40_000)
})

it('a row that says a later end is another one', () => {
  const sights = new Sights(() => true)
  sights.see('a', ROW, 60, at(0))
  expect(sights.see('a', { ...ROW, until: 130 }, 60, at(30_000)).end).toBe(90_000)
  expect(sights.see('b', ROW, 60, at(30_000)).end).toBe(90_000)
})

it('a row until closed has no end', () => {
  expect(new Sights(() => true).see('a', { id: 'x', until: null }, null, at(0)).end).toBe(Infinity)
})

it('what was closed is so with all its ends, in its row alone', () => {
  const sights = new Sights(() => true)
  sights.close('a', ['x', undefined, 'y'], at(0))
  expect([sights.isClosed('a', 'x'), sights.isClosed('a', 'y'), sights.isClosed('a', 'z'), sights.isClosed('b', 'x')]).toEqual([
    true,
    true,
    false,
    false,
  ])
})

it('rows that are gone are forgotten when there are too many, what is long over first, and those that are there never', () => {
  const there = new Set(['there'])
  const sights = new Sights((row) => there.has(row))
  sights.close('there', ['x'], at(0))
  sights.close('over', ['x'], at(0))
  for (let i = 0; i < 131_070; i++) sights.close(`new ${i}`, ['x'], at(4_000_000))
  const before = sights.isClosed('over', 'x')
  sights.close('one more', ['x'], at(4_000_000))
  const known = (row: string) => sights.isClosed(row, 'x')
  expect([before, known('over'), known('there'), known('one more'), known('new 131069')]).toEqual([true, false, true, true, true])
})

it('a row has so many ends and closed ids at most', () => {
  const sights = new Sights(() => true)
  for (let i = 0; i < 300; i++) sights.close('a', [`${i}`], at(0))
  expect([sights.isClosed('a', '0'), sights.isClosed('a', '299')]).toEqual([false, true])
})
