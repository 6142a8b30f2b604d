import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, utimesSync } from 'node:fs'
import { join } from 'node:path'
import pino from 'pino'
import { beforeEach, describe, expect, it, vi } from 'vitest'
import { formatOrder, type Order, parseAnswer } from '../../../src/daemon/orders/order'
import { Orders } from '../../../src/daemon/orders/orders'
import { Chronicle } from '../../../src/gate/chronicle'
import type { Lease } from '../../../src/gate/firewall'
import { put, scratch } from '../../system/scratch'

const ID = 'feedfacedeadbeef'
const HOME = '198.51.100.2'
const LEASE: Lease = {
  ...{ id: 'deadbeef', key: 'alice', fingerprint: 'a11ce0', address: HOME },
  ...{ protocol: 'tcp', port: 22, once: false, until: 1_770_000_060 },
}

let parent: string
let said: Record<string, unknown>[]
beforeEach(() => {
  parent = scratch()
  mkdirSync(join(parent, 'state'), { mode: 0o700 })
  mkdirSync(join(parent, 'state-orders'), { mode: 0o755 })
  said = []
})

async function begin(
  daemon = { closeNamed: vi.fn(async () => ({ ended: [LEASE] })), unlock: vi.fn(async () => ({ ended: [] })) },
  show = async () => {},
) {
  const orders = new Orders({
    ledger: join(parent, 'state', 'ledger'),
    daemon,
    chronicle: new Chronicle(0),
    show,
    log: pino({ base: null }, { write: (line) => void said.push(JSON.parse(line)) }),
    now: () => ({ wall: Date.now(), steady: performance.now() }),
  })
  await orders.begin()
  return orders
}
const give = (order: Order) =>
  put(join(parent, 'state-orders'), `${ID}.json`, formatOrder({ id: ID, at: Date.now(), order }), 0o644)
const answers = () => join(parent, 'state', 'answers')
const answer = () => {
  const path = join(answers(), `${ID}.json`)
  return existsSync(path) ? parseAnswer(readFileSync(path, 'utf8')) : null
}

describe('an order', () => {
  it('is carried out and answered as soon as it lies there', async () => {
    const orders = await begin()
    give({ kind: 'close', key: 'alice' })
    await vi.waitFor(() => expect(answer()).not.toBeNull(), 5_000)
    expect(answer()).toMatchObject({ id: ID, closed: [{ id: 'deadbeef', service: '22/tcp', until: '2026-02-02T02:41:00Z' }] })
    await orders.end()
  })

  it('is answered when the state shows what has come of it', async () => {
    let seen: unknown
    const orders = await begin(undefined, async () => {
      seen = answer()
    })
    give({ kind: 'close', key: 'alice' })
    await vi.waitFor(() => expect(answer()).not.toBeNull(), 5_000)
    expect(seen).toBeNull()
    await orders.end()
  })

  it('that fails is answered with why', async () => {
    const failing = vi.fn(async () => ({ ended: [], failed: 'the lock is held' }))
    const orders = await begin({ closeNamed: failing, unlock: vi.fn() })
    give({ kind: 'close', key: 'alice' })
    await orders.look()
    await orders.end()
    expect(answer()).toMatchObject({ closed: [], failed: 'the lock is held' })
  })

  it('to wait for a tap is answered when it comes', async () => {
    const orders = await begin()
    give({ kind: 'await-tap', source: HOME })
    await orders.look()
    orders.hear({ source: '203.0.113.9', destination: HOME, port: 50_000 })
    const before = answer()
    orders.hear({ source: HOME, destination: HOME, port: 50_000 })
    await vi.waitFor(() => expect(answer()).toMatchObject({ heard: true }), 5_000)
    expect(before).toBeNull()
    await orders.end()
  })

  it('to wait for a tap is answered when the daemon ends', async () => {
    const orders = await begin()
    give({ kind: 'await-tap', source: HOME })
    await orders.look()
    await orders.end()
    expect(answer()).toMatchObject({ heard: false })
  })

  it('is not taken when the daemon has ended', async () => {
    const daemon = { closeNamed: vi.fn(async () => ({ ended: [] })), unlock: vi.fn(async () => ({ ended: [] })) }
    const orders = await begin(daemon)
    await orders.end()
    give({ kind: 'close', key: 'alice' })
    await orders.look()
    expect(daemon.closeNamed).not.toHaveBeenCalled()
  })
})

describe('an answer', () => {
  it('may be read by the daemon’s user and group alone', async () => {
    const orders = await begin()
    give({ kind: 'unlock', address: HOME })
    await orders.look()
    await orders.end()
    expect([statSync(answers()).mode & 0o777, statSync(join(answers(), `${ID}.json`)).mode & 0o777]).toEqual([0o700, 0o640])
  })

  it('is written into no folder that a link leads to', async () => {
    const elsewhere = scratch()
    symlinkSync(elsewhere, answers())
    const orders = await begin()
    give({ kind: 'unlock', address: HOME })
    await orders.look()
    await orders.end()
    expect([readdirSync(elsewhere), said.at(-1)?.msg]).toEqual([
      [],
      expect.stringMatching(/^an order was carried out and cannot be answered: .*and no link/),
    ])
  })

  it('that nobody has taken is gone after a minute, and what is no answer stays', async () => {
    mkdirSync(answers(), { mode: 0o700 })
    const past = Date.now() / 1000 - 61
    for (const name of ['0123456789abcdef.json', 'mine.txt']) utimesSync(put(answers(), name, '{}'), past, past)
    put(answers(), 'fedcba9876543210.json', '{}')
    const orders = await begin()
    await orders.end()
    expect(readdirSync(answers()).sort()).toEqual(['fedcba9876543210.json', 'mine.txt'])
  })
})

it('that an order is ignored is said, and once in a while only', async () => {
  const orders = await begin()
  const bad = (n: number) => put(join(parent, 'state-orders'), `000000000000000${n}.json`, 'rubbish', 0o644)
  for (let n = 0; n < 5; n++) {
    bad(n)
    await orders.look()
  }
  await orders.end()
  expect(said.map(({ msg }) => msg)).toEqual([expect.stringMatching(/^an order was ignored: .*is no order/)])
})
