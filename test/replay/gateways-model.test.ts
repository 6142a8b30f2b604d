import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import type { Condition, Transaction } from '../../src/daemon/fleet/etcd/etcd'
import { OTHER, SOURCE } from '../gate/listener/ear'
import { type Bounds, CONDUCT, type Conduct, explore, SPENT, TWICE } from './gateways-model'

beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] }))
afterEach(() => void vi.useRealTimers())

const CALM: Bounds = {
  ...{ knocks: [0], sayings: 3, losses: 0, repeats: 0, cuts: 0, crashes: 0, times: 0, restores: 0, off: 0 },
  ...{ losesFiles: false, hasFloor: true, sources: [OTHER] },
}
const LOSSES: Bounds = { ...CALM, losses: 1, repeats: 1 }
const CRASHES: Bounds = { ...CALM, sayings: 2, losses: 1, crashes: 1 }
const RESTORED: Bounds = { ...CALM, sayings: 2, times: 1, restores: 1 }
/**
 * The first gateway takes the first knock, the second one, whose clock is ahead, the second one; and that forgets the row of the first. The first
 * gateway may lose its file then.
 */
const FLOORS: Bounds = { ...CALM, knocks: [-1, 2], off: 30, crashes: 1, losesFiles: true }

describe('no knock is accepted twice, and none before it is spent in etcd, at two gateways, in any order of', () => {
  it.each<[string, Bounds, number]>([
    ['a knock that is said three times, and answers that are lost', LOSSES, 400],
    ['the same by its own source and another', { ...LOSSES, sayings: 2, sources: [SOURCE, OTHER] }, 700],
    ['the same where its key has no floor yet', { ...LOSSES, sayings: 2, hasFloor: false }, 400],
    ['a gateway that is cut off from etcd, and 10 s', { ...CALM, sayings: 2, losses: 1, cuts: 1, times: 1 }, 3_000],
    ['a gateway that is killed', CRASHES, 500],
    ['a gateway that is killed and loses its file', { ...CRASHES, losesFiles: true }, 600],
    ['gateways that are killed twice', { ...CRASHES, losses: 0, crashes: 2 }, 250],
    ['two knocks of which one has the other forgotten', FLOORS, 300],
    ['a knock that is early for one of them', { ...CALM, knocks: [1], sayings: 2, losses: 1, times: 1, off: -30 }, 250],
    ['an etcd that is restored', RESTORED, 200],
  ])('%s', async (_, bounds, atLeast) => {
    const { states, accepting, broken } = await explore(bounds)
    expect(broken).toBeNull()
    // Fewer would mean that something is no longer explored.
    expect(states).toBeGreaterThan(atLeast)
    expect(accepting).toBeGreaterThan(0)
  })
})

it('a knock is accepted in any order where nothing fails', async () => {
  const { quiet, accepting } = await explore({ ...CALM, repeats: 1, hasFloor: false, sayings: 2, sources: [SOURCE, OTHER] })
  expect([accepting > 0, accepting]).toEqual([true, quiet])
})

describe('the checker finds', () => {
  /** A claim that does not ask for something. */
  const without = (isAsked: (condition: Condition) => boolean) => (transaction: Transaction) => ({
    ...transaction,
    if: transaction.if.filter((condition) => !isAsked(condition)),
  })

  it.each<[string, Partial<Conduct>, Bounds, string]>([
    [
      'a claim that does not compare',
      { asks: without(({ is, row }) => is === 'absent' && row.includes('spent')) },
      LOSSES,
      TWICE,
    ],
    ['a claim that does not compare the floor', { asks: without(({ is }) => is === 'below') }, FLOORS, TWICE],
    ['silence that is taken for yes', { takesSilenceForYes: true }, LOSSES, SPENT],
    ['an etcd that is believed by its headers alone, though it was restored', { forgetsBeats: true }, RESTORED, TWICE],
    ['an etcd that is believed whatever it says', { forgetsBeats: true, believesAll: true }, RESTORED, TWICE],
  ])('%s', async (_, fault, bounds, promise) => {
    expect((await explore(bounds, { ...CONDUCT, ...fault })).broken?.promise).toBe(promise)
  })

  it('the shortest way to it', async () => {
    const fault = { asks: without(({ is, row }) => is === 'absent' && row.includes('spent')) }
    expect((await explore(LOSSES, { ...CONDUCT, ...fault })).broken?.way).toEqual([
      `${OTHER} says knock 1 to gateway 1`,
      `${OTHER} says knock 1 to gateway 2`,
      'request 1 of gateway 1 is done',
      'request 1 of gateway 1 is answered',
      'request 1 of gateway 2 is done',
      'request 1 of gateway 2 is answered',
    ])
  })
})
