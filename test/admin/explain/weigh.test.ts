import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Asked, Case, Explanation } from '../../../src/admin/explain/case'
import { requestOf, weigh } from '../../../src/admin/explain/weigh'
import type { StateFleet } from '../../../src/daemon/state/fleet'
import type { State } from '../../../src/daemon/state/state'
import type { GrantRules, ServerKey } from '../../../src/gate/server-key'
import { type Cidr, parseCidr } from '../../../src/protocol/address'
import { ATTACKER, SERVER, serverKey, USER, World } from '../../replay/world'

/** Unix milliseconds. */
const NOW = 1_770_000_000_000
const UNTIL = '2026-02-03T00:00:00Z'
const key = (grant: Partial<GrantRules> = {}, more: Partial<ServerKey> = {}) => serverKey(1, grant, more)
const KEY = key()
const WHOSE = { key: KEY.id, fingerprint: KEY.fingerprint }
const cidrs = (...texts: string[]) => texts.map((text) => parseCidr(text) as Cidr)

const STATE: State = {
  ...{
    version: 1,
    fleet: null,
    program: '0',
    pid: 1,
    started: UNTIL,
    config: '',
    ledger: '',
    server: '',
    backend: 'dry-run',
    source: 'nflog',
  },
  ...{ hearing: 'well', lastTap: null, lastKnock: null, taps: { seen: 0, ignored: 0, unreadable: 0, dropped: 0 }, guard: [] },
  keys: [{ id: KEY.id, fingerprint: KEY.fingerprint, expires: null, services: ['22/tcp'], lastUse: null }],
  ...{ leases: [], locks: [], day: { since: UNTIL, accepted: 0, refused: {}, taps: 0, dropped: 0, busiest: null } },
}
const FLEET: StateFleet = {
  ...{ gateway: 'gw1', fleet: '', epoch: 1, base: null, link: null, since: UNTIL, clocks: null, synchronised: null },
  ...{ revoked: [], gateways: [], size: null, quota: null, alarms: [] },
}
const leases = (count: number, fingerprint = KEY.fingerprint) =>
  Array.from({ length: count }, (_, n) => ({
    ...{
      id: `${n}`,
      key: KEY.id,
      fingerprint,
      address: `203.0.113.${n}`,
      service: '22/tcp',
      once: false,
      opened: null,
      until: null,
    },
  }))

const ASKED: Asked = {
  ...{ source: USER, address: null, action: 'open', port: 22, protocol: 'tcp', seconds: 60, once: false },
}
const CASE: Case = {
  ...{ asked: ASKED, key: KEY, neverLock: [], own: [SERVER, '127.0.0.1', '::1'], daemon: STATE, floor: null },
  ...{ countsConnections: true, onceRefused: null, most: { all: 9, key: 3 }, wall: NOW },
  places: { ledger: '/ledger', of: (rule) => `/file:${rule}` },
}
const of = (more: Partial<Case>, asked: Partial<Asked> = {}) => weigh({ ...CASE, ...more, asked: { ...ASKED, ...asked } })
const refusing = ({ rows }: Explanation) =>
  rows.filter(({ verdict }) => verdict === 'refuses').map(({ rule, refusal }) => [rule, refusal])

it('a knock that is granted would open, for what it asks', () => {
  expect(of({})).toMatchObject({
    would: true,
    grant: { address: USER, services: [{ port: 22, protocol: 'tcp' }], until: NOW / 1_000 + 60 },
  })
})

it('a knock would open at a gateway that accepts knocks, by a key that nobody has revoked', () => {
  expect(
    of({ daemon: { ...STATE, fleet: { ...FLEET, base: { seconds: NOW / 1_000, ahead: 0 }, revoked: ['another'] } } }).would,
  ).toBe(true)
})

it.each<[string, string | null, Partial<Case>, Partial<Asked>]>([
  ['daemon', null, { daemon: { ...STATE, hearing: 'deaf' } }, {}],
  ['daemon', null, { daemon: { ...STATE, hearing: 'waiting' } }, {}],
  ['key', null, { daemon: { ...STATE, keys: [] } }, {}],
  ['ban', 'locked', { daemon: { ...STATE, locks: [{ ...WHOSE, id: 'a', address: USER, until: UNTIL }] } }, {}],
  ['fleet', 'ledger-unavailable', { daemon: { ...STATE, fleet: { ...FLEET, link: 'the watch is 12 s old' } } }, {}],
  ['fleet', 'stale', { daemon: { ...STATE, fleet: { ...FLEET, base: { seconds: NOW / 1_000, ahead: 1 } } } }, {}],
  ['fleet', 'revoked', { daemon: { ...STATE, fleet: { ...FLEET, revoked: [KEY.fingerprint] } } }, {}],
  ['floor', 'stale', { floor: 'the floor of this key is ahead' }, {}],
  ['bind_source', 'address-mismatch', {}, { address: '203.0.113.9' }],
  ['revoked', 'revoked', { key: key({}, { revoked: 0 }) }, {}],
  ['expires', 'revoked', { key: key({}, { expires: NOW }) }, {}],
  ['require_address', 'not-granted', { key: key({ requireAddress: true }) }, {}],
  ['addresses', 'not-granted', { key: key({ addresses: cidrs('10.0.0.0/8') }) }, {}],
  ['nobody', 'not-granted', { key: key({ bindSource: false }) }, { address: '224.0.0.1' }],
  ['server_address', 'not-granted', { key: key({ bindSource: false }) }, { address: SERVER }],
  ['services', 'not-granted', {}, { port: 80 }],
  ['open_prefix', 'not-granted', { key: key({ openPrefix: 24, addresses: cidrs('198.51.100.0/25') }) }, {}],
  ['max', 'not-granted', {}, { seconds: 3_601 }],
  ['allow_until_closed', 'not-granted', {}, { seconds: 0 }],
  ['lock', 'not-granted', {}, { action: 'lock' }],
  ['never_lock', 'not-granted', { key: key({ lock: true }), neverLock: cidrs(USER) }, { action: 'lock' }],
  ['once', 'not-granted', { countsConnections: false }, { once: true }],
  ['once', 'not-granted', { onceRefused: 'the fleet counts none' }, { once: true }],
  ['leases_per_key', 'not-granted', { daemon: { ...STATE, leases: leases(3) } }, {}],
  ['leases_per_key', 'not-granted', { daemon: { ...STATE, leases: leases(9, 'another') } }, {}],
])('a knock is refused by %s alone (%s)', (rule, refusal, more, asked) => {
  const explanation = of(more, asked)
  expect(refusing(explanation)).toEqual([[rule, refusal]])
  expect(explanation).toMatchObject({ would: false, grant: null })
})

it('a refusal has the place of its rule, and says what the rule allows', () => {
  const row = of({}, { port: 80 }).rows.find(({ verdict }) => verdict === 'refuses')
  expect(row).toMatchObject({ where: '/file:services', says: 'the grant opens only 22/tcp (services)' })
})

describe('what is not known', () => {
  it.each<[string, Partial<Case>]>([
    ['the daemon', { daemon: { unknown: 'no daemon has written its state' } }],
    ['the ledger', { floor: { unknown: 'the ledger is damaged' } }],
  ])('about %s is never taken for "would open"', (_, more) => {
    expect(of(more).would).toBeNull()
  })

  it('does not hide a rule that refuses', () => {
    expect(of({ daemon: { unknown: 'dead' }, floor: { unknown: 'dead' } }, { port: 80 }).would).toBe(false)
  })
})

describe('room for leases', () => {
  const open = (address: string) => ({ ...leases(1)[0], address })
  it('is there for one more than are open', () => {
    expect(of({ daemon: { ...STATE, leases: leases(2) } }).would).toBe(true)
  })

  it('is not needed by a knock that extends a lease', () => {
    expect(of({ daemon: { ...STATE, leases: [...leases(2), open(USER)] } }).would).toBe(true)
  })

  it('is not needed by a knock that closes', () => {
    expect(of({ daemon: { ...STATE, leases: leases(9) } }, { action: 'close' }).would).toBe(true)
  })
})

describe('the time that is asked for where none is named', () => {
  it.each([
    [3_600, 300],
    [120, 120],
  ])('of a key that may %i s is %i s', (max, seconds) => {
    const one = { key: key({ max }), asked: { ...ASKED, seconds: null } }
    expect(requestOf(one).seconds).toBe(seconds)
    expect(of(one, one.asked).would).toBe(true)
  })
})

it('is what the daemon does, whatever is asked of whatever grant', async () => {
  const grants = fc.record({
    max: fc.constantFrom(60, 3_600),
    bindSource: fc.boolean(),
    requireAddress: fc.boolean(),
    allowUntilClosed: fc.boolean(),
    lock: fc.boolean(),
    addresses: fc.constantFrom(cidrs('0.0.0.0/0', '::/0'), cidrs('198.51.100.0/25'), cidrs('10.0.0.0/8')),
    openPrefix: fc.constantFrom(32, 24),
  })
  const asks = fc.record({
    address: fc.constantFrom(null, USER, ATTACKER, SERVER, '224.0.0.1', '127.0.0.1'),
    action: fc.constantFrom('open' as const, 'close' as const, 'lock' as const),
    port: fc.constantFrom(0, 22, 80),
    protocol: fc.constantFrom('any' as const, 'tcp' as const, 'udp' as const),
    seconds: fc.constantFrom(0, 60, 61),
  })
  let accepted = 0
  await fc.assert(
    fc.asyncProperty(grants, asks, async (grant, ask) => {
      const world = await World.begin({ keys: [serverKey(1, grant)] })
      const asked = { ...ASKED, ...ask }
      const one = { ...CASE, key: world.keys[0], asked, own: [SERVER] }
      await world.datagram(world.composeDatagram(requestOf(one)))
      const [line] = world.log
      const { would, rows } = weigh(one)
      const [first] = rows.filter(({ verdict }) => verdict === 'refuses')
      expect([line?.msg, line?.refusal ?? null, line?.rule ?? null]).toEqual(
        would ? ['accepted', null, null] : ['refused', first.refusal, first.refusal === 'not-granted' ? first.rule : null],
      )
      if (would) accepted++
    }),
    { numRuns: 200 },
  )
  expect(accepted).toBeGreaterThan(10)
})
