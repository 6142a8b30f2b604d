import { describe, expect, it } from 'vitest'
import { Compaction } from '../../../src/daemon/fleet/compaction'
import { COMPACTED } from '../../../src/daemon/fleet/rows'
import { Twin } from './twin'
import { TwinStore } from './twin-store'

const HOUR = 3_600_000

/** Gateways that compact one etcd, and a clock that is theirs. */
function gateways(count: number) {
  const store = new TwinStore()
  const all = Array.from({ length: count }, () => new Compaction(new Twin(store)))
  const now = { wall: 1_800_000_000_000, steady: 0 }
  const row = () => store.rows.find((one) => one.row === COMPACTED) ?? null
  return {
    store,
    now,
    write: () => store.transact({ if: [], do: [{ put: 'shared/gateway/gw1', value: `${store.header.revision}` }], else: [] }),
    pass: (time: number) => {
      now.wall += time
      now.steady += time
    },
    /** All look at the row, and then all do what is to be done: what each has compacted to. */
    tend: async () => {
      for (const one of all) one.found(row(), now)
      return Promise.all(all.map((one) => one.tend(store.header.revision, now)))
    },
  }
}

describe('compaction', () => {
  it('is done by one gateway, to what was the newest an hour before', async () => {
    const { store, write, pass, tend } = gateways(3)
    write()
    const noted = store.header.revision
    expect(await tend()).toEqual([null, null, null])
    for (let i = 0; i < 10; i++) write()
    pass(HOUR)
    expect((await tend()).filter((one) => one !== null)).toEqual([noted])
    expect(store.since(noted - 1)).toBeNull()
    expect(store.since(noted + 1)).not.toBeNull()
  })

  it('is not done again before an hour has passed', async () => {
    const { write, pass, tend } = gateways(2)
    await tend()
    write()
    pass(HOUR)
    await tend()
    pass(HOUR - 1)
    expect(await tend()).toEqual([null, null])
  })

  it('is done where the row says that it was in the future, by a clock that was wrong', async () => {
    const { now, write, pass, tend } = gateways(1)
    await tend()
    write()
    now.wall -= 1_000 * HOUR
    pass(HOUR)
    expect(await tend()).not.toEqual([null])
  })

  it('is done by a daemon that has just begun, where the row is old', async () => {
    const { store, now, write, tend } = gateways(1)
    await tend()
    write()
    now.wall += HOUR
    const again = new Compaction(new Twin(store))
    again.found(store.rows.find((one) => one.row === COMPACTED) ?? null, now)
    expect(again.isDue(now)).toBe(true)
  })

  it('is not begun before the row has been looked for', async () => {
    const one = new Compaction(new Twin(new TwinStore()))
    expect(one.isDue({ wall: 0, steady: 0 })).toBe(false)
  })
})
