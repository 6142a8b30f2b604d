import { chmodSync, chownSync, linkSync, mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeEach, describe, expect, it } from 'vitest'
import { Inbox } from '../../../src/daemon/orders/inbox'
import { formatOrder, MAX_ORDER, MAX_ORDERS, type Order, parseOrder } from '../../../src/daemon/orders/order'
import { put, scratch } from '../../system/scratch'

/** Unix milliseconds. */
const NOW = 1_770_000_000_000
const CLOSE: Order = { kind: 'close', key: 'alice' }
const OTHER = 65_534
const isRoot = process.getuid?.() === 0

const idOf = (n: number) => n.toString(16).padStart(16, '0')
const text = (n: number, at = NOW, order: Order = CLOSE) => formatOrder({ id: idOf(n), at, order })

let parent: string
let folder: string
let ignored: string[]
beforeEach(() => {
  parent = scratch()
  folder = join(parent, 'orders')
  ignored = []
})

const make = () => mkdirSync(folder, { mode: 0o755 })
const give = (n: number, content = text(n), mode = 0o644) => put(folder, `${idOf(n)}.json`, content, mode)
const started = async (wall = NOW) => {
  const inbox = new Inbox(folder, (why) => ignored.push(why))
  await inbox.begin(() => wall)
  return inbox
}
const taken = async (inbox: Inbox, wall = NOW) => (await inbox.take(() => wall)).map(({ id }) => Number.parseInt(id, 16))

describe('an order', () => {
  it('is taken out once', async () => {
    make()
    const inbox = await started()
    give(1)
    expect([await taken(inbox), await taken(inbox)]).toEqual([[1], []])
  })

  it('is taken out once, though two look at a time', async () => {
    make()
    const inbox = await started()
    give(1)
    expect((await Promise.all([taken(inbox), taken(inbox), taken(inbox)])).flat()).toEqual([1])
  })

  it('is taken out of a folder that is made later', async () => {
    const inbox = await started()
    make()
    give(1)
    expect(await taken(inbox)).toEqual([1])
  })

  it('that lay there when the daemon started is never taken out', async () => {
    make()
    give(1)
    const inbox = await started()
    expect([await taken(inbox), await taken(inbox, NOW + 1)]).toEqual([[], []])
  })

  it('is not taken out again by the next daemon, though the clock is set back', async () => {
    make()
    const before = await started(NOW - 1_000)
    give(1)
    expect(await taken(before)).toEqual([1])
    const after = await started(NOW - 60_000)
    expect(await taken(after)).toEqual([])
  })

  it('is not taken out again when its time comes a second time', async () => {
    make()
    const inbox = await started(NOW - 1_000)
    give(1)
    expect([await taken(inbox), await taken(inbox, NOW - 60_000), await taken(inbox, NOW + 1)]).toEqual([[1], [], []])
  })

  it('is not taken out again when it is put there a second time', async () => {
    make()
    const inbox = await started()
    const path = give(1)
    const first = await taken(inbox)
    rmSync(path)
    await taken(inbox)
    give(1)
    expect([first, await taken(inbox)]).toEqual([[1], []])
  })

  it('is not taken out again when its folder comes back', async () => {
    make()
    const inbox = await started()
    give(1)
    const first = await taken(inbox)
    renameSync(folder, join(parent, 'away'))
    await taken(inbox)
    renameSync(join(parent, 'away'), folder)
    expect([first, await taken(inbox)]).toEqual([[1], []])
  })

  it.each([
    ['of more than ten seconds ago', NOW - 10_001, /was given more than 10 s ago/],
    ['of a time to come', NOW + 1, /is of a time to come/],
    ['of a time before the daemon started', NOW - 5_001, /was given before the daemon started/],
  ])('%s is ignored', async (_, at, why) => {
    make()
    const inbox = await started(NOW - (at === NOW - 5_001 ? 5_000 : 60_000))
    give(1, text(1, at))
    expect([await taken(inbox), ignored]).toEqual([[], [expect.stringMatching(why)]])
  })

  it('with the name of another one is ignored', async () => {
    make()
    const inbox = await started()
    give(1, text(2))
    expect([await taken(inbox), ignored]).toEqual([[], [expect.stringMatching(/has the name of another order/)]])
  })

  it.each([
    ['nothing', ''],
    ['no JSON', '{'],
    ['a list', '[]'],
    ['an order to close nothing', text(1, NOW, { kind: 'close' })],
    ['an order to close for no address', text(1, NOW, { kind: 'close', address: 'rubbish' })],
    ['an order that there is not', text(1).replace('close', 'open')],
    ['an order with more in it', text(1).replace('"kind"', '"more":1,"kind"')],
    ['an order of another version', text(1).replace('"version":1', '"version":2')],
    ['an id that leads elsewhere', text(1).replace(idOf(1), '../../etc/passwd')],
  ])('that is %s is ignored', async (_, content) => {
    make()
    const inbox = await started()
    give(1, content)
    expect([await taken(inbox), ignored.length]).toEqual([[], 1])
  })

  it('that is longer than one can be is ignored', async () => {
    make()
    const inbox = await started()
    give(1, `${text(1).trimEnd()}${' '.repeat(MAX_ORDER)}`)
    expect([await taken(inbox), ignored]).toEqual([[], [expect.stringMatching(/expected at most 4096 bytes/)]])
  })

  it.each(['order.json', '1.json', `${idOf(1)}.json.new`, `.${idOf(1)}.json.new`, `${idOf(1)}`, idOf(1).toUpperCase()])(
    'by the name %s is none',
    async (name) => {
      make()
      const inbox = await started()
      put(folder, name, text(1), 0o644)
      expect([await taken(inbox), ignored]).toEqual([[], []])
    },
  )

  it('that others may write is ignored', async () => {
    make()
    const inbox = await started()
    give(1, text(1), 0o666)
    expect([await taken(inbox), ignored]).toEqual([[], [expect.stringMatching(/users other than its owner may write it/)]])
  })

  it('that is a link is ignored', async () => {
    make()
    const inbox = await started()
    symlinkSync(put(parent, 'elsewhere', text(1), 0o644), join(folder, `${idOf(1)}.json`))
    expect([await taken(inbox), ignored.length]).toEqual([[], 1])
  })

  it('that has another name elsewhere is ignored', async () => {
    make()
    const inbox = await started()
    linkSync(put(parent, 'elsewhere', text(1), 0o644), join(folder, `${idOf(1)}.json`))
    expect([await taken(inbox), ignored]).toEqual([[], [expect.stringMatching(/no other name/)]])
  })

  it('that is a folder is ignored', async () => {
    make()
    const inbox = await started()
    mkdirSync(join(folder, `${idOf(1)}.json`))
    expect([await taken(inbox), ignored.length]).toEqual([[], 1])
  })

  it.runIf(isRoot)('that is somebody else’s is ignored', async () => {
    make()
    const inbox = await started()
    chownSync(give(1), OTHER, OTHER)
    expect([await taken(inbox), ignored]).toEqual([[], [expect.stringMatching(/expected a file of root's/)]])
  })
})

describe('a folder of orders', () => {
  it('that others may write is ignored', async () => {
    make()
    const inbox = await started()
    chmodSync(folder, 0o777)
    give(1)
    expect([await taken(inbox), ignored]).toEqual([[], [expect.stringMatching(/users other than its owner may write it/)]])
  })

  it.runIf(isRoot)('that is somebody else’s is ignored', async () => {
    make()
    const inbox = await started()
    give(1)
    chownSync(folder, OTHER, OTHER)
    expect([await taken(inbox), ignored]).toEqual([[], [expect.stringMatching(/expected a folder of root's/)]])
  })

  it('that is a link is ignored', async () => {
    const inbox = await started()
    mkdirSync(join(parent, 'elsewhere'), { mode: 0o755 })
    put(join(parent, 'elsewhere'), `${idOf(1)}.json`, text(1), 0o644)
    symlinkSync(join(parent, 'elsewhere'), folder)
    expect([await taken(inbox), ignored]).toEqual([[], [expect.stringMatching(/and no link/)]])
  })

  it('that was not to be read when the daemon started gives nothing that lay there then', async () => {
    make()
    give(1)
    chmodSync(folder, 0o777)
    const inbox = await started(NOW - 1_000)
    chmodSync(folder, 0o755)
    const first = await taken(inbox)
    give(2)
    expect([first, await taken(inbox)]).toEqual([[], [2]])
  })

  it('with 10,000 files in it is ignored as a whole, and is heeded again when they are gone', async () => {
    make()
    const inbox = await started()
    for (let n = 1; n <= 10_000; n++) writeFileSync(join(folder, `${idOf(n)}.json`), text(n))
    const flooded = await taken(inbox)
    for (let n = 1; n <= 10_000; n++) rmSync(join(folder, `${idOf(n)}.json`))
    await taken(inbox)
    give(10_001)
    expect([flooded, ignored, await taken(inbox)]).toEqual([
      [],
      [expect.stringMatching(`holds more than ${MAX_ORDERS} files`)],
      [10_001],
    ])
  })
})

it('an order is read as it was written', () => {
  const given = {
    id: idOf(7),
    at: NOW,
    order: { kind: 'close', id: 'deadbeef', key: 'alice', address: '198.51.100.0/24' },
  } as const
  expect(parseOrder(formatOrder(given))).toEqual(given)
})
