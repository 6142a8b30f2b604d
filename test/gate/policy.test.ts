import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { boundAddress, decide, type Grant, type GrantRule, type Refusal, type Refused, rulings } from '../../src/gate/policy'
import { type GrantRules, isOver, type ServerKey } from '../../src/gate/server-key'
import { type Cidr, inCidr, parseCidr } from '../../src/protocol/address'
import type { Request } from '../../src/protocol/request'
import { keyOf, requestOf } from './listener/ear'

const SERVER = '198.51.100.1'
const SOURCE = '198.51.100.2'
/** Unix seconds. */
const NOW = 1_770_000_000

const cidrs = (...texts: string[]) => texts.map((text) => parseCidr(text) as Cidr)
const RULES: GrantRules = {
  services: [
    { port: 22, protocol: 'tcp' },
    { port: 53, protocol: 'tcp' },
    { port: 53, protocol: 'udp' },
  ],
  max: 7_200,
  addresses: cidrs('0.0.0.0/0', '::/0'),
  bindSource: true,
  requireAddress: false,
  allowUntilClosed: false,
  lock: false,
}

interface Ask {
  request?: Partial<Request>
  rules?: Partial<GrantRules>
  key?: Partial<ServerKey>
  source?: string
  neverLock?: string[]
  now?: number
}
function serverKey({ rules, key }: Ask): ServerKey {
  const grant = { ...RULES, ...rules }
  return { id: 'alice', key: keyOf(1), fingerprint: 'c0ffee', expires: null, revoked: null, grant, ...key }
}
const requested = ({ request }: Ask): Request => ({ ...requestOf(1), ...request })

/** The address that a request is bound to, and what is decided of it: a refusal's word alone. */
function answer(ask: Ask = {}): Grant | Refusal {
  const decided = judged(ask)
  return 'refusal' in decided ? decided.refusal : decided
}
/** The rule that refuses a request; null where none does. */
function ruleOf(ask: Ask): GrantRule | null {
  const decided = judged(ask)
  return 'refusal' in decided ? decided.rule : null
}
function judged(ask: Ask): Grant | Refused {
  const { source = SOURCE, neverLock = [], now = NOW } = ask
  const key = serverKey(ask)
  const address = boundAddress(requested(ask), source, key.grant)
  if (address === null) return { refusal: 'address-mismatch', rule: 'bind_source' }
  return decide(requested(ask), address, source, SERVER, key, cidrs(...neverLock), now * 1000)
}
const granted = (ask: Ask): Grant => {
  const grant = answer(ask)
  if (typeof grant === 'string') throw new Error(`refused: ${grant}`)
  return grant
}
const unbound = { bindSource: false }

it('an open grants the service asked for, to the source, for the seconds asked', () => {
  expect(answer()).toEqual({
    action: 'open',
    address: SOURCE,
    services: [{ port: 22, protocol: 'tcp' }],
    once: false,
    until: NOW + 60,
  })
})

describe('services', () => {
  it.each([
    [22, 'tcp', ['22/tcp']],
    [22, 'any', ['22/tcp']],
    [53, 'any', ['53/tcp', '53/udp']],
    [53, 'udp', ['53/udp']],
    [0, 'any', ['22/tcp', '53/tcp', '53/udp']],
    [0, 'tcp', ['22/tcp', '53/tcp']],
    [0, 'udp', ['53/udp']],
  ] as const)('port %i of %s is %j', (port, protocol, services) => {
    const grant = granted({ request: { port, protocol } })
    expect(grant.services.map((service) => `${service.port}/${service.protocol}`)).toEqual(services)
  })

  it.each([
    [80, 'tcp'],
    [22, 'udp'],
    [23, 'any'],
    [65_535, 'any'],
  ] as const)('port %i of %s is not granted', (port, protocol) => {
    expect(answer({ request: { port, protocol } })).toBe('not-granted')
  })

  it('none are granted where the grant lists none', () => {
    expect(answer({ request: { port: 0, protocol: 'any' }, rules: { services: [] } })).toBe('not-granted')
  })
})

describe('lifetimes', () => {
  const open = { allowUntilClosed: true }
  it.each([
    ['the longest', { seconds: 7_200 }, {}, NOW + 7_200],
    ['one second', { seconds: 1 }, {}, NOW + 1],
    ['until closed', { seconds: 0 }, open, null],
    ['once', { seconds: 60, once: true }, {}, NOW + 60],
    ['once, for more than an hour', { seconds: 7_200, once: true }, {}, NOW + 3_600],
    ['once, until closed', { seconds: 0, once: true }, open, NOW + 3_600],
  ] as const)('%s', (_, request, rules, until) => {
    expect(granted({ request, rules }).until).toBe(until)
  })

  it.each([
    ['a second more than the longest', { seconds: 7_201 }],
    ['2^24-1 seconds', { seconds: 0xffffff }],
    ['until closed, unless the grant says so', { seconds: 0 }],
    ['once until closed, unless the grant says so', { seconds: 0, once: true }],
    ['once, for more than the longest', { seconds: 7_201, once: true }],
  ])('%s is not granted', (_, request) => {
    expect(answer({ request })).toBe('not-granted')
  })

  it.each([
    ['a lease', { seconds: 7_200 }],
    ['a lease until closed', { seconds: 0 }],
  ])('%s ends with its key', (_, request) => {
    expect(granted({ request, rules: open, key: { expires: (NOW + 10) * 1000 } }).until).toBe(NOW + 10)
  })

  it('are no shorter than asked, in whole seconds', () => {
    expect(granted({ now: NOW + 0.3 }).until).toBe(NOW + 61)
  })

  it('a lease that ends before its key is not made longer', () => {
    expect(granted({ key: { expires: (NOW + 100) * 1000 } }).until).toBe(NOW + 60)
  })
})

describe('the address', () => {
  it.each([
    ['0.0.0.0', SOURCE],
    ['::', SOURCE],
    ['::ffff:0.0.0.0', SOURCE],
    [SOURCE, SOURCE],
    [`::ffff:${SOURCE}`, SOURCE],
  ])('%s is %s, where the key is bound to its source', (address, opened) => {
    expect(granted({ request: { address } }).address).toBe(opened)
  })

  it.each(['198.51.100.3', '2001:db8::1', '::1', SERVER])('%s is a mismatch, where the key is bound to its source', (address) => {
    expect(answer({ request: { address } })).toBe('address-mismatch')
  })

  it.each(['0.0.0.0', '::'])('%s is an IPv6 source', (address) => {
    expect(granted({ request: { address }, source: '2001:db8::2' }).address).toBe('2001:db8::2')
  })

  it.each([
    ['203.0.113.9', '203.0.113.9'],
    ['2001:db8::1', '2001:db8::1'],
    ['::ffff:203.0.113.9', '203.0.113.9'],
  ])('%s is opened as %s, where the key is not bound', (address, opened) => {
    expect(granted({ request: { address }, rules: unbound }).address).toBe(opened)
  })

  it.each([
    ['10.0.0.0/8', '10.255.255.255'],
    ['10.1.2.3', '10.1.2.3'],
    ['2001:db8::/32', '2001:db8:ffff::1'],
    ['10.0.0.0/8', '::ffff:10.0.0.1'],
  ])('within %s may be %s', (block, address) => {
    expect(granted({ request: { address }, rules: { ...unbound, addresses: cidrs(block) } }).action).toBe('open')
  })

  it.each([
    ['10.0.0.0/8', '11.0.0.0'],
    ['10.1.2.3', '10.1.2.4'],
    ['2001:db8::/32', '2001:db9::1'],
    ['0.0.0.0/0', '2001:db8::1'],
    ['::/0', '203.0.113.9'],
    ['::/0', '::ffff:203.0.113.9'],
  ])('within %s may not be %s', (block, address) => {
    expect(answer({ request: { address }, rules: { ...unbound, addresses: cidrs(block) } })).toBe('not-granted')
  })

  it('of a source outside the grant is not opened', () => {
    expect(answer({ rules: { addresses: cidrs('10.0.0.0/8') } })).toBe('not-granted')
  })

  it.each(['0.0.0.0', '::', '::ffff:0.0.0.0'])('%s is not granted where it must be named', (address) => {
    expect(answer({ request: { address }, rules: { requireAddress: true } })).toBe('not-granted')
  })

  it('that is named is granted where it must be', () => {
    expect(granted({ request: { address: SOURCE }, rules: { requireAddress: true } }).address).toBe(SOURCE)
  })

  it.each([
    ['multicast', '224.0.0.1'],
    ['multicast', '239.255.255.255'],
    ['multicast', 'ff02::1'],
    ['broadcast', '255.255.255.255'],
    ['of this network', '0.0.0.1'],
    ['mapped multicast', '::ffff:224.0.0.1'],
    ['loopback', '127.0.0.1'],
    ['loopback', '127.255.255.254'],
    ['loopback', '::1'],
    ['mapped loopback', '::ffff:127.0.0.1'],
    ['the server’s own', SERVER],
    ['the server’s own, mapped', `::ffff:${SERVER}`],
  ])('that is %s (%s) is never opened for another', (_, address) => {
    expect(answer({ request: { address }, rules: unbound })).toBe('not-granted')
  })

  it.each(['127.0.0.1', '::1', SERVER])('%s may knock for itself', (source) => {
    expect(granted({ source }).address).toBe(source)
  })
})

describe('a key', () => {
  it.each([
    ['that is revoked', { revoked: NOW * 1000 }],
    ['that was revoked', { revoked: 0 }],
    ['that has expired', { expires: NOW * 1000 }],
  ])('%s opens nothing', (_, key) => {
    expect(answer({ key })).toBe('revoked')
  })

  it.each(['close', 'lock'] as const)('that is revoked may not %s', (action) => {
    expect(answer({ request: { action }, rules: { lock: true }, key: { revoked: 0 } })).toBe('revoked')
  })

  it.each([
    ['that was revoked by somebody whose clock was ahead', true, { revoked: NOW * 1000 + 1 }],
    ['to expire later', false, { expires: NOW * 1000 + 1 }],
    ['without an end', false, {}],
    ['that expires now', true, { expires: NOW * 1000 }],
    ['that was revoked', true, { revoked: NOW * 1000 - 1 }],
  ])('%s is over: %s', (_, over, key) => {
    expect(isOver(serverKey({ key }), NOW * 1000)).toBe(over)
  })
})

describe('a close', () => {
  const close = (request: Partial<Request>, rules: Partial<GrantRules> = {}) =>
    answer({ request: { action: 'close', ...request }, rules })

  it.each([
    ['a port and protocol', { port: 22, protocol: 'tcp' as const }, [{ port: 22, protocol: 'tcp' }]],
    [
      'a port of any protocol',
      { port: 53, protocol: 'any' as const },
      [
        { port: 53, protocol: 'tcp' },
        { port: 53, protocol: 'udp' },
      ],
    ],
    ['every port', { port: 0 }, []],
    ['a port that is not granted any more', { port: 8_080, protocol: 'tcp' as const }, [{ port: 8_080, protocol: 'tcp' }]],
  ])('names %s', (_, request, services) => {
    expect(close(request)).toMatchObject({ action: 'close', address: SOURCE, services })
  })

  it.each([0, 0xffffff])('is granted whatever seconds it names (%i)', (seconds) => {
    expect(close({ seconds })).toMatchObject({ action: 'close' })
  })

  it('for another address is a mismatch, where the key is bound to its source', () => {
    expect(close({ address: '203.0.113.9' })).toBe('address-mismatch')
  })
})

describe('a lock', () => {
  const lock = (ask: Ask) => answer({ ...ask, request: { action: 'lock', ...ask.request }, rules: { lock: true, ...ask.rules } })

  it('is granted for its source, with no services', () => {
    expect(lock({})).toEqual({ action: 'lock', address: SOURCE, services: [], once: false, until: NOW + 60 })
  })

  it('is not granted without a word in the grant', () => {
    expect(lock({ rules: { lock: false } })).toBe('not-granted')
  })

  it('for 0 seconds is for the longest lifetime', () => {
    expect(lock({ request: { seconds: 0 } })).toMatchObject({ until: NOW + 7_200 })
  })

  it('for more than the longest lifetime is not granted', () => {
    expect(lock({ request: { seconds: 7_201 } })).toBe('not-granted')
  })

  it('needs no granted port', () => {
    expect(lock({ request: { port: 80 } })).toMatchObject({ action: 'lock' })
  })

  it('may not name another address', () => {
    expect(lock({ request: { address: '203.0.113.9' } })).toBe('address-mismatch')
  })

  it('may name another address where the grant says so', () => {
    expect(lock({ request: { address: '203.0.113.9' }, rules: unbound })).toMatchObject({ address: '203.0.113.9' })
  })

  it.each([
    ['203.0.113.0/24', '203.0.113.9'],
    ['2001:db8::/32', '2001:db8::9'],
    ['203.0.113.9', '::ffff:203.0.113.9'],
  ])('may never name, of %s, %s', (block, address) => {
    expect(lock({ request: { address }, rules: unbound, neverLock: ['192.0.2.1', block] })).toBe('not-granted')
  })

  it('may never name its own source either, where that is never to be locked', () => {
    expect(lock({ neverLock: [SOURCE] })).toBe('not-granted')
  })

  it('may never name the server', () => {
    expect(lock({ request: { address: SERVER }, rules: unbound })).toBe('not-granted')
  })
})

describe('the rule that refuses', () => {
  const unbound = { bindSource: false }
  it.each<[GrantRule, Ask]>([
    ['revoked', { key: { revoked: 0 } }],
    ['revoked', { key: { revoked: 0, expires: 0 } }],
    ['expires', { key: { expires: NOW * 1000 } }],
    ['bind_source', { request: { address: '203.0.113.9' } }],
    ['require_address', { rules: { requireAddress: true } }],
    ['addresses', { rules: { addresses: cidrs('10.0.0.0/8') } }],
    ['nobody', { request: { address: '224.0.0.1' }, rules: unbound }],
    ['server_address', { request: { address: SERVER }, rules: unbound }],
    ['loopback', { request: { address: '127.0.0.1' }, rules: unbound }],
    ['services', { request: { port: 80 } }],
    ['open_prefix', { rules: { openPrefix: 24, addresses: cidrs('198.51.100.0/25') } }],
    ['open_prefix6', { source: '2001:db8::1', rules: { openPrefix6: 48, addresses: cidrs('2001:db8::/64') } }],
    ['max', { request: { seconds: 7_201 } }],
    ['allow_until_closed', { request: { seconds: 0 } }],
    ['lock', { request: { action: 'lock' } }],
    ['max', { request: { action: 'lock', seconds: 7_201 }, rules: { lock: true } }],
    ['never_lock', { request: { action: 'lock' }, rules: { lock: true }, neverLock: [SOURCE] }],
  ])('is %s for %j', (rule, ask) => {
    expect(ruleOf(ask)).toBe(rule)
  })

  it('is the first of several', () => {
    expect(ruleOf({ request: { port: 80, seconds: 7_201 }, rules: { addresses: [] } })).toBe('addresses')
  })

  it('is none of a request that is granted: each rule is met', () => {
    const of = (ask: Ask) => rulings(requested(ask), SOURCE, SOURCE, SERVER, serverKey(ask), [], NOW * 1000)
    for (const action of ['open', 'close', 'lock'] as const) {
      const all = of({ request: { action }, rules: { lock: true } })
      expect(all.filter(({ isMet }) => !isMet)).toEqual([])
      expect(new Set(all.map(({ rule }) => rule)).size).toBe(all.length)
    }
  })
})

describe('the block that a lease opens for', () => {
  const from = (source: string, rules: Partial<GrantRules>, more: Ask = {}) => granted({ source, rules, ...more }).address

  it.each([
    [32, '203.0.113.77', '203.0.113.77'],
    [31, '203.0.113.77', '203.0.113.76/31'],
    [24, '203.0.113.77', '203.0.113.0/24'],
    [20, '100.127.255.255', '100.127.240.0/20'],
    [16, '203.0.113.77', '203.0.0.0/16'],
  ])('of %i bits around %s is %s', (openPrefix, source, block) => {
    expect(from(source, { openPrefix })).toBe(block)
  })

  it.each([
    [128, '2001:db8:1:2::3', '2001:db8:1:2::3'],
    [64, '2001:db8:1:2::3', '2001:db8:1:2::/64'],
    [48, '2001:db8:1:2::3', '2001:db8:1::/48'],
  ])('of %i bits around %s is %s', (openPrefix6, source, block) => {
    expect(from(source, { openPrefix6, openPrefix: 16 })).toBe(block)
  })

  it('is around the address that is named', () => {
    const rules = { openPrefix: 24, bindSource: false }
    expect(from(SOURCE, rules, { request: { address: '203.0.113.9' } })).toBe('203.0.113.0/24')
  })

  it.each([
    ['the server’s own address', '198.51.100.2'],
    ['broadcast', '255.255.255.7'],
    ['loopback', '127.0.0.1'],
  ])('is left at the address where it would hold %s', (_, source) => {
    expect(from(source, { openPrefix: 24 })).toBe(source)
  })

  it('is left at the address where it would hold IPv6 loopback', () => {
    expect(from('::7', { openPrefix6: 64 })).toBe('::7')
  })

  it('is not granted where it goes beyond the grant’s addresses', () => {
    expect(answer({ source: '10.0.0.1', rules: { openPrefix: 24, addresses: cidrs('10.0.0.0/25') } })).toBe('not-granted')
    expect(from('10.0.0.1', { openPrefix: 25, addresses: cidrs('10.0.0.0/25') })).toBe('10.0.0.0/25')
  })

  it('is none of a lock, nor of what is closed', () => {
    const rules = { openPrefix: 24, lock: true }
    for (const action of ['lock', 'close'] as const) expect(granted({ request: { action }, rules }).address).toBe(SOURCE)
  })

  it('holds the address, lies within the grant, and holds nothing that no lease may name', () => {
    const v4 = fc.ipV4().filter((address) => !/^(0|22[4-9]|23\d)\.|^255\.255\.255\.255$/.test(address))
    const addresses = cidrs('0.0.0.0/1', '128.0.0.0/2', '200.0.0.0/5', '240.0.0.0/4')
    fc.assert(
      fc.property(v4, fc.integer({ min: 16, max: 32 }), (source, openPrefix) => {
        const opened = answer({ source, rules: { openPrefix, addresses } })
        if (opened === 'not-granted') return
        const { address } = opened as Grant
        const block = parseCidr(address) as Cidr
        expect(inCidr(block, source)).toBe(true)
        const allowed = addresses.filter((cidr) => inCidr(cidr, source))
        expect(allowed.some(({ bits }) => bits <= block.bits)).toBe(true)
        const forbidden = [SERVER, '255.255.255.255', '127.0.0.1', '0.0.0.0', '224.0.0.1'].filter((other) => other !== source)
        expect(forbidden.filter((other) => inCidr(block, other))).toEqual([])
      }),
    )
  })
})
