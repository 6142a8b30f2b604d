import {
  chmodSync,
  chownSync,
  constants,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { join } from 'node:path'
import pino from 'pino'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { closeLeases } from '../../src/admin/leases'
import { giveOrder } from '../../src/admin/orders'
import type { Config } from '../../src/daemon/config'
import { hold } from '../../src/daemon/ledger/lock'
import { MAX_ORDERS, type Order } from '../../src/daemon/orders/order'
import { Orders } from '../../src/daemon/orders/orders'
import { Chronicle } from '../../src/gate/chronicle'
import { put, scratch } from '../system/scratch'

const CLOSE: Order = { kind: 'close', key: 'alice' }
const OTHER = 65_534
const isRoot = process.getuid?.() === 0

let parent: string
let ledger: string
const held: FileHandle[] = []
const running: Orders[] = []
beforeEach(() => {
  parent = scratch()
  mkdirSync(join(parent, 'state'), { mode: 0o700 })
  ledger = put(join(parent, 'state'), 'ledger', '')
})
afterEach(async () => {
  for (const orders of running.splice(0)) await orders.end()
  for (const file of held.splice(0)) await file.close()
})

const config = () => ({ ledger: { path: ledger, fleet: null } })
const folder = () => join(parent, 'state-orders')
const give = (order: Order = CLOSE) => giveOrder(config(), order)

/** Processes of a name that this one has started. */
const childrenNamed = (name: string) =>
  readdirSync('/proc/self/task')
    .flatMap((task) => readFileSync(`/proc/self/task/${task}/children`, 'latin1').split(' '))
    .filter((pid) => /^\d+$/.test(pid) && readFileSync(`/proc/${pid}/comm`, 'latin1').trim() === name)

/** A daemon that holds the ledger. */
async function daemon() {
  const file = await open(ledger, constants.O_RDWR)
  held.push(file)
  await hold(ledger, file)
  const closeNamed = vi.fn(async () => ({ ended: [] }))
  const orders = new Orders({
    ledger,
    daemon: { closeNamed, unlock: vi.fn(async () => ({ ended: [] })) },
    chronicle: new Chronicle(0),
    show: async () => {},
    log: pino({ level: 'silent' }),
    now: () => ({ wall: Date.now(), steady: performance.now() }),
  })
  running.push(orders)
  await orders.begin()
  return closeNamed
}

describe('an order', () => {
  it('is answered by the daemon, and leaves nothing among the orders', async () => {
    const closeNamed = await daemon()
    expect(await give()).toMatchObject({ closed: [] })
    expect([closeNamed.mock.calls, readdirSync(folder())]).toEqual([[[CLOSE]], []])
  })

  it('that is answered waits for no lock: whoever gives it would wait with it', async () => {
    await daemon()
    const bin = scratch()
    put(bin, 'flock', '#!/bin/sh\nexec sleep 600\n', 0o755)
    const before = process.env.PATH
    process.env.PATH = `${bin}:${before}`
    const answer = await give().finally(() => (process.env.PATH = before))
    expect(answer).toMatchObject({ closed: [] })
    // By itself it would be ended after five seconds.
    await vi.waitFor(() => expect(childrenNamed('sleep')).toEqual([]), 3_000)
  })

  it('has its folder made, which all may see and its owner alone may write, whatever the umask', async () => {
    const before = process.umask(0o077)
    await give().finally(() => process.umask(before))
    expect(statSync(folder()).mode & 0o7777).toBe(0o755)
  })

  it('finds no daemon where nobody holds the ledger, and none that starts later carries it out', async () => {
    const outcome = await give()
    const closeNamed = await daemon()
    expect([outcome, readdirSync(folder()), closeNamed.mock.calls]).toEqual(['dead', [], []])
  })

  it('finds no daemon where there is no ledger', async () => {
    ledger = join(parent, 'state', 'none')
    expect(await give()).toBe('dead')
  })

  it('to close nothing is none', async () => {
    await expect(give({ kind: 'close' })).rejects.toThrow(/expected an address, a key id or a lease id/)
  })
})

describe('root writes', () => {
  it('nowhere by a link in the place of the folder', async () => {
    const elsewhere = scratch()
    symlinkSync(elsewhere, folder())
    await expect(give()).rejects.toThrow(/expected a folder, and no link/)
    expect(readdirSync(elsewhere)).toEqual([])
  })

  it.runIf(isRoot)('nothing into a folder of the daemon’s user', async () => {
    mkdirSync(folder(), { mode: 0o755 })
    chownSync(folder(), OTHER, OTHER)
    await expect(give()).rejects.toThrow(/expected a folder of root's/)
    expect(readdirSync(folder())).toEqual([])
  })

  it('nothing into a folder that others may write', async () => {
    mkdirSync(folder())
    chmodSync(folder(), 0o777)
    await expect(give()).rejects.toThrow(/users other than its owner may write it/)
    expect(readdirSync(folder())).toEqual([])
  })

  it.runIf(isRoot)('nothing beside a folder that the daemon’s user could put a link in the place of', async () => {
    const theirs = join(parent, 'theirs')
    mkdirSync(join(theirs, 'state'), { recursive: true })
    ledger = put(join(theirs, 'state'), 'ledger', '')
    chownSync(theirs, OTHER, OTHER)
    await expect(give()).rejects.toThrow(/expected a folder that root alone may change/)
    expect(readdirSync(theirs)).toEqual(['state'])
  })
})

describe('root reads', () => {
  /** An answer to every order, as soon as it lies there. */
  const forge = (answer: (id: string) => void) => {
    const timer = setInterval(() => {
      for (const name of existsSync(folder()) ? readdirSync(folder()) : [])
        if (/^[0-9a-f]{16}\.json$/.test(name)) answer(name.slice(0, 16))
    }, 1)
    return () => clearInterval(timer)
  }
  const answers = () => join(parent, 'state', 'answers')
  const at = '2026-01-01T00:00:00Z'

  it('no answer by a link', async () => {
    await daemon().then(() => running.splice(0)[0].end())
    mkdirSync(answers())
    const secret = put(scratch(), 'secret', 'hidden')
    const stop = forge((id) => {
      if (!existsSync(join(answers(), `${id}.json`))) symlinkSync(secret, join(answers(), `${id}.json`))
    })
    await expect(give().finally(stop)).rejects.toThrow(/is a link, and is not followed/)
  })

  it('no answer to another order', async () => {
    mkdirSync(answers(), { mode: 0o700 })
    const stop = forge((id) =>
      writeFileSync(join(answers(), `${id}.json`), JSON.stringify({ id: 'feedfacedeadbeef', at, closed: [] })),
    )
    expect(await give().finally(stop)).toBe('dead')
  })

  it.each<[string, object]>([
    ['of another key', { key: 'bob' }],
    ['for an address that is none', { address: 'everybody' }],
    ['of no service', { service: 'all' }],
  ])('no lease %s as one that was closed: its connections would be ended', async (_, more) => {
    await daemon().then(() => running.splice(0)[0].end())
    mkdirSync(answers(), { mode: 0o700 })
    const lease = { id: '0a1b2c3d', key: 'alice', fingerprint: 'f', address: '198.51.100.2', service: '22/tcp', once: false }
    const named = { key: 'alice', address: '198.51.100.0/24' }
    const close = (closed: readonly object[]) => {
      const stop = forge((id) => writeFileSync(join(answers(), `${id}.json`), JSON.stringify({ id, at, closed })))
      return closeLeases(config() as Config, named).finally(stop)
    }
    const whole = { ...lease, opened: null, until: null }
    expect((await close([whole])).ended).toEqual([whole])
    await expect(close([whole, { ...whole, ...more }])).rejects.toThrow(/has closed what nobody has named/)
  })

  it.runIf(isRoot)('no ledger by a link of the daemon’s user: it might lead to a device', async () => {
    const { lchownSync, rmSync } = await import('node:fs')
    const elsewhere = put(scratch(), 'elsewhere', '')
    rmSync(ledger)
    symlinkSync(elsewhere, ledger)
    lchownSync(ledger, OTHER, OTHER)
    await expect(give()).rejects.toThrow(/cannot tell whether a daemon holds the ledger/)
  })
})

describe('what was left among the orders', () => {
  it('is removed after a minute, and what is no order stays', async () => {
    mkdirSync(folder(), { mode: 0o755 })
    const past = Date.now() / 1000 - 61
    for (const name of ['0123456789abcdef.json', '.0123456789abcdee.json.new', 'mine.txt'])
      utimesSync(put(folder(), name, ''), past, past)
    put(folder(), 'fedcba9876543210.json', '')
    await give()
    expect(readdirSync(folder()).sort()).toEqual(['fedcba9876543210.json', 'mine.txt'])
  })

  it('is told of where it is so much that no daemon looks at it', async () => {
    mkdirSync(folder(), { mode: 0o755 })
    for (let i = 0; i < MAX_ORDERS; i++) writeFileSync(join(folder(), `${i}`), '')
    await expect(give()).rejects.toThrow(/holds more than 1024 files/)
  })
})

it('a folder of orders that is replaced while one is given gets nothing', async () => {
  await daemon()
  await give()
  renameSync(folder(), join(parent, 'moved'))
  const elsewhere = scratch()
  symlinkSync(elsewhere, folder())
  await expect(give()).rejects.toThrow(/and no link/)
  expect(readdirSync(elsewhere)).toEqual([])
  expect(readFileSync(ledger, 'utf8')).toBe('')
})
