import { beforeEach, describe, expect, it } from 'vitest'
import type { OneTimeRule } from '../../src/gate/ledger'
import { ANOTHER, KEY, knock, type Saying } from './disk'
import { OTHER, SOURCE, WINDOW } from './listener/ear'

/** A ledger under test, and what may happen to it. */
export interface Subject {
  readonly ledger: OneTimeRule
  /** The process ends and begins anew, from what it finds. */
  restart(): Promise<void>
  /** What it must ask to be sure fails, or does so no more. */
  fail(fails: boolean): Promise<void>
  /** Resolves when all that it meant to do later is done. */
  settle(): Promise<void>
}

/** How a ledger begins. `base`: the window in which it began to know the past; null: long ago. */
export interface Beginning {
  readonly skew: number
  readonly base: number | null
}

/**
 * What each ledger promises, whoever shares it.
 * @param isShared whether claims in a row may come to different gateways: what one of them remembers by itself is no promise of all
 */
export function conforms(name: string, begin: (beginning: Beginning) => Promise<Subject>, isShared = false): void {
  describe(`the one-time rule, kept by ${name}:`, () => {
    let subject: Subject
    beforeEach(async () => {
      subject = await begin({ skew: 1, base: null })
    })
    const claim = async (saying: Saying = {}, fingerprint = KEY) =>
      (await subject.ledger.claim(knock(saying), fingerprint)).outcome
    const claims = async (...sayings: readonly Saying[]) => {
      const outcomes: string[] = []
      for (const saying of sayings) outcomes.push(await claim(saying))
      return outcomes
    }

    /** What is said of a knock that lies below the floor: a gateway that has not heard the newest may still have it. */
    const forgotten = isShared ? expect.stringMatching(/^(stale|replayed)$/) : 'stale'

    describe('a knock', () => {
      it('is spent', async () => {
        expect(await claim()).toBe('spent')
      })

      it('is spent once, of 64 at the same moment', async () => {
        const outcomes = await Promise.all(Array.from({ length: 64 }, (_, n) => claim({ source: n % 2 ? OTHER : SOURCE })))
        expect(outcomes.filter((outcome) => outcome === 'spent')).toHaveLength(1)
      })

      it('is another one than that of another V, of the windows beside it, of another key, of another period', async () => {
        const rest = [{ v: 'b' }, ...[-2, -1, 1, 2].map((step) => ({ window: WINDOW + step }))]
        const others = [await claim({}, ANOTHER), await claim({ period: 60, window: WINDOW / 2 })]
        expect([...(await claims({}, ...rest)), ...others]).toEqual(Array(8).fill('spent'))
      })

      it('is retransmitted from its own source, and replayed from another', async () => {
        expect(await claims({}, {}, { source: OTHER })).toEqual(['spent', 'retransmitted', 'replayed'])
      })

      it('stays its first source’s when another has replayed it', async () => {
        expect(await claims({}, { source: OTHER }, { source: OTHER }, {})).toEqual([
          ...['spent', 'replayed', 'replayed'],
          isShared ? expect.stringMatching(/^(replayed|retransmitted)$/) : 'retransmitted',
        ])
      })

      it('is not spent again after a restart, from its own source or another', async () => {
        await claim()
        await subject.restart()
        expect(await claims({}, { source: OTHER })).not.toContain('spent')
      })

      it('is not spent again when its row has been forgotten', async () => {
        expect(await claims({}, { window: WINDOW + 3 }, { source: OTHER })).toEqual(['spent', 'spent', forgotten])
      })

      it('is not spent again when its row has been forgotten and the ledger has restarted', async () => {
        await claims({}, { window: WINDOW + 3 })
        await subject.restart()
        expect([await claim({ source: OTHER })]).toEqual([forgotten])
      })
    })

    describe('the floor', () => {
      it.each([
        [0, -1, 'stale'],
        [0, 0, 'spent'],
        [1, -3, 'stale'],
        [1, -2, 'spent'],
        [10, -21, 'stale'],
        [10, -20, 'spent'],
      ])('with a skew of %i has a knock %i windows before the newest %s', async (skew, step, outcome) => {
        subject = await begin({ skew, base: null })
        expect(await claims({}, { v: 'b', window: WINDOW + step })).toEqual(['spent', outcome])
      })

      it('is not lowered by a knock of an earlier window', async () => {
        await claims({}, { window: WINDOW - 2 })
        expect(await claim({ v: 'b', window: WINDOW - 3 })).toBe('stale')
      })

      it('is not raised by a knock that is replayed', async () => {
        await claims({ window: WINDOW + 5 }, { window: WINDOW + 5, source: OTHER })
        expect(await claim({ window: WINDOW + 3 })).toBe('spent')
      })

      it('belongs to one key, and to one period', async () => {
        await claim({ window: WINDOW + 10 })
        expect([await claim({}, ANOTHER), await claim({ period: 60, window: WINDOW / 2 })]).toEqual(['spent', 'spent'])
      })

      it('survives a restart', async () => {
        await claim()
        await subject.restart()
        expect(await claim({ v: 'b', window: WINDOW - 3 })).toBe('stale')
      })
    })

    describe('a future knock', () => {
      const FUTURE = { window: WINDOW + 5, arrival: 'future' } as const

      it('is written down, and does not open when its window has come', async () => {
        expect(await claim(FUTURE)).toBe('spent')
        await subject.settle()
        expect(await claims({ window: WINDOW + 5, source: OTHER }, { window: WINDOW + 5 })).not.toContain('spent')
      })

      it('does not open when its window has come after a restart', async () => {
        await claim(FUTURE)
        await subject.settle()
        await subject.restart()
        expect(await claim({ window: WINDOW + 5, source: OTHER })).not.toBe('spent')
      })

      it('raises no floor', async () => {
        await claim(FUTURE)
        await subject.settle()
        expect(await claim()).toBe('spent')
      })
    })

    describe.each([0, 1, 10])('without a past, with a skew of %i,', (skew) => {
      beforeEach(async () => {
        subject = await begin({ skew, base: WINDOW })
      })

      it('every window that is accepted now is stale', async () => {
        const steps = [-skew, 0, skew]
        expect(await claims(...steps.map((step, i) => ({ window: WINDOW + step, v: `${i}` })))).toEqual(Array(3).fill('stale'))
      })

      it('the first window beyond is spent', async () => {
        expect(await claim({ window: WINDOW + skew + 1 })).toBe('spent')
      })

      it('windows of another period are stale as well', async () => {
        expect(await claim({ period: 60, window: WINDOW / 2 + skew })).toBe('stale')
      })

      it('it is said from when on it opens', () => {
        const opens = (WINDOW + skew + 1) * 30_000
        expect([WINDOW * 30_000, opens].map((wall) => subject.ledger.opensAt(KEY, 30, wall).base)).toEqual([opens, null])
      })
    })

    describe('what cannot be known', () => {
      it('is unavailable, with a reason', async () => {
        await subject.fail(true)
        expect(await subject.ledger.claim(knock(), KEY)).toEqual({ outcome: 'unavailable', reason: expect.stringMatching(/./) })
      })

      it('is dead when it could be known again', async () => {
        await subject.fail(true)
        await claim()
        await subject.fail(false)
        await subject.settle()
        expect(await claims({ source: OTHER }, {})).not.toContain('spent')
      })

      it('is unavailable no longer than it lasts', async () => {
        await subject.fail(true)
        await claim()
        await subject.fail(false)
        expect(await claim({ v: 'b' })).toBe('spent')
      })

      it('leaves what was spent before as it was', async () => {
        await claim()
        await subject.fail(true)
        await claims({ v: 'b' }, { source: OTHER })
        await subject.fail(false)
        await subject.settle()
        expect(await claim({ source: OTHER })).toBe('replayed')
      })
    })

    if (isShared) return

    describe('asking', () => {
      const ask = (saying: Saying = {}) => subject.ledger.ask(knock(saying), KEY)

      it('claims nothing', async () => {
        expect([ask(), ask({ source: OTHER }), await claim()]).toEqual(['unknown', 'unknown', 'spent'])
      })

      it('says who has said what is spent', async () => {
        await claim()
        expect([ask(), ask({ source: OTHER }), subject.ledger.firstSource(knock({ source: OTHER }), KEY)]).toEqual([
          'retransmitted',
          'replayed',
          SOURCE,
        ])
      })

      it('says below the floor that nobody knows', async () => {
        await claims({}, { window: WINDOW + 3 })
        expect([ask(), subject.ledger.firstSource(knock(), KEY)]).toEqual(['stale', null])
      })
    })

    describe('a key that has said 4,096 knocks of a window', () => {
      beforeEach(async () => {
        await Promise.all(Array.from({ length: 4_096 }, (_, i) => claim({ v: `${i}` })))
        await subject.settle()
      })

      it('says no more of them; and those of another key and of its own next window are spent', async () => {
        const others = [await claim({}, ANOTHER), await claim({ window: WINDOW + 1 })]
        expect([await claim({ v: 'one more' }), ...others]).toEqual(['full', 'spent', 'spent'])
      })

      it('has none of them forgotten', async () => {
        expect(await claim({ v: '0', source: OTHER })).toBe('replayed')
      })
    })
  })
}
