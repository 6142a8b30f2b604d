import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { freshBase, type Ledger, rebased } from '../../src/gate/ledger'
import { ANOTHER, Disk, KEY, knock, type Saying } from './disk'
import { OTHER, SOURCE, WINDOW } from './listener/ear'

const claim = (ledger: Ledger, saying: Saying = {}, fingerprint = KEY) => ledger.note(knock(saying), fingerprint).outcome

describe('a knock is accepted', () => {
  it('once it is claimed, in the same tick: nobody else is told that it is free, whatever the disk takes', async () => {
    const ledger = new Disk().start()
    const first = ledger.claim(knock(), KEY)
    expect(ledger.ask(knock(), KEY)).toBe('retransmitted')
    expect(await first).toEqual({ outcome: 'spent' })
  })

  it('when it is new', () => {
    expect(claim(new Disk().start())).toBe('spent')
  })

  it('when another knock of its window has been', () => {
    const ledger = new Disk().start()
    claim(ledger)
    expect(claim(ledger, { v: 'b' })).toBe('spent')
  })

  it.each([-2, -1, 1, 2])('when its own V has been in the window %i away', (step) => {
    const ledger = new Disk().start()
    claim(ledger)
    expect(claim(ledger, { window: WINDOW + step })).toBe('spent')
  })

  it('when its V has been another key’s', () => {
    const ledger = new Disk().start()
    claim(ledger)
    expect(claim(ledger, {}, ANOTHER)).toBe('spent')
  })
})

describe('a knock that has been accepted', () => {
  it('is retransmitted from its own source', () => {
    const ledger = new Disk().start()
    claim(ledger)
    expect(claim(ledger)).toBe('retransmitted')
  })

  it('is replayed from another source', () => {
    const ledger = new Disk().start()
    claim(ledger)
    expect(claim(ledger, { source: OTHER })).toBe('replayed')
  })

  it('stays its first source’s when another has replayed it', () => {
    const ledger = new Disk().start()
    claim(ledger)
    claim(ledger, { source: OTHER })
    expect([claim(ledger, { source: OTHER }), claim(ledger)]).toEqual(['replayed', 'retransmitted'])
  })

  it.each([SOURCE, OTHER])('is replayed after a restart, from %s', (source) => {
    const disk = new Disk()
    claim(disk.start())
    expect(claim(disk.start(), { source })).toBe('replayed')
  })

  it('is replayed after a compaction', () => {
    const disk = new Disk()
    claim(disk.start())
    disk.compact()
    expect(claim(disk.start())).toBe('replayed')
  })

  it('is stale when its row has been forgotten', () => {
    const ledger = new Disk().start()
    claim(ledger)
    claim(ledger, { window: WINDOW + 3 })
    expect(claim(ledger)).toBe('stale')
  })

  it('stays spent when it could not be written', async () => {
    const disk = new Disk()
    const ledger = disk.start()
    disk.broken = true
    const first = ledger.note(knock(), KEY)
    await expect(first.outcome === 'spent' && first.durable).rejects.toThrow('no space left')
    disk.broken = false
    expect(claim(ledger, { source: OTHER })).toBe('replayed')
  })

  it('is on the disk when its claim is durable', async () => {
    const disk = new Disk()
    const first = disk.start().note(knock(), KEY)
    if (first.outcome === 'spent') await first.durable
    expect(disk.records).toEqual([{ kind: 'spent', fingerprint: KEY, period: 30, window: WINDOW, v: 'a', floor: WINDOW - 2 }])
  })
})

describe('asking what is known of a knock', () => {
  const ask = (ledger: Ledger, saying: Saying = {}) => ledger.ask(knock(saying), KEY)

  it('of which nothing is known claims nothing', () => {
    const disk = new Disk()
    const ledger = disk.start()
    expect([ask(ledger), ask(ledger, { source: OTHER }), disk.records]).toEqual(['unknown', 'unknown', []])
    expect(claim(ledger)).toBe('spent')
  })

  it('that is spent says who has said it', () => {
    const ledger = new Disk().start()
    claim(ledger)
    expect([ask(ledger), ask(ledger, { source: OTHER })]).toEqual(['retransmitted', 'replayed'])
  })

  it('below the floor says that nobody knows', () => {
    const ledger = new Disk().start()
    claim(ledger)
    claim(ledger, { window: WINDOW + 3 })
    expect(ask(ledger)).toBe('stale')
  })
})

describe('the floor', () => {
  it.each([
    [0, WINDOW],
    [1, WINDOW - 2],
    [10, WINDOW - 20],
  ])('with a skew of %i is, of a knock in window 59,000,000, %i', (skew, floor) => {
    const ledger = new Disk().start(skew)
    claim(ledger)
    expect(ledger.floor(KEY, 30)).toBe(floor)
  })

  it.each([
    [-1, 'stale'],
    [0, 'spent'],
  ])('has a knock %i beside it %s', (step, outcome) => {
    const ledger = new Disk().start()
    claim(ledger)
    expect(claim(ledger, { v: 'b', window: WINDOW - 2 + step })).toBe(outcome)
  })

  it('is not lowered by a knock of an earlier window', () => {
    const ledger = new Disk().start()
    claim(ledger)
    claim(ledger, { window: WINDOW - 2 })
    expect(ledger.floor(KEY, 30)).toBe(WINDOW - 2)
  })

  it('is not lowered by restarts with another skew, 0 then 10 then 0', () => {
    const disk = new Disk()
    const floors = [0, 10, 0].map((skew, i) => {
      const ledger = disk.start(skew)
      claim(ledger, { window: WINDOW + i, v: `${i}` })
      return ledger.floor(KEY, 30)
    })
    expect(floors).toEqual([WINDOW, WINDOW, WINDOW + 2])
  })

  it('is the highest that is written, wherever it stands', () => {
    const floors = [WINDOW, WINDOW + 2, WINDOW + 1]
    const ledger = new Disk(floors.map((floor) => ({ kind: 'floor', fingerprint: KEY, period: 30, floor }))).start()
    expect(ledger.floor(KEY, 30)).toBe(WINDOW + 2)
  })

  it('is not lowered by a compaction with another skew', () => {
    const disk = new Disk()
    claim(disk.start(0))
    disk.compact(10)
    expect(disk.start(10).floor(KEY, 30)).toBe(WINDOW)
  })

  it.each(['future', 'stale'] as const)('is not raised by a %s knock', (arrival) => {
    const ledger = new Disk().start()
    claim(ledger)
    claim(ledger, { window: WINDOW + 5, v: 'b', arrival })
    expect(ledger.floor(KEY, 30)).toBe(WINDOW - 2)
  })

  it('is not raised by a knock that is replayed', () => {
    const ledger = new Disk().start()
    claim(ledger, { window: WINDOW + 5, arrival: 'future' })
    claim(ledger, { window: WINDOW + 5, source: OTHER })
    expect(ledger.floor(KEY, 30)).toBe(0)
  })

  it('belongs to one key', () => {
    const ledger = new Disk().start()
    claim(ledger)
    expect(ledger.floor(ANOTHER, 30)).toBe(0)
  })

  it('belongs to one period', () => {
    const ledger = new Disk().start()
    claim(ledger)
    expect([claim(ledger, { period: 60, window: WINDOW / 2 }), ledger.floor(KEY, 60)]).toEqual(['spent', WINDOW / 2 - 2])
  })

  it.each([
    [WINDOW * 30_000, null],
    [WINDOW * 30_000 - 1, WINDOW * 30_000],
    [WINDOW * 30_000 - 3_600_000, WINDOW * 30_000],
  ])('is, where the clock says %i, in the way until %s', (wall, opens) => {
    const ledger = new Disk().start(0)
    claim(ledger)
    expect(ledger.opensAt(KEY, 30, wall)).toEqual({ base: null, own: opens })
  })

  it('that is the base’s is told from the key’s own', () => {
    const disk = new Disk()
    claim(disk.start(0))
    disk.records.push(freshBase((WINDOW + 100) * 30_000, 0))
    expect(disk.start(0).opensAt(KEY, 30, 0)).toEqual({ base: (WINDOW + 101) * 30_000, own: WINDOW * 30_000 })
    expect(disk.start(0).opensAt(ANOTHER, 30, 0)).toEqual({ base: (WINDOW + 101) * 30_000, own: null })
  })
})

describe('a future knock', () => {
  it('is replayed when its window has come', () => {
    const ledger = new Disk().start()
    claim(ledger, { window: WINDOW + 5, arrival: 'future' })
    expect(claim(ledger, { window: WINDOW + 5, source: OTHER })).toBe('replayed')
  })

  it('is replayed when its window has come after a restart and a compaction', () => {
    const disk = new Disk()
    claim(disk.start(), { window: WINDOW + 5, arrival: 'future' })
    disk.compact()
    expect(claim(disk.start(), { window: WINDOW + 5 })).toBe('replayed')
  })

  it('opens nothing of its own source either when its window has come', () => {
    const ledger = new Disk().start()
    claim(ledger, { window: WINDOW + 5, arrival: 'future' })
    expect(claim(ledger, { window: WINDOW + 5 })).not.toBe('spent')
  })
})

describe.each([0, 1, 10])('a ledger without a past, with a skew of %i,', (skew) => {
  const fresh = () => new Disk([freshBase(WINDOW * 30_000 + 29_999, skew)])

  it('has every window that is accepted now stale', () => {
    const ledger = fresh().start(skew)
    expect([-skew, 0, skew].map((step) => claim(ledger, { window: WINDOW + step, v: `${step}` }))).toEqual(Array(3).fill('stale'))
  })

  it('accepts the first window beyond', () => {
    expect(claim(fresh().start(skew), { window: WINDOW + skew + 1 })).toBe('spent')
  })

  it('has windows of another period stale as well', () => {
    expect(claim(fresh().start(skew), { period: 60, window: WINDOW / 2 + skew })).toBe('stale')
  })

  it('keeps that in mind over a compaction with another skew', () => {
    const disk = fresh()
    disk.compact(3)
    expect(disk.start(3).floor(KEY, 30)).toBe(WINDOW + skew + 1)
  })
})

describe('a ledger that is rebased', () => {
  const YEAR = (365 * 86_400) / 30
  const now = WINDOW * 30_000
  /** It was begun, and one key has knocked, when the clock was a year ahead. */
  function ahead(): Disk {
    const disk = new Disk([freshBase(now + YEAR * 30_000, 1)])
    const ledger = disk.start()
    claim(ledger, { window: WINDOW + YEAR + 2 })
    claim(ledger, { window: WINDOW + YEAR + 8, arrival: 'future' })
    return disk
  }
  const mended = () => new Disk(rebased(ahead().records, now, 1))

  it('opens to keys that have not knocked meanwhile, new ones too', () => {
    expect(claim(ahead().start(), { window: WINDOW + 2 }, ANOTHER)).toBe('stale')
    expect(claim(mended().start(), { window: WINDOW + 2 }, ANOTHER)).toBe('spent')
  })

  it.each([-100, -1, 0, 1])('opens to nothing of window %i, which may have been sent until now', (step) => {
    expect(claim(mended().start(), { window: WINDOW + step }, ANOTHER)).toBe('stale')
  })

  it('has one base, by the clock of now', () => {
    expect(mended().records.filter(({ kind }) => kind === 'base')).toEqual([freshBase(now, 1)])
  })

  it.each([2, 8])('keeps dead what was spent in window %i of then', (step) => {
    expect(claim(mended().start(), { window: WINDOW + YEAR + step })).toBe('replayed')
  })

  it('keeps the floors of keys', () => {
    const [before, then] = [ahead().start(), mended().start()]
    expect([then.floor(KEY, 30), then.floor(ANOTHER, 30)]).toEqual([before.floor(KEY, 30), WINDOW + 2])
  })

  it('keeps a floor of which no row is left', () => {
    const floor = { kind: 'floor', fingerprint: KEY, period: 30, floor: WINDOW + YEAR } as const
    expect(new Disk(rebased([floor], now, 1)).start().floor(KEY, 30)).toBe(WINDOW + YEAR)
  })
})

describe('what a ledger holds', () => {
  const rows = (ledger: Ledger) => [...ledger.records()].filter(({ kind }) => kind === 'spent').length

  it('is no row below the floor', () => {
    const ledger = new Disk().start()
    for (let window = WINDOW; window < WINDOW + 1_000; window++) claim(ledger, { window })
    expect(rows(ledger)).toBe(3)
  })

  it('is no row below the floor after a restart', () => {
    const disk = new Disk()
    const ledger = disk.start()
    for (let window = WINDOW; window < WINDOW + 1_000; window++) claim(ledger, { window })
    expect(rows(disk.start())).toBe(3)
  })

  /** A ledger in which one key has said all that it may in one window. */
  function full(): Ledger {
    const ledger = new Disk().start()
    for (let i = 0; i < 4_096; i++) claim(ledger, { v: `${i}` })
    return ledger
  }

  it('is 4,096 knocks of a key in a window at most: then it accepts no more of them', () => {
    expect(claim(full(), { v: 'one more' })).toBe('full')
  })

  it('forgets none of them for that', () => {
    expect(claim(full(), { v: '0', source: OTHER })).toBe('replayed')
  })

  it('has room for the same key’s next window', () => {
    expect(claim(full(), { window: WINDOW + 1 })).toBe('spent')
  })

  it('has room for another key', () => {
    expect(claim(full(), {}, ANOTHER)).toBe('spent')
  })

  /** A ledger in which one key has said nothing but knocks of windows to come, for hours: they raise no floor. */
  function hasty(disk = new Disk()): Ledger {
    const ledger = disk.start()
    for (let window = WINDOW; window < WINDOW + 1_000; window++)
      for (let i = 0; i < 50; i++) claim(ledger, { window, v: `${i}`, arrival: 'future' })
    return ledger
  }

  it('is 4,096 knocks of a key that says none but those of windows to come', () => {
    expect(rows(hasty())).toBe(4_096)
    expect(claim(hasty(), { window: WINDOW + 1_000, arrival: 'future' })).toBe('full')
  })

  it('is so after a restart', () => {
    const disk = new Disk()
    hasty(disk)
    expect(claim(disk.start(), { window: WINDOW + 1_000, arrival: 'future' })).toBe('full')
  })

  it('is what counts again when such a key says a timely one', () => {
    const ledger = hasty()
    expect(claim(ledger, { window: WINDOW + 1_000 })).toBe('spent')
    expect(rows(ledger)).toBe(1)
    expect(claim(ledger, { window: WINDOW + 1_005, arrival: 'future' })).toBe('spent')
  })
})

/* Whatever happens: a model that remembers every knock that was ever accepted. */

type Step =
  | { kind: 'claim'; ahead: number; v: string; source: string; fingerprint: string; period: 30 | 60 }
  | { kind: 'restart'; compact: boolean; skew: number }
  | { kind: 'clock'; windows: number }
  | { kind: 'break' | 'mend' | 'base' | 'rebase' }

const skews = fc.constantFrom(0, 1, 2, 10)
const steps: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant('claim' as const),
      ahead: fc.integer({ min: -3, max: 12 }),
      v: fc.constantFrom('a', 'b'),
      source: fc.constantFrom(SOURCE, OTHER),
      fingerprint: fc.constantFrom(KEY, ANOTHER),
      period: fc.constantFrom(30 as const, 60 as const),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('restart' as const), compact: fc.boolean(), skew: skews }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('clock' as const), windows: fc.integer({ min: -3, max: 5 }) }) },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constantFrom('break' as const, 'mend' as const, 'base' as const, 'rebase' as const) }),
  },
)

describe('whatever is claimed, restarted, compacted, broken, mended and set', () => {
  /** Runs the steps as a daemon would, and hands every accepted knock and every floor to its caller. */
  async function run(
    sequence: Step[],
    skew: number,
    accepted: (name: string) => void,
    floor: (name: string, at: number) => void,
    tooLate: (name: string) => void = () => {},
  ) {
    const disk = new Disk()
    let ledger = disk.start(skew)
    let clock = WINDOW
    /** The last moment of which something may have been sent when the ledger was rebased, in seconds. */
    let rebasedAt = 0
    let skewThen = 0
    for (const step of sequence) {
      if (step.kind === 'claim') {
        const { period, fingerprint, v, source } = step
        const now = Math.floor((clock * 30) / period)
        const window = now + step.ahead
        const arrival = step.ahead < -skew ? 'stale' : step.ahead > skew ? 'future' : 'timely'
        const claim = ledger.note(knock({ window, v, source, arrival, period }), fingerprint)
        const durable = claim.outcome === 'spent' && (await claim.durable.then(() => true).catch(() => false))
        if (durable) accepted(`${fingerprint} ${period} ${window} ${v}`)
        if (durable && (window - skewThen) * period <= rebasedAt) tooLate(`${fingerprint} ${period} ${window} ${v}`)
        floor(`${fingerprint} ${period}`, ledger.floor(fingerprint, period))
      } else if (step.kind === 'restart') {
        skew = step.skew
        if (step.compact) disk.compact(skew)
        ledger = disk.start(skew)
      } else if (step.kind === 'clock') clock += step.windows
      else if (step.kind === 'base') disk.records.push(freshBase(clock * 30_000, skew))
      else if (step.kind === 'rebase') {
        disk.records = rebased(disk.start(skew).records(), clock * 30_000, skew)
        ledger = disk.start(skew)
        rebasedAt = clock * 30
        skewThen = skew
      } else disk.broken = step.kind === 'break'
    }
  }

  it('no knock is accepted twice', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(steps, { maxLength: 60 }), skews, async (sequence, skew) => {
        const seen: string[] = []
        await run(
          sequence,
          skew,
          (name) => seen.push(name),
          () => {},
        )
        expect(seen).toEqual([...new Set(seen)])
      }),
      { numRuns: 1_000 },
    )
  })

  it('no knock of before a rebase is accepted after it', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(steps, { maxLength: 60 }), skews, async (sequence, skew) => {
        const late: string[] = []
        await run(
          sequence,
          skew,
          () => {},
          () => {},
          (name) => late.push(name),
        )
        expect(late).toEqual([])
      }),
      { numRuns: 1_000 },
    )
  })

  it('no floor falls, as long as the disk keeps what it is given', async () => {
    const sound = steps.filter(({ kind }) => kind !== 'break' && kind !== 'rebase')
    await fc.assert(
      fc.asyncProperty(fc.array(sound, { maxLength: 60 }), skews, async (sequence, skew) => {
        const floors = new Map<string, number>()
        await run(
          sequence,
          skew,
          () => {},
          (name, at) => {
            expect(at).toBeGreaterThanOrEqual(floors.get(name) ?? 0)
            floors.set(name, at)
          },
        )
      }),
      { numRuns: 500 },
    )
  })
})
