import {
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  renameSync,
  statSync,
  symlinkSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, it, vi } from 'vitest'
import { giveOrder } from '../../src/admin/orders'
import { formatOrder, type Order, ordersFolder } from '../../src/daemon/orders/order'
import { FRESH, readState, statePath } from '../../src/daemon/state/state'
import { logged } from '../lab/gate'
import { knocked } from '../lab/knocks'
import { useGate } from './use-gate'

/* What root tells a running daemon by a file, and what it tells by its state: over real doors. */

const SSH = 22
const ID = 'feedfacedeadbeef'
/** Milliseconds within which nothing has happened that would have happened at once, or at the next look a second later. */
const NOTHING = 2_500

describe.each(['nftables', 'iptables'] as const)('with %s', (backend) => {
  const { server, client, other, gate } = useGate(['client', 'other'], {
    serve: [SSH],
    backend,
    keyOptions: ['--services', `${SSH}/tcp`, '--lock'],
  })
  const config = () => ({ ledger: { path: gate.ledger, fleet: null } })
  const folder = () => ordersFolder(gate.ledger)
  const open = (host = client) => knocked(host, gate.daemon, gate.key, '-p', String(SSH))
  const sees = async (host = client) => (await host.connect(server.ipv4, SSH)).saw
  const give = (order: Order) => giveOrder(config(), order)
  const state = async () => (await readState(config()))?.state
  /** Lays an order there by hand. */
  const lay = (id = ID, order: Order = { kind: 'close', address: client.ipv4 }, at = Date.now()) => {
    if (!existsSync(folder())) mkdirSync(folder(), { mode: 0o755 })
    writeFileSync(join(folder(), `${id}.json`), formatOrder({ id, at, order }), { mode: 0o644 })
    return join(folder(), `${id}.json`)
  }
  const restart = async () => {
    gate.daemon = await gate.startDaemon()
  }

  it('an order closes a door, and says which, when the kernel has closed it', async () => {
    const { leases } = await open()
    expect(await sees()).toBe('open')
    const answer = await give({ kind: 'close', address: client.ipv4 })
    expect([await sees(), await server.leases(client)]).toEqual(['silence', []])
    expect(answer).toMatchObject({ closed: [{ id: leases[0], key: 'traveller', address: client.ipv4, service: '22/tcp' }] })
    await gate.daemon.line(logged('carried out an order', { order: 'close', ended: 1 }))
  })

  it('an order closes nobody else’s door', async () => {
    await open()
    await open(other)
    await give({ kind: 'close', address: client.ipv4 })
    expect([await sees(), await sees(other)]).toEqual(['silence', 'open'])
    expect(await give({ kind: 'close', key: 'traveller' })).toMatchObject({ closed: [{ address: other.ipv4 }] })
    expect(await sees(other)).toBe('silence')
  })

  it('an order takes a lock off, and the address can knock again', async () => {
    await client.must([join(import.meta.dirname, '../../bin/knockclient'), '-k', gate.key, '--lock', '--passes', '1'])
    await vi.waitFor(async () => expect((await state())?.locks.map(({ address }) => address)).toEqual([client.ipv4]), 10_000)
    expect(await give({ kind: 'unlock', address: client.ipv4 })).toMatchObject({ unlocked: [{ address: client.ipv4 }] })
    await open()
    expect(await sees()).toBe('open')
    await give({ kind: 'close', key: 'traveller' })
  })

  it('an order hears of a tap from where it is awaited', async () => {
    const heard = give({ kind: 'await-tap', source: other.ipv4 })
    const taps = (async () => {
      for (let i = 0; i < 10; i++) {
        await other.connect(server.ipv4, 60_000 + i)
        await sleep(100)
      }
    })()
    expect(await heard).toMatchObject({ heard: true })
    await taps
  })

  it('the state has the lease, the key and its last use, soon after a knock', async () => {
    const { leases } = await open()
    await vi.waitFor(async () => expect((await state())?.leases.map(({ id }) => id)).toEqual(leases), 10_000)
    expect(await state()).toMatchObject({
      ...{ backend, server: 'gate.example', source: 'nflog', ledger: gate.ledger },
      keys: [{ id: 'traveller', services: ['22/tcp'], lastUse: { source: client.ipv4, action: 'open', windowsOff: 0 } }],
      lastKnock: { key: 'traveller', source: client.ipv4, outcome: 'accepted' },
    })
    expect((await state())?.lastTap).not.toBeNull()
    expect(statSync(statePath(gate.ledger)).mode & 0o777).toBe(0o640)
  })

  it('an order of somebody who may write the ledger’s folder and is not root closes nothing where root’s folder is', async () => {
    const path = lay()
    chownSync(path, 1_000, 1_000)
    await gate.daemon.line((line) => /an order was ignored: .*expected a file of root's/.test(line))
    expect(await sees()).toBe('open')
    unlinkSync(path)
  })

  it('an order by a link closes nothing', async () => {
    const elsewhere = join(dirname(folder()), 'elsewhere')
    writeFileSync(elsewhere, formatOrder({ id: ID, at: Date.now(), order: { kind: 'close', address: client.ipv4 } }))
    symlinkSync(elsewhere, join(folder(), `${ID}.json`))
    await sleep(NOTHING)
    expect(await sees()).toBe('open')
    unlinkSync(join(folder(), `${ID}.json`))
  })

  it('an order that a daemon has carried out is not carried out again while it lies there, nor by the next daemon', async () => {
    lay('0000000000000001')
    await vi.waitFor(async () => expect(await sees()).toBe('silence'), 10_000)
    await open()
    await sleep(NOTHING)
    expect(await sees()).toBe('open')
    await gate.daemon.end('SIGKILL')
    await restart()
    await sleep(NOTHING)
    expect([await sees(), readdirSync(folder())]).toEqual(['open', ['0000000000000001.json']])
    unlinkSync(join(folder(), '0000000000000001.json'))
  })

  it('an order that was given while no daemon was there is not carried out by the next', async () => {
    await gate.daemon.end('SIGKILL')
    lay('0000000000000002')
    await restart()
    await sleep(NOTHING)
    expect(await sees()).toBe('open')
    unlinkSync(join(folder(), '0000000000000002.json'))
  })

  it('10,000 files among the orders close nothing and hold up no knock', async () => {
    // All of them at once, before the daemon sees the first.
    const flood = `${folder()}-flood`
    mkdirSync(flood, { mode: 0o755 })
    const order: Order = { kind: 'close', address: client.ipv4 }
    for (let i = 0; i < 10_000; i++) {
      const id = i.toString(16).padStart(16, '0')
      writeFileSync(join(flood, `${id}.json`), formatOrder({ id, at: Date.now(), order }), { mode: 0o644 })
    }
    renameSync(folder(), `${folder()}-before`)
    renameSync(flood, folder())
    await gate.daemon.line((line) => /an order was ignored: .*holds more than 1024 files/.test(line))
    expect([await sees(), await sees(other)]).toEqual(['open', 'silence'])
    await open(other)
    expect(await sees(other)).toBe('open')
    renameSync(folder(), flood)
    renameSync(`${folder()}-before`, folder())
    await sleep(NOTHING)
    expect(await give({ kind: 'close', address: other.ipv4 })).toMatchObject({ closed: [{ address: other.ipv4 }] })
  })

  it('a daemon that was killed leaves a state that is stale, and no order finds it', async () => {
    const before = await readState(config())
    await gate.daemon.end('SIGKILL')
    expect(await give({ kind: 'close', address: client.ipv4 })).toBe('dead')
    const past = Date.now() / 1000 - FRESH / 1000 - 1
    utimesSync(statePath(gate.ledger), past, past)
    expect(Date.now() - ((await readState(config()))?.written ?? 0)).toBeGreaterThan(FRESH)
    expect(await sees()).toBe('open')
    await restart()
    await vi.waitFor(async () => expect((await state())?.pid).not.toBe(before?.state.pid), 10_000)
    expect(await state()).toMatchObject({
      keys: [{ lastUse: before?.state.keys[0].lastUse }],
      leases: [{ address: client.ipv4, opened: before?.state.leases[0].opened }],
    })
  })

  it('an order closes what an earlier daemon has opened', async () => {
    expect(await give({ kind: 'close', key: 'traveller', address: `${client.ipv4}` })).toMatchObject({ closed: [{}] })
    expect(await sees()).toBe('silence')
  })
})
