import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { whyAhead } from '../../../src/daemon/ahead'
import { GRACE, MARGIN } from '../../../src/daemon/fleet/claims'
import { BASE, floorRow, formatBase, formatWindow, gatewayRow } from '../../../src/daemon/fleet/rows'
import { freshBase } from '../../../src/gate/ledger'
import type { ServerKey } from '../../../src/gate/server-key'
import { ANOTHER, KEY, knock } from '../../gate/disk'
import { OTHER, WINDOW } from '../../gate/listener/ear'
import { claim, outcomeOf, pair, pass, put, rowOf, UNAVAILABLE } from './gateway'
import { OLD_BASE } from './plain-link'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

describe('what the link knows', () => {
  it('that nothing may open refuses a knock at once, with its reason', async () => {
    const [one] = await pair()
    one.link.refused = 'the watch is 12 s old'
    expect([await claim(one), one.etcd.asked.length]).toEqual([{ outcome: 'unavailable', reason: 'the watch is 12 s old' }, 0])
  })

  it('leaves a knock that is refused to the others first, and has it dead then', async () => {
    const [one, two] = await pair()
    one.link.refused = 'the watch is 12 s old'
    await Promise.all([claim(one), claim(one, { v: 'b' })])
    await pass(GRACE - 1)
    const taken = await outcomeOf(two)
    await pass(2)
    expect([taken, await outcomeOf(two, { v: 'b', source: OTHER })]).toEqual(['spent', 'replayed'])
  })

  it('of a base that it has not read yet refuses a knock, which is dead when there is one', async () => {
    const [one, two] = await pair()
    one.link.know(null)
    expect(await claim(one)).toEqual(UNAVAILABLE)
    await pass(GRACE + 10)
    one.link.know(OLD_BASE)
    await pass(10_000)
    expect(await outcomeOf(two, { source: OTHER })).toBe('replayed')
  })

  it('of no beat of its own yet refuses a knock', async () => {
    const [one] = await pair()
    one.link.beaten = null
    expect([await claim(one), one.etcd.asked.length]).toEqual([UNAVAILABLE, 0])
  })

  it('of its own beats tells an etcd that was restored, however much was written to it since', async () => {
    const [one, two] = await pair()
    const then = one.etcd.store.snapshot()
    await put(one, gatewayRow('gw2'), 'lives')
    two.link.beaten = one.etcd.store.header.revision
    const spent = await outcomeOf(one)
    one.etcd.store.restore(then)
    for (let i = 0; i < 10; i++) await put(one, 'another', `${i}`)
    expect([spent, await claim(two, { source: OTHER }), two.link.looks]).toEqual(['spent', UNAVAILABLE, 1])
  })

  it('of another base than etcd has opens nothing, and has it looked at', async () => {
    const [one] = await pair()
    await put(one, BASE, formatBase({ ...OLD_BASE, epoch: 2 }))
    expect([await claim(one), one.link.looks, rowOf(one)]).toEqual([UNAVAILABLE, 1, undefined])
  })

  it('that etcd has forgotten something opens nothing, though the claim held', async () => {
    const [one] = await pair()
    const then = one.etcd.store.snapshot()
    for (let i = 0; i < 5; i++) await claim(one, { v: `${i}` })
    one.etcd.store.restore(then)
    const again = one.start()
    expect(await again.claim(knock({ v: 'next' }), KEY)).toEqual(UNAVAILABLE)
  })

  it('that etcd has forgotten something is heeded at the second answer as well', async () => {
    const [one] = await pair()
    const believes = one.link.believes.bind(one.link)
    let asked = 0
    one.link.believes = (mark, header) => believes(mark, header) && asked++ !== 1
    expect(await claim(one, {}, ANOTHER)).toEqual(UNAVAILABLE)
  })

  it('when the answer comes counts', async () => {
    const [one] = await pair()
    one.etcd.plan('held')
    const claimed = claim(one)
    await pass(0)
    one.link.refused = 'the watch is 12 s old'
    one.etcd.release()
    expect(await claimed).toEqual({ outcome: 'unavailable', reason: 'the watch is 12 s old' })
  })

  it('of the base says below it that a knock is stale, and asks nobody', async () => {
    const [one] = await pair()
    one.link.know({ ...OLD_BASE, seconds: WINDOW * 30, ahead: 1 })
    expect([await claim(one), one.etcd.asked.length]).toEqual([{ outcome: 'stale' }, 0])
  })

  it('of the base and what the file knows are both said to be in the way: the later one', async () => {
    const [one] = await pair()
    one.disk.records = [freshBase((WINDOW + 5) * 30_000, 1)]
    one.start()
    one.link.know({ ...OLD_BASE, seconds: WINDOW * 30, ahead: 3 })
    const { wall } = one.now
    const file = one.ledger.opensAt(KEY, 30, wall)
    one.link.know({ ...OLD_BASE, seconds: WINDOW * 30, ahead: 10 })
    expect([file, one.ledger.opensAt(KEY, 30, wall)]).toEqual([
      { base: (WINDOW + 7) * 30_000, own: null },
      { base: (WINDOW + 10) * 30_000, own: null },
    ])
  })

  it('of a base far ahead of the clock says by which command the fleet has it right again', async () => {
    const [one] = await pair()
    one.link.know({ ...OLD_BASE, seconds: WINDOW * 30 + 86_400 })
    expect(whyAhead(one.ledger, { fingerprint: KEY, key: knock().key } as ServerKey, one.now.wall)).toContain(
      'run "knockturn fleet floor"',
    )
  })

  it('of a base that is raised while a knock waits to be dead has it forgotten', async () => {
    const [one] = await pair()
    one.etcd.trouble = 'no-quorum'
    await claim(one)
    one.link.know({ ...OLD_BASE, epoch: 2, seconds: WINDOW * 30, ahead: 2 })
    await pass(1_000)
    expect(one.ledger.burning).toBe(0)
  })
})

describe('a future knock', () => {
  /** With a skew of 1, this gateway takes windows up to WINDOW + 1, the next one in 15 s. */
  const future = (window: number) => ({ window, arrival: 'future' }) as const

  it('that no gateway can take for timely is dead in etcd at once', async () => {
    const [one] = await pair()
    expect([await outcomeOf(one, future(WINDOW + 2)), rowOf(one, future(WINDOW + 2)) !== undefined]).toEqual(['spent', true])
  })

  it.each([
    [15_000 - MARGIN - 1, true],
    [15_000 - MARGIN, false],
  ])('where another gateway is %i ms ahead is dead at once: %s', async (ahead, isAtOnce) => {
    const [one] = await pair()
    one.link.isAhead = ahead
    expect([await outcomeOf(one, future(WINDOW + 2)), rowOf(one, future(WINDOW + 2)) !== undefined]).toEqual(['spent', isAtOnce])
  })

  it('that another gateway, whose clock is right, takes for timely is left to it, and burnt then', async () => {
    const [slow, right] = await pair()
    slow.link.isAhead = 14_000
    await Promise.all([claim(slow, future(WINDOW + 2)), claim(slow, { ...future(WINDOW + 2), v: 'b' })])
    await pass(GRACE - 1)
    const taken = await outcomeOf(right, { window: WINDOW + 2 })
    await pass(2)
    expect([taken, await outcomeOf(right, { window: WINDOW + 2, v: 'b', source: OTHER })]).toEqual(['spent', 'replayed'])
  })

  it('is left to the others where the link does not know them', async () => {
    const [one] = await pair()
    one.link.refused = 'etcd does not answer'
    expect([await outcomeOf(one, future(WINDOW + 100)), one.etcd.asked.length]).toEqual(['spent', 0])
    await pass(GRACE)
    expect(rowOf(one, future(WINDOW + 100))).toBeDefined()
  })

  it('raises no floor in etcd, not even where there is none yet', async () => {
    const [one, two] = await pair()
    one.link.know(OLD_BASE)
    await claim(one, future(WINDOW + 100), ANOTHER)
    const floor = one.etcd.store.rows.find(({ row }) => row === floorRow(ANOTHER, 30))
    expect([floor?.value, await outcomeOf(two, {}, ANOTHER)]).toEqual([formatWindow(0), 'spent'])
  })

  it('opens nothing at any gateway when its window has come', async () => {
    const [one, two] = await pair()
    await claim(one, future(WINDOW + 5))
    expect([await outcomeOf(two, { window: WINDOW + 5, source: OTHER }), await outcomeOf(one, { window: WINDOW + 5 })]).toEqual([
      'replayed',
      'retransmitted',
    ])
  })
})
