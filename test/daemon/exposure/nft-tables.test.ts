import { describe, expect, it } from 'vitest'
import { toNumber } from '../../../src/daemon/exposure/matches'
import { readRuleset, tablesThatMay } from '../../../src/daemon/exposure/nft-tables'
import type { Service } from '../../../src/protocol/service'

/* Rulesets as `nft -j -t list ruleset` of nftables 1.0.6 prints them. */

const SSH: Service = { port: 22, protocol: 'tcp' }

interface Base {
  family?: string
  table?: string
  hook?: string
  policy?: string
  dev?: string | string[]
}

const chain = (name: string, { family = 'inet', table = 'fw', ...base }: Base = {}) => ({
  chain: { family, table, name, handle: 1, ...(base.hook ? { type: 'filter', prio: 0, policy: 'accept', ...base } : {}) },
})
const rule = (expr: unknown[], name = 'in', { family = 'inet', table = 'fw' }: Base = {}) => ({
  rule: { family, table, chain: name, handle: 2, expr },
})
const INPUT = chain('in', { hook: 'input' })
const ruleset = (...items: unknown[]) =>
  readRuleset(JSON.stringify({ nftables: [{ metainfo: { version: '1.0.6', json_schema_version: 1 } }, ...items] }))
const may = (items: unknown[], service = SSH, family: 'iptables' | 'ip6tables' = 'iptables', isNft = true) =>
  tablesThatMay(ruleset(...items), { ...OURS[family], service }, isNft)

/** Where packets come to: interfaces that lead outside, and addresses. */
const OURS = {
  iptables: { family: 'iptables', interfaces: ['eth0'], addresses: [toNumber('198.51.100.1') as bigint] },
  ip6tables: { family: 'ip6tables', interfaces: ['eth0'], addresses: [toNumber('2001:db8:7::1') as bigint] },
} as const

const match = (left: unknown, right: unknown, op = '==') => ({ match: { op, left, right } })
const payload = (protocol: string, field: string) => ({ payload: { protocol, field } })
const meta = (key: string) => ({ meta: { key } })
const STATE = { ct: { key: 'state' } }
const DROP = { drop: null }
const NONE = { shut: [], forward: [] }
const SHUT = { shut: ['inet fw'], forward: [] }

describe('a table of another program', () => {
  it.each([
    ['that has nothing', []],
    ['that only accepts', [rule([{ accept: null }])]],
    [
      'of fail2ban',
      [
        rule([
          match(payload('tcp', 'dport'), { set: [22] }),
          match(payload('ip', 'saddr'), '@addr-set-sshd'),
          { reject: { type: 'icmp', expr: 'port-unreachable' } },
        ]),
      ],
    ],
    ['of CrowdSec', [rule([match(payload('ip', 'saddr'), '@crowdsec-blacklists'), { counter: { packets: 0, bytes: 0 } }, DROP])]],
    ['with a map of addresses', [rule([{ vmap: { key: payload('ip', 'saddr'), data: '@bans' } }])]],
    ['that drops invalid packets', [rule([match(STATE, 'invalid', 'in'), DROP])]],
    [
      'that drops them by a map',
      [
        rule([
          {
            vmap: {
              key: STATE,
              data: {
                set: [
                  ['invalid', DROP],
                  ['established', { accept: null }],
                ],
              },
            },
          },
        ]),
      ],
    ],
    ['that drops another port', [rule([match(payload('tcp', 'dport'), { set: [80, { range: [100, 200] }] }), DROP])]],
    ['that drops UDP', [rule([match(meta('l4proto'), 'udp'), DROP]), rule([match(payload('udp', 'dport'), 22), DROP])]],
    ['that drops UDP by its number', [rule([match(meta('l4proto'), { set: [17, 132] }), DROP])]],
    ['that drops all ports but this one and others', [rule([match(payload('tcp', 'dport'), { set: [22, 80] }, '!='), DROP])]],
    ['that drops IPv6', [rule([match(meta('nfproto'), 'ipv6'), DROP]), rule([match(payload('ip6', 'hoplimit'), 1), DROP])]],
    ['that rejects IPv6, as its answer alone says', [rule([{ reject: { type: 'icmpv6', expr: 'port-unreachable' } }])]],
    ['that drops on lo', [rule([match(meta('iifname'), 'lo'), DROP])]],
    ['that drops what is too much', [rule([{ limit: { rate: 3, burst: 5, per: 'second', inv: true } }, DROP])]],
    ['that drops in a chain that nobody comes to', [chain('x'), rule([DROP], 'x')]],
  ])('%s shuts nobody out', (_, rules) => {
    expect(may([INPUT, ...rules])).toEqual(NONE)
  })

  it.each([
    ['that drops all', [rule([DROP])]],
    ['that rejects at the end, as firewalld', [rule([{ reject: { type: 'icmpx', expr: 'admin-prohibited' } }])]],
    ['that drops the port', [rule([match(payload('tcp', 'dport'), { set: [22, 80] }), DROP])]],
    ['that drops a range', [rule([match(payload('th', 'dport'), { range: [1, 1023] }), DROP])]],
    [
      'that drops all addresses but some',
      [rule([match(payload('ip', 'saddr'), { prefix: { addr: '10.0.0.0', len: 8 } }, '!='), DROP])],
    ],
    ['that drops what is new', [rule([match(STATE, ['new', 'invalid'], 'in'), DROP])]],
    ['that drops by what nobody understands', [rule([match({ '&': [payload('tcp', 'flags'), ['syn']] }, 'syn'), DROP])]],
    [
      'that drops in a chain behind',
      [chain('x'), chain('y'), rule([{ jump: { target: 'x' } }]), rule([{ goto: { target: 'y' } }], 'x'), rule([DROP], 'y')],
    ],
    [
      'that drops by a map',
      [
        rule([
          {
            vmap: {
              key: payload('tcp', 'dport'),
              data: {
                set: [
                  [22, DROP],
                  [80, { accept: null }],
                ],
              },
            },
          },
        ]),
      ],
    ],
    ['whose map was not printed', [rule([{ vmap: { key: payload('tcp', 'dport'), data: '@ports' } }])]],
    [
      'that leads around in a circle to a drop',
      [chain('x'), rule([{ jump: { target: 'x' } }]), rule([{ jump: { target: 'x' } }], 'x'), rule([DROP], 'x')],
    ],
    ['that gives it to a program', [rule([{ queue: { num: 0 } }])]],
  ])('%s may shut', (_, rules) => {
    expect(may([INPUT, ...rules])).toEqual(SHUT)
  })

  it('may shut by its policy', () => {
    expect(may([chain('in', { hook: 'input', policy: 'drop' })])).toEqual(SHUT)
  })

  it.each(['ingress', 'prerouting'])('may shut at %s, too', (hook) => {
    expect(may([chain('in', { hook, policy: 'drop' })])).toEqual(SHUT)
  })

  it.each(['forward', 'output', 'postrouting'])('shuts nobody out at %s', (hook) => {
    expect(may([chain('in', { hook, policy: 'drop' })])).toEqual(NONE)
  })

  it('at the ingress of another interface shuts nobody out', () => {
    const at = (dev: string | string[]) => may([chain('in', { family: 'netdev', hook: 'ingress', policy: 'drop', dev })])
    expect([at('eth1'), at(['eth1', 'eth2'])]).toEqual([NONE, NONE])
    expect([at('eth0').shut, at(['eth1', 'eth0']).shut]).toEqual([['netdev fw'], ['netdev fw']])
  })

  it('of the other family is none of ours', () => {
    expect(may([chain('in', { family: 'ip6', hook: 'input', policy: 'drop' })])).toEqual(NONE)
    expect(may([chain('in', { family: 'ip6', hook: 'input', policy: 'drop' })], SSH, 'ip6tables').shut).toEqual(['ip6 fw'])
  })

  it('that is iptables’ own is left to iptables, and not to iptables-legacy', () => {
    const own = [chain('INPUT', { family: 'ip', table: 'filter', hook: 'input', policy: 'drop' })]
    expect(may(own)).toEqual(NONE)
    expect(may(own, SSH, 'iptables', false).shut).toEqual(['ip filter'])
  })

  it('may forward the port', () => {
    const pre = chain('in', { hook: 'prerouting' })
    const to = (port: number) => rule([match(payload('tcp', 'dport'), port), { dnat: { addr: '10.0.0.2', port: 22 } }])
    expect(may([pre, to(22)])).toEqual({ shut: [], forward: ['inet fw'] })
    expect(may([pre, to(80)])).toEqual(NONE)
  })

  it('may forward by a map that was not printed, as kube-proxy does', () => {
    const key = { concat: [payload('ip', 'daddr'), meta('l4proto'), payload('th', 'dport')] }
    const map = rule([{ vmap: { key, data: '@service-ips' } }])
    expect(may([chain('in', { hook: 'prerouting' }), map])).toEqual({ shut: ['inet fw'], forward: ['inet fw'] })
  })

  it.each([
    ['<', 1024],
    ['>=', 20],
  ])('may forward ports that are compared by %s', (op, port) => {
    const redirect = rule([match(payload('tcp', 'dport'), port, op), { redirect: { port: 2222 } }])
    expect(may([chain('in', { hook: 'prerouting' }), redirect])).toEqual({ shut: [], forward: ['inet fw'] })
  })

  it('that can’t be read is no ruleset', () => {
    expect(() => readRuleset('nonsense')).toThrow(SyntaxError)
  })
})
