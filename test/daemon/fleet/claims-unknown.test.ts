import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { MAX_CLAIMS, MAX_CLAIMS_OF_KEY } from '../../../src/daemon/fleet/claims'
import { BASE, floorRow, formatBase, formatWindow, parseSpent } from '../../../src/daemon/fleet/rows'
import { ANOTHER, KEY } from '../../gate/disk'
import { OTHER } from '../../gate/listener/ear'
import { claim, outcomeOf, pair, pass, put, rowOf, UNAVAILABLE } from './gateway'
import { OLD_BASE } from './plain-link'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

describe('an answer that is lost', () => {
  it('of a claim that was done is found at another member, and opens', async () => {
    const [one] = await pair()
    one.etcd.plan('twice')
    expect([await outcomeOf(one), one.etcd.asked.length]).toEqual(['spent', 1])
  })

  it.each(['lost before', 'lost after'] as const)(
    '(%s) opens nothing, and is dead at the other gateway when it can be',
    async (fault) => {
      const [one, two] = await pair()
      one.etcd.plan(fault)
      expect(await claim(one)).toEqual(UNAVAILABLE)
      await pass(1)
      expect([one.ledger.burning, await outcomeOf(two, { source: OTHER }), await outcomeOf(one)]).toEqual([
        0,
        'replayed',
        'retransmitted',
      ])
    },
  )

  it('is asked again until it is known, and opens nothing by that', async () => {
    const [one, two] = await pair()
    one.etcd.plan(...Array(5).fill('lost before'))
    const claimed = await claim(one)
    await pass(4_000)
    expect([claimed, one.ledger.burning, await outcomeOf(two)]).toEqual([UNAVAILABLE, 0, 'retransmitted'])
    expect(rowOf(one)?.created).toBe(rowOf(one)?.modified)
  })

  it('does not keep another gateway from having taken the knock before', async () => {
    const [one, two] = await pair()
    one.etcd.plan('lost before')
    const claimed = await claim(one)
    expect([claimed, await outcomeOf(two)]).toEqual([UNAVAILABLE, 'spent'])
    await pass(1_000)
    expect([one.ledger.burning, parseSpent(rowOf(two)?.value ?? '')?.gateway]).toEqual([0, 'gw2'])
  })

  it('that is done when nobody waits for it any more opens nothing', async () => {
    const [one, two] = await pair()
    one.etcd.plan('held')
    const claimed = claim(one)
    await pass(0)
    one.etcd.held[0]?.giveUp()
    one.etcd.trouble = 'unreachable'
    expect(await claimed).toEqual(UNAVAILABLE)
    one.etcd.held[0]?.perform()
    expect([await outcomeOf(two, { source: OTHER }), await outcomeOf(one)]).toEqual(['replayed', 'retransmitted'])
  })

  it('of a claim that has put no more than its key’s floor opens nothing', async () => {
    const [one] = await pair()
    one.etcd.plan('lost after')
    expect(await claim(one, {}, ANOTHER)).toEqual(UNAVAILABLE)
  })

  it('is asked again while what etcd says makes no sense', async () => {
    const [one, two] = await pair()
    await put(one, floorRow(KEY, 30), 'g')
    const claimed = await claim(one)
    await pass(2_000)
    const waiting = one.ledger.burning
    await put(one, floorRow(KEY, 30), formatWindow(0))
    await pass(5_000)
    expect([claimed, waiting, one.ledger.burning, await outcomeOf(two)]).toEqual([UNAVAILABLE, 1, 0, 'retransmitted'])
  })

  it('has the link look where it is asked again under another base', async () => {
    const [one] = await pair()
    one.etcd.plan('lost before')
    const claimed = claim(one)
    await put(one, BASE, formatBase({ ...OLD_BASE, epoch: 2 }))
    expect([await claimed, one.link.looks]).toEqual([UNAVAILABLE, 0])
    await pass(100)
    expect([one.link.looks, one.ledger.burning]).toEqual([1, 1])
  })

  it('is asked for no longer than a window after every gateway has let go of it', async () => {
    const [one] = await pair()
    one.etcd.trouble = 'no-quorum'
    await claim(one)
    await pass(74_000)
    const asked = one.etcd.asked.length
    const waiting = one.ledger.burning
    await pass(6_000)
    const last = one.etcd.asked.length
    await pass(100_000)
    expect([asked > 10, waiting, one.ledger.burning, one.etcd.asked.length - last]).toEqual([true, 1, 0, 0])
  })
})

describe('an etcd that refuses', () => {
  it.each(['unreachable', 'timeout', 'no-quorum', 'tls', 'login', 'full', 'strange'] as const)(
    '(%s) opens nothing, and is asked anew by the next knock',
    async (trouble) => {
      const [one] = await pair()
      one.etcd.trouble = trouble
      const refused = await claim(one)
      one.etcd.trouble = null
      expect([refused, await outcomeOf(one, { v: 'b' })]).toEqual([
        { outcome: 'unavailable', reason: `etcd: ${trouble}` },
        'spent',
      ])
    },
  )

  it('with an error that nobody has thought of opens nothing', async () => {
    const [one] = await pair()
    one.etcd.transact = () => Promise.reject(new TypeError('undefined is not a function'))
    expect(await claim(one)).toEqual(UNAVAILABLE)
  })

  it('has no more than 1,024 claims wait for it', async () => {
    const [one] = await pair()
    one.etcd.always = 'held'
    const claims = Array.from({ length: MAX_CLAIMS + 1 }, (_, i) => outcomeOf(one, { v: `${i}` }, `key ${i % 16}`))
    await pass(0)
    expect([await claims.at(-1), one.ledger.burning]).toEqual(['unavailable', 1])
    one.etcd.always = null
    one.etcd.release()
    expect([new Set(await Promise.all(claims.slice(0, -1))), await outcomeOf(one, { v: 'next' })]).toEqual([
      new Set(['spent']),
      'spent',
    ])
  })

  it('has no key use up the room of the others', async () => {
    const [one] = await pair()
    one.etcd.always = 'held'
    const claims = Array.from({ length: MAX_CLAIMS_OF_KEY + 1 }, (_, i) => outcomeOf(one, { v: `${i}` }))
    const another = outcomeOf(one, {}, ANOTHER)
    await pass(0)
    expect([await claims.at(-1), one.ledger.burning]).toEqual(['unavailable', 1])
    one.etcd.always = null
    one.etcd.release()
    expect([new Set(await Promise.all(claims.slice(0, -1))), await another, await outcomeOf(one, { v: 'next' })]).toEqual([
      new Set(['spent']),
      'spent',
      'spent',
    ])
  })

  it('leaves a claim that needs several answers the time of one', async () => {
    const [one] = await pair()
    const patience: (number | undefined)[] = []
    const transact = one.etcd.transact.bind(one.etcd)
    one.etcd.transact = async (transaction, how?: { readonly timeout?: number }) => {
      patience.push(how?.timeout)
      await pass(2_000)
      return transact(transaction)
    }
    await claim(one, {}, ANOTHER)
    expect(patience).toEqual([5_000, 3_000])
  })
})
