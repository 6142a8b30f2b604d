import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join as pathOf } from 'node:path'
import { beforeEach, describe, expect, it } from 'vitest'
import { init } from '../../../src/admin/fleet/begin'
import { floor, latestThatAgrees } from '../../../src/admin/fleet/floor'
import { join } from '../../../src/admin/fleet/join'
import { leave } from '../../../src/admin/fleet/leave'
import { readMemory, writeMemory } from '../../../src/daemon/fleet/memory'
import {
  BASE,
  type Base,
  baseFloor,
  floorRow,
  formatBase,
  formatWindow,
  gatewayRow,
  keysRow,
  parseBase,
} from '../../../src/daemon/fleet/rows'
import { acceptedWindows } from '../../../src/gate/clock'
import { Twin } from '../../daemon/fleet/twin'
import { holdLedger } from '../explain/daemon-state'
import { type Beside, NOW, placeOf, set, speak } from './place'

const FIRST = 'f'.repeat(32)
const rowsOf = (etcd: Twin) => Object.fromEntries(etcd.store.rows.map(({ row, value }) => [row, value]))
const baseOf = (etcd: Twin) => parseBase(rowsOf(etcd)[BASE] ?? '') as Base
const remembers = ({ folder }: Beside) => existsSync(pathOf(folder, 'fleet.json'))

let first: Beside
/** Another gateway of the same etcd. */
const another = (more: Parameters<typeof placeOf>[0] = {}) => placeOf({ etcd: first.etcd.beside(), gateway: 'gw2', ...more })
beforeEach(async () => {
  first = await placeOf()
})

describe('fleet init', () => {
  it('makes a base under which no knock of now opens, and joins', async () => {
    const { fleet, gateway, others } = await init(first)
    const base = baseOf(first.etcd)
    expect(base).toMatchObject({ fleet, server: 'gate.example', epoch: 1 })
    expect(baseFloor(base, 30)).toBe(acceptedWindows(NOW, 30, 1).last + 1)
    expect([gateway, others]).toEqual(['gw1', []])
    expect(await readMemory(first.ledger)).toMatchObject({ fleet, epoch: 1, gateway: 'gw1', restored: false })
  })

  it('is refused where there is a fleet, and leaves it as it is', async () => {
    await init(first)
    const before = rowsOf(first.etcd)
    const second = await another()
    await expect(init(second)).rejects.toThrow('there is a fleet already below "knockturn/", of server "gate.example"')
    expect(rowsOf(first.etcd)).toEqual(before)
    expect(remembers(second)).toBe(false)
  })

  it('is refused where this gateway has joined one, before anything is written', async () => {
    await init(first)
    const elsewhere = { ...first, etcd: new Twin() }
    await expect(init(elsewhere)).rejects.toThrow(/has joined fleet [0-9a-f]{16} already, as "gw1"/)
    expect(elsewhere.etcd.store.rows).toEqual([])
  })

  it('makes one fleet where its answer was lost, and it was asked again', async () => {
    first.etcd.plan('twice')
    await init(first)
    expect(baseOf(first.etcd).fleet).toBe((await readMemory(first.ledger))?.fleet)
  })

  it('is refused by a clock that cannot be true', async () => {
    await expect(init(await placeOf({ now: Date.parse('2001-01-01') }))).rejects.toThrow('the clock is wrong')
  })
})

describe('fleet join', () => {
  it('remembers the fleet, its base, and how far etcd is', async () => {
    const { fleet } = await init(first)
    speak(first.etcd, 'gw1')
    const second = await another()
    expect(await join(second)).toMatchObject({ fleet, gateway: 'gw2', others: ['gw1'] })
    const { revision, term, cluster } = first.etcd.store.header
    expect(await readMemory(second.ledger)).toMatchObject({ fleet, epoch: 1, revision, term, cluster, gateway: 'gw2' })
  })

  it.each([
    ['there is no fleet', {}, () => {}, /^there is no fleet below "knockturn\/"$/],
    [
      'the base is of a later version',
      {},
      (etcd: Twin) => set(etcd, BASE, '{}'),
      /^the base of the fleet below "knockturn\/" cannot be read$/,
    ],
    ['the label is another', { server: 'other' }, null, /^the fleet is of server "gate.example", and this gateway of "other"$/],
    ['the skew is another', { skew: 2 }, null, /^gateway "gw1" has skew = 1, and this one 2$/],
  ] as const)('is refused where %s', async (_, more, begin, message) => {
    if (begin) begin(first.etcd)
    else await init(first).then(() => speak(first.etcd, 'gw1'))
    const second = await another(more)
    await expect(join(second)).rejects.toThrow(message)
    expect(remembers(second)).toBe(false)
  })

  it('is refused under a name by which another gateway speaks now', async () => {
    await init(first)
    speak(first.etcd, 'gw2')
    const second = await another()
    second.meanwhile = () => speak(first.etcd, 'gw2', { beat: 8 })
    await expect(join(second)).rejects.toThrow('a gateway that runs now is called "gw2"')
  })

  it('takes over a name by which nobody speaks any more', async () => {
    await init(first)
    speak(first.etcd, 'gw2')
    await join(await another())
  })

  it('is refused where the watch breaks: nobody knows whether the name is taken', async () => {
    await init(first)
    speak(first.etcd, 'gw2')
    const second = await another()
    second.meanwhile = () => second.etcd.cut()
    await expect(join(second)).rejects.toThrow('etcd fell silent while the gateways were listened to: the connection is gone')
  })

  it('is refused where it has joined', async () => {
    await init(first)
    await expect(join(first)).rejects.toThrow('has joined fleet')
  })
})

describe('fleet leave', () => {
  beforeEach(async () => {
    await init(first)
    writeFileSync(first.ledger, 'knockturn-ledger 1 0000000000000036\n')
    speak(first.etcd, 'gw1', {}, [FIRST])
    speak(first.etcd, 'gw3', {}, [FIRST])
  })

  it('removes the rows of this gateway, and what it remembers', async () => {
    expect(await leave(first, null)).toMatchObject({ gateway: 'gw1', others: ['gw3'] })
    expect(Object.keys(rowsOf(first.etcd)).sort()).toEqual([BASE, gatewayRow('gw3'), keysRow('gw3')])
    expect(remembers(first)).toBe(false)
  })

  it('is refused while the daemon of this gateway runs', async () => {
    holdLedger(first.ledger)
    await expect(leave(first, null)).rejects.toThrow('the daemon of this gateway runs')
    expect([remembers(first), gatewayRow('gw1') in rowsOf(first.etcd)]).toEqual([true, true])
  })

  it('leaves the row to another machine that speaks by the same name, and this one is free to join by another', async () => {
    first.meanwhile = () => speak(first.etcd, 'gw1', { beat: 8 })
    expect(await leave(first, null)).toMatchObject({ gateway: 'gw1', isDouble: true, others: ['gw3'] })
    expect([remembers(first), gatewayRow('gw1') in rowsOf(first.etcd)]).toEqual([false, true])
  })

  it('takes out another gateway that is dead, and this one stays', async () => {
    expect(await leave(first, 'gw3')).toMatchObject({ gateway: 'gw3', path: null, others: ['gw1'] })
    expect(gatewayRow('gw3') in rowsOf(first.etcd)).toBe(false)
    expect(remembers(first)).toBe(true)
  })

  it('is refused for a gateway that speaks', async () => {
    first.meanwhile = () => speak(first.etcd, 'gw3', { beat: 8 })
    await expect(leave(first, 'gw3')).rejects.toThrow('a gateway that runs now is called "gw3"')
    expect(gatewayRow('gw3') in rowsOf(first.etcd)).toBe(true)
  })

  it('is refused for a name that nobody has', async () => {
    await expect(leave(first, 'gw9')).rejects.toThrow('there is no gateway "gw9" (there are: gw1, gw3)')
  })
})

describe('fleet floor', () => {
  const HOUR = 3_600_000
  const ahead = (by: number) => ({ ...baseOf(first.etcd), seconds: Math.floor((NOW + by) / 1_000), epoch: 4 })
  beforeEach(async () => {
    await init(first)
  })

  it('sets a base that is ahead to now, by a later epoch, and keeps what is spent', async () => {
    set(first.etcd, BASE, formatBase(ahead(HOUR)))
    set(first.etcd, `ledger/spent/${FIRST}/30/${formatWindow(9)}/v`, '{}')
    const before = rowsOf(first.etcd)
    expect(await floor(first)).toMatchObject({ was: (NOW + HOUR) / 1_000, is: NOW / 1_000, ahead: [] })
    expect(baseOf(first.etcd)).toEqual({ ...ahead(0), epoch: 5, ahead: 2 })
    expect({ ...rowsOf(first.etcd), [BASE]: '' }).toEqual({ ...before, [BASE]: '' })
  })

  it('names the keys whose floors are ahead, and leaves them', async () => {
    const window = Math.floor((NOW + HOUR) / 30_000)
    set(first.etcd, floorRow(FIRST, 30), formatWindow(window))
    set(first.etcd, floorRow('0'.repeat(32), 30), formatWindow(Math.floor(NOW / 30_000) - 2))
    expect((await floor(first)).ahead).toEqual([{ fingerprint: FIRST, until: window * 30_000 }])
    expect(rowsOf(first.etcd)[floorRow(FIRST, 30)]).toBe(formatWindow(window))
  })

  it('makes the base anew by what is remembered, where etcd was made anew', async () => {
    const memory = await readMemory(first.ledger)
    await writeMemory(first.ledger, { ...(memory as NonNullable<typeof memory>), epoch: 6 })
    const anew = { ...first, etcd: new Twin() }
    expect(await floor(anew)).toMatchObject({ was: null, is: NOW / 1_000 })
    expect(baseOf(anew.etcd)).toMatchObject({ fleet: memory?.fleet, epoch: 7 })
  })

  it('goes beyond every base that a gateway knows: none goes by an earlier one', async () => {
    speak(first.etcd, 'gw2', { epoch: 9 })
    await floor(first)
    expect(baseOf(first.etcd).epoch).toBe(10)
  })

  it('goes by no epoch that nobody has come to, and that no other could follow', async () => {
    speak(first.etcd, 'gw2', { epoch: Number.MAX_SAFE_INTEGER })
    set(first.etcd, BASE, formatBase({ ...baseOf(first.etcd), epoch: Number.MAX_SAFE_INTEGER }))
    await floor(first)
    expect(baseOf(first.etcd).epoch).toBe(2)
  })

  it.each([
    ['has not joined', { gateway: 'gw9' }, /^this gateway has not joined the fleet/],
    ['has joined another', {}, /^this gateway has joined fleet [0-9a-f]{16}, and etcd has 0{16}$/],
  ] as const)('is refused by a gateway that %s', async (_, more, message) => {
    const place = 'gateway' in more ? await another(more) : first
    if (place === first) set(first.etcd, BASE, formatBase({ ...baseOf(first.etcd), fleet: '0'.repeat(16) }))
    const before = rowsOf(first.etcd)
    await expect(floor(place)).rejects.toThrow(message)
    expect(rowsOf(first.etcd)).toEqual(before)
  })

  it.each([
    ['label', { server: 'other' }, /^the fleet is of server "gate.example", and this gateway of "other"$/],
    ['skew', { skew: 2 }, /^gateway "gw2" has skew = 1, and this one 2$/],
  ] as const)('takes another %s over where no gateway speaks, and is refused where one does', async (_, config, message) => {
    const changed = { ...first, config: { ...first.config, ...config } }
    speak(first.etcd, 'gw2')
    changed.wait = async () => {
      speak(first.etcd, 'gw2', { beat: 8 })
      await new Promise(setImmediate)
    }
    const before = rowsOf(first.etcd)[BASE]
    await expect(floor(changed)).rejects.toThrow(message)
    expect(rowsOf(first.etcd)[BASE]).toBe(before)
    await floor({ ...changed, wait: first.wait })
    expect(baseOf(first.etcd)).toMatchObject({ epoch: 2, server: changed.config.server, ahead: changed.config.skew + 1 })
  })

  it('is refused where there is no fleet, and none is remembered', async () => {
    await expect(floor(await placeOf())).rejects.toThrow('there is no fleet below "knockturn/"')
  })

  it('is refused where the clock is off by a window, and the base stays', async () => {
    speak(first.etcd, 'gw2')
    first.meanwhile = () => speak(first.etcd, 'gw2', { beat: 8, wall: NOW + 30_000 })
    const before = rowsOf(first.etcd)[BASE]
    await expect(floor(first)).rejects.toThrow(
      "the fleet cannot begin by this machine's clock: it differs by 30.0 s from that of gw2",
    )
    expect(rowsOf(first.etcd)[BASE]).toBe(before)
  })

  it('goes by the later of clocks that agree, so that a slow one revives nothing', async () => {
    speak(first.etcd, 'gw2')
    first.meanwhile = () => speak(first.etcd, 'gw2', { beat: 8, wall: NOW + 29_000 })
    expect(await floor(first)).toMatchObject({ is: NOW / 1_000 + 29, agreeing: ['gw2'] })
  })

  it('is refused where somebody changes the base meanwhile, and theirs stays', async () => {
    speak(first.etcd, 'gw2')
    const theirs = formatBase(ahead(1_000))
    first.meanwhile = () => set(first.etcd, BASE, theirs)
    await expect(floor(first)).rejects.toThrow('the base was changed by another gateway at the same moment')
    expect(rowsOf(first.etcd)[BASE]).toBe(theirs)
  })
})

describe('the clock of a floor', () => {
  const latest = (...offsets: number[]) =>
    latestThatAgrees(
      offsets.map((offset, i) => ({ name: `gw${i + 2}`, offset, synchronised: null })),
      30_000,
    )
  it.each([
    [[], 0],
    [[-400], 0],
    [[400], 400],
    [[-29_999], 0],
    [[400, 1_000], 1_000],
    // One that is far off, of three: it is that one.
    [[400, 90_000], 400],
    [[-90_000, 400], 400],
  ])('with others that are ahead by %j ms is so many later', (offsets, ms) => {
    expect(latest(...offsets)).toBe(ms)
  })

  it.each([[[30_000]], [[-30_000]], [[90_000, 91_000]], [[90_000, 90_000, 0]], [[-90_000, -91_000]]])(
    'is not believed where others are ahead by %j ms',
    (offsets) => {
      expect(() => latest(...offsets)).toThrow(/^the fleet cannot begin by this machine's clock: /)
    },
  )
})

it('the memory of a gateway is for nobody else to read', async () => {
  await init(first)
  expect(readFileSync(pathOf(first.folder, 'fleet.json'), 'utf8')).toContain('"version":1')
})
