import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { FleetLedger } from '../../../src/daemon/fleet/claims'
import { Disk, KEY, knock, type Saying } from '../../gate/disk'
import { OTHER } from '../../gate/listener/ear'
import { type Gateway, Gateways } from './gateways'

/* The claims of gateways with their real links, at an etcd that has forgotten what was spent. */

beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] }))
afterEach(() => void vi.useRealTimers())

/** Two gateways that have heard each other. A knock is of the window of their clock. */
async function fleet() {
  const fleet = new Gateways()
  const [a, b] = [fleet.add('gw1'), fleet.add('gw2')]
  await fleet.pass(3)
  const claimer = ({ twin, link }: Gateway) => {
    const now = () => ({ wall: fleet.wall, steady: fleet.at + 7 })
    const ledger = new FleetLedger(new Disk().start(), twin, link, { skew: 1, timeout: 5_000, now, warn: () => {} })
    return async (saying: Saying = {}) =>
      (await ledger.claim(knock({ window: Math.floor(fleet.wall / 30_000), ...saying }), KEY)).outcome
  }
  return { fleet, a, b, first: claimer(a), second: claimer(b) }
}

describe('a knock that was spent', () => {
  it('is not spent again by an etcd that was restored, before any beat, however much was written to it since', async () => {
    const { fleet: all, first, second } = await fleet()
    const snapshot = all.store.snapshot()
    await all.pass()
    const spent = await first()
    all.store.restore(snapshot)
    for (let i = 0; i < 100; i++) all.store.transact({ if: [], do: [{ put: 'another', value: `${i}` }], else: [] })
    expect([spent, await second({ source: OTHER })]).toEqual(['spent', 'unavailable'])
  })

  it('is not spent again where no gateway has beaten between snapshot and claim', async () => {
    const { fleet: all, first, second } = await fleet()
    const snapshot = all.store.snapshot()
    const spent = await first()
    all.store.restore(snapshot)
    for (let i = 0; i < 100; i++) all.store.transact({ if: [], do: [{ put: 'another', value: `${i}` }], else: [] })
    expect([spent, await second({ source: OTHER })]).toEqual(['spent', 'unavailable'])
  })

  it('is not spent again by a gateway that was cut off from before the snapshot until after the restore', async () => {
    const { fleet: all, a, b, first, second } = await fleet()
    a.synchronised = b.synchronised = null
    await all.pass(3)
    b.twin.trouble = 'no-quorum'
    b.lives = false
    const snapshot = all.store.snapshot()
    await all.pass(2)
    const spent = await first()
    all.store.restore(snapshot)
    await all.pass(2)
    b.twin.trouble = null
    b.lives = true
    expect([spent, a.refused, await second({ source: OTHER })]).toEqual(['spent', 'restored', 'unavailable'])
  })

  it('is dead in an etcd that was restored and has a later base, where new ones are spent again', async () => {
    const { fleet: all, first, second } = await fleet()
    const snapshot = all.store.snapshot()
    await all.pass(200)
    const window = Math.floor(all.wall / 30_000)
    await first()
    all.store.restore(snapshot)
    await all.pass(50)
    expect([await second({ window, source: OTHER }), await second(), await first({ v: 'b' })]).toEqual([
      'stale',
      'spent',
      'spent',
    ])
  })
})

describe('the claims of a gateway', () => {
  it('go on while it beats, and when another leader is elected', async () => {
    const { fleet: all, first } = await fleet()
    const outcomes: string[] = []
    for (let i = 0; i < 10; i++) {
      if (i === 5) all.store.elect()
      await all.pass()
      outcomes.push(await first({ v: `${i}` }))
    }
    expect(new Set(outcomes)).toEqual(new Set(['spent']))
  })

  it('go on where a beat was taken and its answer lost', async () => {
    const { fleet: all, a, first } = await fleet()
    a.twin.plan('lost after')
    await all.pass()
    expect([await first(), await first({ v: 'b' })]).toEqual(['spent', 'spent'])
  })
})
