import { describe, expect, it } from 'vitest'
import {
  Budget,
  FIRST_ATTEMPTS,
  FIRST_RESERVE,
  MAX_CANDIDATE_DECODES,
  MAX_DATAGRAMS,
  MAX_DECODES,
  MAX_FAR,
  MAX_KEY_DATAGRAMS,
} from '../../../src/gate/listener/budget'
import type { Candidate } from '../../../src/gate/listener/table'
import { keyOf, WINDOW } from './ear'

const candidate = (n: number): Candidate => ({ key: keyOf(n), window: WINDOW, rendezvous: new Uint16Array(8), hint: null })
const CANDIDATES = Array.from({ length: 40 }, (_, n) => candidate(n))
const [ONE, OTHER] = CANDIDATES as [Candidate, Candidate]

/** How much can be taken in a second. */
function inASecond(take: (budget: Budget) => boolean, from = 0): number {
  const budget = new Budget()
  let taken = 0
  for (let steady = from; steady < from + 1_000; steady += 100) {
    budget.turn(steady)
    for (let i = 0; i < 1_000; i++) taken += Number(take(budget))
  }
  return taken
}
/** Takes from each candidate in turn. */
const fromAll = (take: (budget: Budget, candidate: Candidate) => boolean) => {
  let n = 0
  return (budget: Budget) => take(budget, CANDIDATES[n++ % CANDIDATES.length] as Candidate)
}

it('is what docs/protocol.md says', () => {
  expect({ MAX_DECODES, MAX_CANDIDATE_DECODES, MAX_DATAGRAMS, MAX_KEY_DATAGRAMS, MAX_FAR }).toEqual({
    MAX_DECODES: 2_000,
    MAX_CANDIDATE_DECODES: 500,
    MAX_DATAGRAMS: 1_000,
    MAX_KEY_DATAGRAMS: 250,
    MAX_FAR: 10,
  })
  expect([FIRST_RESERVE, FIRST_ATTEMPTS]).toEqual([1 / 2, 2])
})

describe('in a second there are', () => {
  it.each<[string, number, (budget: Budget) => boolean]>([
    ['first attempts of one key and window', 500, (budget) => budget.takeAttempt(ONE, true) === null],
    ['other attempts of one key and window', 250, (budget) => budget.takeAttempt(ONE, false) === null],
    ['first attempts of all', 2_000, fromAll((budget, one) => budget.takeAttempt(one, true) === null)],
    ['other attempts of all', 1_000, fromAll((budget, one) => budget.takeAttempt(one, false) === null)],
    ['datagrams of one key', 250, (budget) => budget.takeDatagram(ONE, false)],
    ['datagrams of all', 1_000, fromAll((budget, one) => budget.takeDatagram(one, false))],
    ['datagrams of windows that are over', 10, fromAll((budget, one) => budget.takeDatagram(one, true))],
    ['codebooks of one key and window', 60, (budget) => budget.takeBook(ONE) === null],
    ['codebooks of all', 250, fromAll((budget, one) => budget.takeBook(one) === null)],
  ])('so many %s: %i', (_, most, take) => {
    expect(inASecond(take)).toBe(most)
  })
})

describe('who uses up', () => {
  const exhausted = (take: (budget: Budget) => unknown) => {
    const budget = new Budget()
    budget.turn(0)
    for (let i = 0; i < 1_000; i++) take(budget)
    return budget
  }

  it('all attempts on ports leaves all datagrams', () => {
    const budget = exhausted(fromAll((one, of) => one.takeAttempt(of, true) === null))
    const left = CANDIDATES.flatMap((one) => Array.from({ length: 25 }, () => budget.takeDatagram(one, false))).filter(
      Boolean,
    ).length
    expect([budget.takeAttempt(OTHER, true), left]).toEqual(['all', 100])
  })

  it('all datagrams leaves all attempts on ports', () => {
    const budget = exhausted(fromAll((one, of) => one.takeDatagram(of, false)))
    let left = 0
    for (const one of CANDIDATES) for (let i = 0; i < 50; i++) left += Number(budget.takeAttempt(one, true) === null)
    expect(left).toBe(200)
  })

  it('what is left beside first attempts leaves those', () => {
    const budget = exhausted(fromAll((one, of) => one.takeAttempt(of, false) === null))
    expect([budget.takeAttempt(ONE, false), budget.takeAttempt(ONE, true)]).toEqual(['all', null])
  })

  it('one key and window leaves the others', () => {
    const budget = exhausted((one) => one.takeAttempt(ONE, true))
    expect([budget.takeAttempt(ONE, true), budget.takeAttempt(OTHER, true)]).toEqual(['candidate', null])
  })

  it('a slot has a new one 100 ms later', () => {
    const budget = exhausted(fromAll((one, of) => one.takeAttempt(of, true) === null))
    expect([budget.turn(99), budget.takeAttempt(ONE, true), budget.turn(100), budget.takeAttempt(ONE, true)]).toEqual([
      false,
      'all',
      true,
      null,
    ])
  })
})
