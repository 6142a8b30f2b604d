import {
  chmodSync,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { base32nopad } from '@scure/base'
import pino from 'pino'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { type Config, parseConfig } from '../../../src/daemon/config'
import { StateKeeper } from '../../../src/daemon/state/keeper'
import { FRESH, MAX_STATE, readState, type StateHearing } from '../../../src/daemon/state/state'
import { Chronicle } from '../../../src/gate/chronicle'
import { Leases } from '../../../src/gate/leases'
import type { ServerKey } from '../../../src/gate/server-key'
import { serverKey } from '../../replay/world'
import { put, scratch } from '../../system/scratch'

const HOME = '198.51.100.2'
const now = () => ({ wall: Date.now(), steady: performance.now() })

let folder: string
let said: Record<string, unknown>[]
let config: Config
const keepers: StateKeeper[] = []
beforeEach(async () => {
  folder = scratch()
  said = []
  const text = `server = "gate.example"\n[firewall]\nbackend = "nftables"\nguard = ["22/tcp", "60000-61000/udp"]\n[ledger]\npath = "ledger"\n`
  const read = await parseConfig(join(folder, 'knockturn.toml'), text)
  if (read.faults) throw read.faults[0]
  config = read.value
})
afterEach(async () => {
  for (const keeper of keepers.splice(0)) await keeper.end()
})

const path = () => join(folder, 'state.json')

interface Stage {
  keys?: readonly ServerKey[]
  leases?: Leases
  chronicle?: Chronicle
  heard?: number
}

/** A daemon's state, kept from now on. What it is told can be changed. */
async function keep({ keys = [serverKey(1)], leases = new Leases(), chronicle = new Chronicle(Date.now()) }: Stage = {}) {
  const taps = { counters: { seen: 5, ignored: 1, unreadable: 0, dropped: 2 } }
  const told = { heard: 0, keys, hearing: 'well' as StateHearing }
  const keeper = new StateKeeper({
    ...{ program: '0.1.0 (abcdef)', file: join(folder, 'knockturn.toml'), config, leases, chronicle, taps, now },
    keys: () => told.keys,
    heard: () => told.heard,
    hearing: () => told.hearing,
    log: pino({ base: null }, { write: (line) => void said.push(JSON.parse(line)) }),
  })
  keepers.push(keeper)
  await keeper.begin()
  return { keeper, leases, chronicle, told }
}
const open = (leases: Leases, id = 'deadbeef', address = HOME) =>
  leases.open(
    id,
    'user1',
    serverKey(1).fingerprint,
    { action: 'open', address, services: [{ port: 22, protocol: 'tcp' }], once: false, until: null },
    now(),
  ) ?? []
const state = async () => (await readState(config))?.state

describe('a state file', () => {
  it('says what the daemon is, has and has been through', async () => {
    const leases = new Leases()
    const chronicle = new Chronicle(Date.now())
    for (const lease of open(leases)) chronicle.opened(lease, Date.now())
    const { fingerprint } = serverKey(1)
    chronicle.accepted(fingerprint, { at: Date.now(), key: 'user1', source: HOME, action: 'open', windowsOff: 1 })
    leases.lock({ id: '00000002', key: 'user1', fingerprint, address: HOME, until: Math.ceil(Date.now() / 1000) + 60 }, now())
    await keep({ leases, chronicle })
    expect(await state()).toMatchObject({
      ...{
        version: 1,
        program: '0.1.0 (abcdef)',
        pid: process.pid,
        server: 'gate.example',
        backend: 'nftables',
        source: 'nflog',
      },
      ...{ config: join(folder, 'knockturn.toml'), ledger: join(folder, 'ledger'), guard: ['22/tcp', '60000-61000/udp'] },
      ...{ hearing: 'well', taps: { seen: 5, ignored: 1, unreadable: 0, dropped: 2 } },
      lastKnock: { key: 'user1', source: HOME, action: 'open', outcome: 'accepted' },
      keys: [{ id: 'user1', expires: null, services: ['22/tcp'], lastUse: { source: HOME, action: 'open', windowsOff: 1 } }],
      leases: [{ id: 'deadbeef', key: 'user1', address: HOME, service: '22/tcp', once: false, until: null }],
      locks: [{ id: '00000002', key: 'user1', address: HOME }],
      day: { accepted: 1, refused: {}, dropped: 2 },
    })
    expect((await state())?.leases[0].opened).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/)
  })

  it('has no secret of a key', async () => {
    const passcode = { pin: '4711', services: [], seconds: 60, once: false }
    const key = serverKey(1, {}, { passcode })
    await keep({ keys: [key] })
    const text = readFileSync(path(), 'utf8')
    const secrets = Object.entries(key.key).filter(([name, value]) => value instanceof Uint8Array && name !== 'fingerprint')
    expect(secrets.length).toBeGreaterThan(0)
    for (const [, secret] of secrets) {
      const bytes = Buffer.from(secret)
      const forms = (['hex', 'base64', 'base64url', 'latin1'] as const).map((form) => bytes.toString(form))
      // As JSON has a Buffer, and a Uint8Array; and as a key's file has it.
      const written = [...forms, [...bytes].join(), JSON.stringify({ ...bytes }).slice(1, -1), base32nopad.encode(bytes)]
      // Its beginning is enough, in whatever it is: without what pads it.
      for (const form of written) expect(text.toLowerCase()).not.toContain(form.toLowerCase().slice(0, 16))
    }
    expect(text).not.toContain('4711')
    expect(Object.keys(JSON.parse(text).keys[0]).sort()).toEqual(['expires', 'fingerprint', 'id', 'lastUse', 'services'])
  })

  it('may be read by its owner’s group, and by nobody else, whatever the umask', async () => {
    const before = process.umask(0o077)
    await keep().finally(() => process.umask(before))
    expect(statSync(path()).mode & 0o777).toBe(0o640)
  })

  it('is written soon when a lease has come or gone', async () => {
    const { leases } = await keep()
    open(leases)
    await vi.waitFor(async () => expect((await state())?.leases.length).toBe(1), 5_000)
    leases.endAll(() => true)
    await vi.waitFor(async () => expect((await state())?.leases.length).toBe(0), 5_000)
  })

  it('is written soon when there are other keys, or the daemon hears no more', async () => {
    const { told } = await keep()
    told.keys = [serverKey(1), serverKey(2)]
    told.hearing = 'deaf'
    await vi.waitFor(async () => expect(await state()).toMatchObject({ hearing: 'deaf', keys: [{}, {}] }), 5_000)
  })

  it('has 5,000 leases whole', async () => {
    const leases = new Leases({ all: 65_536, key: 65_536 })
    for (let i = 0; i < 5_000; i++) open(leases, i.toString(16).padStart(8, '0'), `10.0.${i >> 8}.${i & 255}`)
    await keep({ leases })
    expect(new Set((await state())?.leases.map(({ address }) => address)).size).toBe(5_000)
  })

  it('is written through no link', async () => {
    const victim = put(scratch(), 'victim', 'untouched')
    symlinkSync(victim, `${path()}.new`)
    symlinkSync(victim, path())
    await keep()
    expect([readFileSync(victim, 'utf8'), (await state())?.server]).toEqual(['untouched', 'gate.example'])
  })

  it('that is deleted is written anew', async () => {
    const { leases } = await keep()
    rmSync(path())
    open(leases)
    await vi.waitFor(() => expect(existsSync(path())).toBe(true), 5_000)
  })

  it('that can’t be written is told of once, and again when it can be', async () => {
    mkdirSync(join(path(), 'in-the-way'), { recursive: true })
    const { leases, keeper } = await keep()
    open(leases)
    await new Promise((resolve) => setTimeout(resolve, 300))
    const before = said.map(({ msg }) => msg)
    rmSync(path(), { recursive: true })
    await keeper.end()
    expect([before.filter((msg) => /cannot write the state/.test(`${msg}`)).length, said.at(-1)?.msg]).toEqual([
      1,
      'the state file is writable again',
    ])
    expect(readdirSync(folder)).not.toContain('state.json.new')
  })
})

describe('the next daemon', () => {
  it('goes on with last uses, the day, and when leases were opened', async () => {
    const leases = new Leases()
    const before = await keep({ leases })
    const { fingerprint } = serverKey(1)
    before.chronicle.accepted(fingerprint, { at: Date.now(), key: 'user1', source: HOME, action: 'open', windowsOff: -1 })
    for (const lease of open(leases)) before.chronicle.opened(lease, Date.now())
    await before.keeper.end()
    const first = await state()
    const after = new Leases()
    open(after)
    await keep({ leases: after })
    const second = await state()
    const kept = (one: typeof first) => [one?.keys, one?.lastKnock, one?.leases, one?.day.since, one?.day.accepted]
    expect(kept(second)).toEqual(kept(first))
    expect(second?.day.accepted).toBe(1)
  })

  it('begins anew where what is left is damaged, and says so', async () => {
    put(folder, 'state.json', '{', 0o640)
    await keep()
    expect(said[0]).toMatchObject({
      msg: 'the state of an earlier daemon is not used',
      reason: expect.stringMatching(/is not JSON/),
    })
    expect((await state())?.day.accepted).toBe(0)
  })

  it('takes over nothing from the daemon of another ledger', async () => {
    const { chronicle, keeper } = await keep()
    chronicle.accepted(serverKey(1).fingerprint, { at: Date.now(), key: 'user1', source: HOME, action: 'open', windowsOff: 0 })
    await keeper.end()
    config = { ...config, ledger: { path: join(folder, 'another'), fleet: null } }
    await keep()
    expect((await state())?.day.accepted).toBe(0)
  })
})

describe('a state is read', () => {
  it('not where there is none', async () => {
    expect(await readState(config)).toBeNull()
  })

  it('not where it is of another ledger', async () => {
    await keep()
    expect(await readState({ ledger: { path: join(folder, 'another'), fleet: null } })).toBeNull()
  })

  it('with when it was written', async () => {
    const { keeper } = await keep()
    await keeper.end()
    const past = Date.now() - FRESH - 60_000
    utimesSync(path(), past / 1000, past / 1000)
    expect(Math.round((await readState(config))?.written ?? 0)).toBe(past)
  })

  it.each([
    [
      'of a later version',
      (text: string) => text.replace('"version":1', '"version":2'),
      /is of a later version of Knockturn \(2\)/,
    ],
    ['that says half of it', (text: string) => text.replace('"pid"', '"pd"'), /is damaged/],
    ['that is no JSON', (text: string) => text.slice(1), /is not JSON/],
    ['that is a number', () => '7', /is damaged/],
    ['with a time that is none', (text: string) => text.replace(/"started":"[^"]+"/, '"started":"now"'), /is damaged/],
    // Date.parse takes what is in brackets for a remark.
    [
      'with a time that a terminal obeys',
      (text: string) => text.replace(/"since":"[^"]+"/, '"since":"2026-11-30(\\u001b]0;x\\u0007)Z"'),
      /is damaged/,
    ],
    [
      'with a name that would make each row as long',
      (text: string) => text.replace(/"server":"[^"]+"/, `"server":"${'x'.repeat(256)}"`),
      /is damaged/,
    ],
  ])('not one %s', async (_, change, fault) => {
    const { keeper } = await keep()
    await keeper.end()
    put(folder, 'state.json', change(readFileSync(path(), 'utf8')), 0o640)
    await expect(readState(config)).rejects.toThrow(fault)
  })

  it('with what a later program has added left out', async () => {
    const { keeper } = await keep()
    await keeper.end()
    put(folder, 'state.json', readFileSync(path(), 'utf8').replace('"version":1', '"version":1,"more":[]'), 0o640)
    expect(await state()).not.toHaveProperty('more')
  })

  it('through no link', async () => {
    const elsewhere = put(scratch(), 'elsewhere', '{}')
    symlinkSync(elsewhere, path())
    await expect(readState(config)).rejects.toThrow(/is a link, and is not followed/)
  })

  it('by no other name of a file', async () => {
    linkSync(put(scratch(), 'elsewhere', '{}'), path())
    await expect(readState(config)).rejects.toThrow(/is not the daemon's own file/)
  })

  it('not where others may write it', async () => {
    await keep()
    chmodSync(path(), 0o666)
    await expect(readState(config)).rejects.toThrow(/users other than its owner may write it/)
  })

  it('with few words said of millions of faults in it', async () => {
    const { keeper } = await keep()
    await keeper.end()
    const text = readFileSync(path(), 'utf8').replace('"leases":[]', () => `"leases":[0${',0'.repeat(1_000_000)}]`)
    put(folder, 'state.json', text, 0o640)
    const before = process.memoryUsage().heapTotal
    await expect(readState(config)).rejects.toThrow(/is damaged/)
    // A fault of each entry would be some 500 MB.
    expect(process.memoryUsage().heapTotal - before).toBeLessThan(200 * 1024 * 1024)
  })

  it('not where it is longer than one can be', async () => {
    writeFileSync(path(), '')
    truncateSync(path(), MAX_STATE + 1)
    await expect(readState(config)).rejects.toThrow(/expected at most 67108864 bytes/)
  })
})
