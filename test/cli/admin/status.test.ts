import { existsSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import type { Sight } from '../../../src/admin/alive'
import { wrongWithFleet } from '../../../src/admin/fleet/standing'
import { type GuardSight, type Status, wrongWith } from '../../../src/admin/status'
import { documentOf, linesOf } from '../../../src/cli/admin/status'
import type { StateFleet } from '../../../src/daemon/state/fleet'
import type { State, StateKey, StateLease } from '../../../src/daemon/state/state'
import { Fault } from '../../../src/system/fault'
import { put, scratch } from '../../system/scratch'
import { run } from '../programs'

const NOW = Date.UTC(2026, 10, 30, 12)
const at = (seconds: number) => `${new Date(NOW + seconds * 1_000).toISOString().slice(0, -5)}Z`

const STATE: State = {
  ...{ fleet: null, version: 1, program: '0.9.0 (a820981)', pid: 4_711, started: at(-7_200) },
  ...{ config: '/etc/knockturn/knockturn.toml', ledger: '/var/lib/knockturn/ledger', server: 'gate.example' },
  ...{ backend: 'nftables', source: 'nflog', hearing: 'well', lastTap: at(-3) },
  lastKnock: { at: at(-240), key: 'alice', source: '198.51.100.7', action: 'open', outcome: 'accepted' },
  taps: { seen: 4_000, ignored: 1, unreadable: 0, dropped: 12 },
  ...{ guard: ['22/tcp'], keys: [], leases: [], locks: [] },
  day: {
    ...{ since: at(-86_400), accepted: 12, refused: { replayed: 2, stale: 1 }, taps: 4_000, dropped: 12 },
    busiest: { at: at(-3_600), taps: 300 },
  },
}
const lease = (n: number, more: Partial<StateLease> = {}): StateLease => ({
  ...{ id: n.toString(16).padStart(8, '0'), key: 'alice', fingerprint: 'f'.repeat(32), address: `10.0.0.${n}` },
  ...{ service: '22/tcp', once: false, opened: at(-60), until: at(240) },
  ...more,
})
const key = (id: string, more: Partial<StateKey> = {}): StateKey => ({
  ...{ id, fingerprint: 'f'.repeat(32), expires: null, services: ['22/tcp'], lastUse: null },
  ...more,
})
const GUARD: GuardSight = { ports: ['22/tcp', '60000-61000/udp'], isLoaded: true, isPermanent: true }
const status = (more: Partial<Status> = {}): Status => ({
  config: { file: '/etc/knockturn/knockturn.toml', server: 'gate.example', backend: 'nftables', source: 'nflog' },
  ...{ life: 'alive', state: STATE, written: NOW, guard: GUARD, by: 'daemon', leases: [], locks: [], faults: [] },
  ...more,
})
const text = (more: Partial<Status> = {}, most = 10) => linesOf(status(more), NOW, most)
const starting = (lines: readonly string[], name: string) => lines.find((line) => line.startsWith(name))

describe('what status says', () => {
  it('is in words and as ISO 8601', () => {
    const lines = text({ leases: [lease(7)] })
    expect(starting(lines, 'daemon')).toBe(`daemon    alive, 0.9.0 (a820981), pid 4711, started 2 hr ago (${at(-7_200)})`)
    expect(starting(lines, 'hearing')).toBe(
      `hearing   well; last tap 3 sec ago (${at(-3)}); last knock 4 min ago (${at(-240)}): open by alice from 198.51.100.7, accepted; ` +
        'the kernel has dropped 12 taps',
    )
    expect(starting(lines, 'guard')).toBe('guard     loaded, permanent: 22/tcp, 60000-61000/udp')
    expect(starting(lines, '  00000007')).toBe(`  00000007  alice  10.0.0.7  22/tcp         in 4 min (${at(240)})`)
    expect(starting(lines, 'last day')).toBe(
      `last day  12 knocks accepted, 3 refused (replayed 2, stale 1); 4,000 taps, 12 dropped; the busiest minute at ${at(-3_600)} had 300; ` +
        `since ${at(-86_400)}`,
    )
  })

  it('has nothing in it that a terminal obeys, whatever the daemon’s user has written', () => {
    const evil = '\u001b]0;x\u0007'
    const state: State = {
      ...STATE,
      ...{
        program: evil,
        lastTap: at(0),
        lastKnock: { ...STATE.lastKnock, at: at(0), key: evil, source: evil } as State['lastKnock'],
      },
      keys: [key(evil, { lastUse: { at: at(0), source: evil, action: evil, windowsOff: 0 } })],
      day: { ...STATE.day, since: evil, busiest: { at: evil, taps: 1 } },
    }
    const lines = text({ state, leases: [lease(1, { key: evil, address: evil })] })
    expect(lines.join('').match(/\p{Cc}/gu)).toBeNull()
  })

  const FLEET: StateFleet = {
    ...{
      gateway: 'gw1',
      fleet: '0'.repeat(16),
      epoch: 1,
      base: null,
      link: null,
      since: at(-3_600),
      clocks: null,
      synchronised: true,
      revoked: [],
    },
    gateways: ['gw2', 'gw3'].map((name) => ({ name, at: at(-1), offset: 3, synchronised: true, life: '' })),
    ...{ size: 999, quota: 2_000, alarms: [] },
  }
  it('is how its daemon stands in a fleet', () => {
    const silent = FLEET.gateways.map((one, i) => ({ ...one, offset: i === 0 ? 3 : null }))
    expect(starting(text({ state: { ...STATE, fleet: { ...FLEET, gateways: silent } } }), 'fleet')).toBe(
      `fleet     accepts knocks, since 1 hr ago (${at(-3_600)}), as gw1; 1 of 2 other gateways speaks`,
    )
    expect(starting(text({ state: { ...STATE, fleet: { ...FLEET, link: 'the watch is 12 s old' } } }), 'fleet')).toMatch(
      /^fleet {5}accepts none, since .*; 2 of 2 other gateways speak$/,
    )
    expect(starting(text({ state: { ...STATE, fleet: FLEET }, life: 'silent' }), 'fleet')).toMatch(
      /^fleet {5}not known: no daemon/,
    )
    expect(starting(text(), 'fleet')).toBeUndefined()
  })

  it.each<[string, Partial<StateFleet>, string[]]>([
    ['is well', {}, []],
    ['opens nothing', { link: 'the watch is 12 s old' }, ['nothing new opens: the watch is 12 s old']],
    ['has clocks that differ', { clocks: 'they differ' }, ['a clock of the fleet is wrong: they differ']],
    ['has an etcd that is half full', { size: 1_000 }, ['etcd has used half of its quota']],
    ['has an etcd with an alarm', { alarms: ['NOSPACE'] }, ['etcd complains: NOSPACE']],
  ])('says of a fleet that %s what is wrong', (_, more, wanted) => {
    expect(wrongWithFleet({ ...FLEET, ...more }).map(({ message }) => message)).toEqual(wanted)
    const sight: Sight = { life: 'alive', state: { ...STATE, fleet: { ...FLEET, ...more } }, written: NOW, faults: [] }
    expect(wrongWith(sight, GUARD).map(({ message }) => message)).toEqual(wanted)
    // What a daemon has said last is not how it is.
    expect(wrongWith({ ...sight, life: 'dead' }, GUARD).map(({ message }) => message)).toEqual([
      'no daemon is running: nothing opens',
    ])
  })

  it('is some rows of many, and how to see the rest', () => {
    const lines = text({ leases: Array.from({ length: 12 }, (_, n) => lease(n + 1)) }, 2)
    expect(lines.filter((line) => line.includes('10.0.0.'))).toHaveLength(2)
    expect(lines).toContain('  and 10 more: "knockturn lease list"')
  })

  it('has the keys that end first in front, then those that were used last', () => {
    const used = (id: string, seconds: number) =>
      key(id, { lastUse: { at: at(seconds), source: '10.0.0.1', action: 'open', windowsOff: -2 } })
    const keys = [key('never'), used('long-ago', -9_000), used('lately', -60), key('ending', { expires: at(86_400 * 3) })]
    const lines = text({ state: { ...STATE, keys } })
    const ids = lines.flatMap((line) => /^ {2}(\S+) +f{8}/.exec(line)?.[1] ?? [])
    expect(ids).toEqual(['ending', 'lately', 'long-ago', 'never'])
    expect(starting(lines, '  ending')).toContain(`in 3 days (${at(86_400 * 3)})`)
    expect(starting(lines, '  lately')).toMatch(/1 min ago \(\S+\) from 10\.0\.0\.1 +2 windows behind +never$/)
  })

  it('never takes what is not known for nothing', () => {
    const lines = text({ by: null, guard: { ports: ['22/tcp'], isLoaded: null, isPermanent: null } })
    expect(starting(lines, 'leases')).toBe('leases    not known')
    expect(starting(lines, 'guard')).toBe('guard     not known whether it is loaded, at boot: not known: 22/tcp')
  })

  it('is without what plays tricks on a terminal, whatever the state says', () => {
    const evil = '\x1b[2J\u202e'
    const state = { ...STATE, program: evil, lastKnock: STATE.lastKnock && { ...STATE.lastKnock, key: evil } }
    const lines = text({ state, leases: [lease(1, { key: evil })], config: { ...status().config, server: evil } }).join('\n')
    expect([lines.includes('\x1b'), lines.includes('\u202e'), lines.includes('\\u001b[2J\\u202e')]).toEqual([false, false, true])
  })

  it('says of a dead daemon’s hearing nothing that was so once', () => {
    expect(starting(text({ life: 'dead' }), 'hearing')).toMatch(/^hearing {3}not known: no daemon answers; /)
  })
})

describe('what is wrong', () => {
  const of = (sight: Partial<Sight>, guard: Partial<GuardSight> = {}) =>
    wrongWith({ life: 'alive', state: STATE, written: NOW, faults: [], ...sight }, { ...GUARD, ...guard })

  it('is nothing where all is well, nor where nobody can know what is at boot', () => {
    expect([of({}), of({}, { isPermanent: null })]).toEqual([[], []])
  })

  it.each<[string, Parameters<typeof of>, RegExp]>([
    ['a dead daemon', [{ life: 'dead' }], /^no daemon is running/],
    ['one that says nothing of itself', [{ life: 'silent', state: null, written: null }], /earlier version$/],
    ['one that hangs', [{ life: 'silent' }], /^the daemon hangs: .* since 2026-11-30T12:00:00Z$/],
    ['one that is deaf', [{ state: { ...STATE, hearing: 'deaf' } }], /^the daemon hears nothing/],
    ['one that does not hear yet', [{ state: { ...STATE, hearing: 'waiting' } }], /^the daemon has not begun to hear/],
    ['a guard that is gone', [{}, { isLoaded: false }], /^the guard is not in the firewall/],
    ['rules that are gone', [{}, { isLoaded: false, ports: [] }], /^the rules of Knockturn are not in the firewall/],
    ['a guard that no boot loads', [{}, { isPermanent: false }], /^the guard is not loaded at boot/],
  ])('is %s, and has a remedy', (_, seen, message) => {
    expect(of(...seen)).toEqual([expect.objectContaining({ message: expect.stringMatching(message), hint: expect.any(String) })])
  })

  it('is no earlier version where what the daemon says cannot be read', () => {
    expect(of({ life: 'silent', state: null, written: null, faults: [new Fault('is not JSON')] })).toEqual([])
  })

  it('is not what a dead daemon has said of its hearing', () => {
    expect(of({ life: 'dead', state: { ...STATE, hearing: 'deaf' } })).toHaveLength(1)
  })
})

it('a document of JSON has every row, and what is wrong', () => {
  const leases = Array.from({ length: 20 }, (_, n) => lease(n))
  const faults = wrongWith({ life: 'dead', state: null, written: null, faults: [] }, GUARD)
  expect(documentOf(status({ life: 'dead', state: null, written: null, by: 'firewall', leases, faults }), NOW)).toEqual({
    ...{ version: 1, at: at(0), well: false, faults: [{ message: faults[0]?.message, hint: faults[0]?.hint }] },
    ...{ fleet: null, file: '/etc/knockturn/knockturn.toml', server: 'gate.example', backend: 'nftables', source: 'nflog' },
    daemon: {
      ...{ life: 'dead', written: null, program: null, pid: null, started: null },
      ...{ hearing: null, lastTap: null, lastKnock: null, taps: null },
    },
    guard: { ports: GUARD.ports, loaded: true, permanent: true },
    ...{ by: 'firewall', leases, locks: [], keys: null, day: null },
  })
})

describe('a command line', () => {
  it.each([
    ['lease close', ['lease', 'close'], 'no lease named'],
    [
      'lease close everything',
      ['lease', 'close', 'everything'],
      '<lease> expected the id of a lease, such as 0a1b2c3d, got "everything"',
    ],
    [
      'lease close --address',
      ['lease', 'close', '--address', '10.0.0.1/8'],
      '--address expected an address, or a block such as 198.51.100.0/24, got "10.0.0.1/8"',
    ],
    ['lock remove', ['lock', 'remove', 'gate.example'], '<address> expected an address, got "gate.example"'],
    ['status --all --json', ['status', '--all', '--json'], '--all does not go with --json, which has all of them'],
  ])('%s is refused before anything is looked at', async (_, args, message) => {
    const { code, stderr } = await run('knockturn', args)
    expect([code, stderr.split('\n')[0]]).toEqual([2, `knockturn: error: ${message}`])
  })
})

it('no connection is ended where leases open nothing', async () => {
  const text = 'server = "gate.example"\n[firewall]\nbackend = "dry-run"\n[ledger]\npath = "ledger/ledger"\n'
  const config = put(scratch(), 'knockturn.toml', text)
  const { code, stderr } = await run('knockturn', ['lease', 'close', '--key', 'alice', '--kill', '--config', config])
  expect([code, stderr]).toEqual([
    1,
    expect.stringMatching(/^knockturn: error: backend "dry-run" opens nothing, .*\nhint: leave out --kill\n$/),
  ])
})

it('a program of the user’s is run by the daemon alone: root would run what the daemon’s user could have put there', async () => {
  const folder = scratch()
  const ran = join(folder, 'ran')
  const close = JSON.stringify(['touch', ran, '{address}'])
  const program = `[firewall]\nbackend = "command"\n[firewall.command]\nopen = ["true", "{address}"]\nclose = ${close}\n`
  const config = put(folder, 'knockturn.toml', `server = "gate.example"\n${program}[ledger]\npath = "state/ledger"\n`)
  mkdirSync(join(folder, 'state'), { mode: 0o700 })
  const way = { address: '198.51.100.2', protocol: 'tcp', port: 22, lease: 'ab12cd34', key: 'alice', isOpen: true }
  const leases = [{ id: 'ab12cd34', key: 'alice', fingerprint: 'f'.repeat(32), until: null }]
  put(join(folder, 'state'), 'ledger.open', JSON.stringify({ ways: [{ ...way, leases }], locks: [] }))
  const listed = await run('knockturn', ['lease', 'list', '--json', '--config', config])
  expect(JSON.parse(listed.stdout)).toMatchObject({ by: 'firewall', leases: [{ id: 'ab12cd34', until: null }] })
  const { code, stderr } = await run('knockturn', ['lease', 'close', '--key', 'alice', '--config', config])
  expect([code, stderr]).toEqual([1, expect.stringContaining('is run by none but the daemon')])
  expect(existsSync(ran)).toBe(false)
})
