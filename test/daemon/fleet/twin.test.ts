import { describe, expect, it } from 'vitest'
import type { Watching } from '../../../src/daemon/fleet/etcd/etcd'
import { Twin } from './twin'
import { TwinStore } from './twin-store'

const put = (row: string, value = 'x', lease: string | null = null) => ({ if: [], do: [{ put: row, value, lease }], else: [] })

describe('the twin of etcd', () => {
  it('counts a row that is not there as neither equal nor below', async () => {
    const twin = new Twin()
    for (const is of ['equal', 'below'] as const)
      expect(await twin.transact({ if: [{ row: 'a', is, value: '~' }], do: [], else: [] })).toMatchObject({ held: false })
  })

  it('judges nested conditions before anything is done', async () => {
    const twin = new Twin()
    const nested = { if: [{ row: 'a', is: 'there' } as const], do: [{ put: 'b', value: 'x' }], else: [] }
    await twin.transact({ if: [], do: [{ put: 'a', value: 'x' }, nested], else: [] })
    expect(twin.store.rows.map(({ row }) => row)).toEqual(['a'])
  })

  it.each([
    ['put twice', [put('a'), put('a')]],
    [
      'put and removed',
      [
        { put: 'a', value: 'x' },
        { removeFrom: 'a', to: 'b' },
      ],
    ],
    ['put in a nested transaction and outside', [put('a'), { put: 'a', value: 'x' }]],
  ])('refuses a row that is %s in one transaction', async (_, steps) => {
    await expect(new Twin().transact({ if: [], do: steps, else: [] })).rejects.toThrow('duplicate key')
  })

  it('has a watch say what was changed since a revision, and then what changes', async () => {
    const twin = new Twin()
    const heard: unknown[] = []
    const watching: Watching = { changed: (changes) => heard.push(...changes), broke: (why) => heard.push(why) }
    await twin.transact(put('a'))
    await twin.transact(put('b'))
    twin.watch('a', 'c', 3, watching, new AbortController().signal)
    await twin.transact(put('c'))
    await twin.transact({ if: [], do: [{ remove: 'a' }], else: [] })
    twin.store.restore()
    await Promise.resolve()
    expect(heard).toEqual([{ put: expect.objectContaining({ row: 'b', modified: 3 }) }, { removed: 'a' }, 'etcd was restored'])
  })

  it('ends rows with their lease, which begins anew with a leader', async () => {
    let now = 0
    const twin = new Twin(new TwinStore(() => now))
    const lease = await twin.grant(60)
    await twin.transact(put('a', 'x', lease))
    now = 50_000
    twin.store.elect()
    now = 100_000
    expect([await twin.left(lease), twin.store.rows.length]).toEqual([10, 1])
    now = 110_000
    expect([await twin.left(lease), twin.store.rows.length]).toEqual([null, 0])
  })

  it('does what was held when the test says so, whether or not somebody waits for it', async () => {
    const twin = new Twin().plan('held')
    const asked = twin.transact(put('a'))
    twin.held[0]?.giveUp()
    await expect(asked).rejects.toMatchObject({ isUnknown: true })
    expect(twin.store.rows).toEqual([])
    twin.held[0]?.perform()
    expect(twin.store.rows).toHaveLength(1)
  })
})
