import { expect, it } from 'vitest'
import { Quiet } from '../../src/gate/quiet'

const MINUTE = 60_000

it('a thing is said the first time', () => {
  expect(new Quiet(MINUTE).may('a', 0)).toBe(true)
})

it.each([
  [0, false],
  [MINUTE - 1, false],
  [MINUTE, true],
])('a thing is said again after %i ms: %s', (after, again) => {
  const quiet = new Quiet(MINUTE)
  quiet.may('a', 500)
  expect(quiet.may('a', 500 + after)).toBe(again)
})

it('a thing that goes on and on is said once a minute', () => {
  const quiet = new Quiet(MINUTE)
  const said = Array.from({ length: 600 }, (_, second) => quiet.may('a', 1000 * second)).filter(Boolean)
  expect(said).toHaveLength(10)
})

it('another thing is said meanwhile', () => {
  const quiet = new Quiet(MINUTE)
  quiet.may('a', 0)
  expect(quiet.may('b', 1)).toBe(true)
})

it('4,096 things are remembered', () => {
  const quiet = new Quiet(MINUTE)
  for (let i = 0; i < 4_096; i++) quiet.may(`${i}`, i)
  expect(Array.from({ length: 4_096 }, (_, i) => quiet.may(`${i}`, 5_000)).some(Boolean)).toBe(false)
})

it('of one thing more, the oldest is forgotten', () => {
  const quiet = new Quiet(MINUTE)
  for (let i = 0; i <= 4_096; i++) quiet.may(`${i}`, i)
  expect(quiet.may('0', 5_000)).toBe(true)
})

it('what is said again is not the oldest any more', () => {
  const quiet = new Quiet(MINUTE)
  for (let i = 0; i < 4_096; i++) quiet.may(`${i}`, i)
  quiet.may('0', MINUTE)
  quiet.may('one more', MINUTE)
  expect(quiet.may('0', MINUTE + 1)).toBe(false)
})
