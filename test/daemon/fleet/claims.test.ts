import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { GRACE } from '../../../src/daemon/fleet/claims'
import { BASE, floorRow, formatBase, formatWindow, parseSpent, revokedRow, sourceCode } from '../../../src/daemon/fleet/rows'
import { ANOTHER, KEY, knock } from '../../gate/disk'
import { OTHER, SOURCE, WINDOW } from '../../gate/listener/ear'
import { claim, outcomeOf, pair, pass, put, rowOf, UNAVAILABLE } from './gateway'
import { OLD_BASE } from './plain-link'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

describe('a knock that is claimed', () => {
  it('is on the disk before etcd is asked', async () => {
    const [one] = await pair()
    one.etcd.plan('held')
    const claimed = claim(one)
    await pass(0)
    expect([one.disk.records.length, one.etcd.held.length]).toEqual([1, 1])
    one.etcd.release()
    expect(await claimed).toEqual({ outcome: 'spent' })
  })

  it('is taken in memory in the same tick, so that nobody else asks etcd for it', async () => {
    const [one] = await pair()
    const outcomes = await Promise.all([claim(one), claim(one, { source: OTHER })])
    expect([outcomes, one.etcd.asked.length]).toEqual([[{ outcome: 'spent' }, { outcome: 'replayed' }], 1])
  })

  it('says in its row who has heard it, and until when it may be open', async () => {
    const [one] = await pair()
    await claim(one)
    const said = knock()
    expect(parseSpent(rowOf(one)?.value ?? '')).toEqual({
      attempt: expect.stringMatching(/^[0-9a-f]{32}$/),
      gateway: 'gw1',
      source: sourceCode(said.key, said),
      until: Math.ceil(one.now.wall / 1000) + 60,
    })
  })

  it.each([
    [SOURCE, 'retransmitted'],
    [OTHER, 'replayed'],
  ])('is at another gateway, from %s, %s', async (source, outcome) => {
    const [one, two] = await pair()
    expect([await outcomeOf(one), await outcomeOf(two, { source })]).toEqual(['spent', outcome])
  })

  it('was first said by nobody whom the gateway knows that has heard its replay', async () => {
    const [one, two] = await pair()
    await claim(one)
    const replayed = [await outcomeOf(two, { source: OTHER }), await outcomeOf(two, { source: OTHER })]
    expect([replayed, two.ledger.firstSource(knock(), KEY)]).toEqual([['replayed', 'replayed'], null])
  })

  it('is spent once at two gateways at the same moment, however their requests meet', async () => {
    for (const order of [[0, 1] as const, [1, 0] as const]) {
      const gateways = await pair()
      for (const { etcd } of gateways) etcd.plan('held')
      const claimed = gateways.map((gateway) => outcomeOf(gateway))
      await pass(0)
      for (const n of order) gateways[n].etcd.release()
      expect((await Promise.all(claimed)).sort()).toEqual(['retransmitted', 'spent'])
    }
  })

  it('has its key’s floor put first, and is asked again, where there is none', async () => {
    const [one] = await pair()
    expect([await claim(one, {}, ANOTHER), one.etcd.asked.length]).toEqual([{ outcome: 'spent' }, 2])
  })

  it('is refused where its key’s floor does not stay', async () => {
    const [one] = await pair()
    const { store } = one.etcd
    const transact = store.transact.bind(store)
    store.transact = (transaction) => {
      const outcome = transact(transaction)
      transact({ if: [], do: [{ remove: floorRow(KEY, 30) }], else: [] })
      return outcome
    }
    await put(one, BASE, formatBase(OLD_BASE))
    expect(await claim(one)).toEqual(UNAVAILABLE)
  })
})

describe('a key that is revoked in etcd', () => {
  it('opens nothing, before this gateway has heard of it', async () => {
    const [one] = await pair()
    await put(one, revokedRow(KEY), '')
    expect([await outcomeOf(one), await outcomeOf(one, {}, ANOTHER)]).toEqual(['revoked', 'spent'])
  })

  it('opens nothing by an answer that says so, though the row is its own', async () => {
    const [one] = await pair()
    one.etcd.plan('held')
    const claimed = outcomeOf(one)
    await pass(0)
    one.etcd.held[0]?.perform()
    await put(one, revokedRow(KEY), '')
    // As at another member, when the first one’s answer did not come.
    one.etcd.held[0]?.perform()
    one.etcd.release()
    expect(await claimed).toBe('revoked')
  })
})

describe('a floor that etcd has', () => {
  it('and this gateway has not makes a knock stale', async () => {
    const [one, two] = await pair()
    expect([await outcomeOf(one, { window: WINDOW + 3 }), await outcomeOf(two)]).toEqual(['spent', 'stale'])
  })

  it('ahead of the clock is said where it has refused a knock', async () => {
    const [one] = await pair()
    await put(one, floorRow(KEY, 30), formatWindow(WINDOW + 1_000))
    await claim(one)
    const { wall } = one.now
    expect([one.ledger.opensAt(KEY, 30, wall), one.ledger.opensAt(ANOTHER, 30, wall)]).toEqual([
      { base: null, own: (WINDOW + 1_000) * 30_000 },
      { base: null, own: null },
    ])
  })

  it('is not raised by a knock whose answer was lost, by when nobody knows whose clock is right', async () => {
    const [one, two] = await pair()
    one.etcd.plan('lost before')
    await claim(one, { window: WINDOW + 3 })
    await pass(1_000)
    expect([rowOf(one, { window: WINDOW + 3 }) !== undefined, await outcomeOf(two)]).toEqual([true, 'spent'])
  })
})

describe('a gateway that begins anew', () => {
  it('does not open again what it has opened, whoever says it', async () => {
    const [one] = await pair()
    await claim(one)
    one.start()
    expect([await outcomeOf(one), await outcomeOf(one, { source: OTHER })]).toEqual(['replayed', 'replayed'])
  })

  it.each([
    [SOURCE, 'retransmitted'],
    [OTHER, 'replayed'],
  ])('without its file does not open by its own row, to %s', async (source, outcome) => {
    const [one] = await pair()
    await claim(one)
    one.disk.records = []
    one.start()
    expect(await outcomeOf(one, { source })).toBe(outcome)
  })

  it('after it has died between file and etcd does not open what another has opened meanwhile', async () => {
    const [one, two] = await pair()
    one.etcd.plan('held')
    void claim(one)
    await pass(0)
    const opened = await outcomeOf(two)
    one.start()
    one.etcd.release()
    expect([opened, await outcomeOf(one)]).toEqual(['spent', 'replayed'])
  })

  it('has told etcd at its end what is dead here alone', async () => {
    const [one, two] = await pair()
    one.link.refused = 'the watch is 12 s old'
    await claim(one)
    await one.ledger.end()
    expect(await outcomeOf(two, { source: OTHER })).toBe('replayed')
  })

  it('keeps dead what its disk would not take', async () => {
    const [one, two] = await pair()
    one.disk.broken = true
    const refused = await claim(one)
    await pass(GRACE)
    expect([refused, await outcomeOf(two, { source: OTHER })]).toEqual([
      { outcome: 'unavailable', reason: 'no space left on device' },
      'replayed',
    ])
  })
})
