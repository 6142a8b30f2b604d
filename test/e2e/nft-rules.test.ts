import { beforeAll, describe, expect, it } from 'vitest'
import { toNumber } from '../../src/daemon/exposure/matches'
import { effectsOf, readRuleset } from '../../src/daemon/exposure/nft-tables'
import { Lab } from '../lab/lab'
import { seededRandom } from '../random'

/* What is read out of rules of nft, and what the kernel makes of them. */

const SSH = 22
const SEEDS = Array.from({ length: 8 }, (_, i) => i)
const EACH = 15

const lab = new Lab(['stranger'])
const { server, stranger } = lab.hosts

beforeAll(async () => {
  await lab.build()
  await server.service(SSH)
  return () => lab.end()
}, 60_000)

/** Conditions that hold for all first packets of strangers, or for none. */
const certain = [
  '',
  '',
  '',
  'tcp dport 22',
  'tcp dport != 22',
  'tcp dport { 22, 80 }',
  'tcp dport { 80, 443, 1000-2000 }',
  'tcp dport != { 80, 443 }',
  'tcp dport 1-1023',
  'tcp dport < 22',
  'tcp dport >= 22',
  'udp dport 22',
  'th dport 22',
  'meta l4proto tcp',
  'meta l4proto { udp, icmp }',
  'meta l4proto != udp',
  'ip protocol tcp',
  'ip6 nexthdr tcp',
  'icmp type echo-request',
  'meta nfproto ipv4',
  'meta nfproto ipv6',
  'meta l4proto . th dport { tcp . 22, udp . 53 }',
  'iifname . tcp dport { "eth0" . 22, "eth1" . 80 }',
  'iifname "eth0"',
  'iifname "eth*"',
  'iifname != "eth0"',
  'iifname "lo"',
  'iifname { "lo", "eth0" }',
  'ct state new',
  'ct state { new, untracked }',
  'ct state established,related',
  'ct state new,established',
  'ct state != new',
  'ct state invalid',
  'ct status dnat',
  'ct direction original',
  'tcp flags syn',
  'tcp flags & (fin | syn | rst | ack) == syn',
  'tcp flags & (syn | ack) == syn | ack',
  'tcp flags & (fin | syn) == 0',
  'tcp flags != syn',
  'fib daddr type local',
  'fib daddr type != { local, broadcast, multicast }',
  'fib saddr . iif oif missing',
  'meta pkttype { broadcast, multicast }',
  'meta pkttype != host',
  'ip saddr 203.0.113.0/24',
  'ip saddr != 203.0.113.0/24',
  'ip saddr { 203.0.113.7, 203.0.113.9-203.0.113.12 }',
  'ip daddr 198.51.100.1',
  'ip daddr != 198.51.100.1',
  'ip daddr 224.0.0.0/4',
  'ip daddr { 10.0.0.0/8, 198.51.100.0/24 }',
  // A packet may come by one rule several times.
  'limit rate over 1000/second burst 1000 packets',
  'counter',
  'log prefix "x"',
]
/** Those of which the listing alone does not say whom they hold for. */
const doubtful = ['tcp dport @ports', 'meta mark 0', 'meta length < 100', 'ip ttl 64', 'tcp flags & ecn == 0']

function make(random: () => number) {
  const pick = <T>(items: readonly T[]) => items[Math.floor(random() * items.length)] as T
  const chains = ['in', 'a', 'b', 'c']
  const isCertain = random() < 0.7
  const rule = (i: number) => {
    const conditions = [isCertain || random() < 0.8 ? pick(certain) : pick(doubtful), random() < 0.2 ? pick(certain) : '']
    const later = chains.slice(i + 1).flatMap((to) => [`jump ${to}`, `jump ${to}`, `goto ${to}`])
    const verdict = pick(['accept', 'drop', 'reject', 'reject with tcp reset', 'return', 'continue', '', ...later, ...later])
    if (random() < 0.15) {
      const maps = [
        `tcp dport vmap { 22 : ${verdict || 'accept'}, 80 : drop }`,
        `ct state vmap { new : ${verdict || 'accept'}, invalid : drop }`,
        `meta l4proto vmap { udp : drop, tcp : ${verdict || 'accept'} }`,
        `iifname vmap { "lo" : accept, "eth0" : ${verdict || 'accept'} }`,
      ]
      // Nothing is rejected by a map.
      return pick(maps).replace(/reject( with tcp reset)?/, 'drop')
    }
    const text = `${conditions.join(' ')} ${verdict}`.trim() || 'counter'
    // nft lists this one without the family.
    return text.includes('nfproto') ? text.replace(' with tcp reset', '') : text
  }
  const rules = new Map(chains.map((chain, i) => [chain, Array.from({ length: 1 + Math.floor(random() * 4) }, () => rule(i))]))
  const base = `type filter hook ${pick(['input', 'input', 'prerouting'])} priority ${pick([-400, 0, 10])}; policy ${pick(['accept', 'drop'])};\ntcp flags & syn == 0 accept`
  const text = [...rules]
    .reverse()
    .map(([name, own]) => `chain ${name} {\n${name === 'in' ? `${base}\n` : ''}${own.join('\n')}\n}\n`)
  const sets = 'set ports { type inet_service; elements = { 22 }; }\n'
  return { isCertain, text: `flush ruleset\ntable inet fw {\n${sets}${text.join('')}}\n` }
}

describe('random rules of nft', () => {
  it.each(SEEDS)(
    'are read as the kernel follows them (%i)',
    async (seed) => {
      const random = seededRandom(seed)
      const wrong: string[] = []
      let tried = 0
      const seen = new Set<string>()
      const addresses = [toNumber(server.ipv4) as bigint]
      while (tried < EACH) {
        const { text, isCertain } = make(random)
        // Conditions that nothing can fulfil together are refused.
        if ((await server.run(['nft', '-f', '-'], { input: text })).code !== 0) continue
        tried++
        const ruleset = readRuleset(await server.must(['nft', '-j', '-t', 'list', 'ruleset']))
        const service = { port: SSH, protocol: 'tcp' } as const
        const [effect] = effectsOf(ruleset, { family: 'iptables', interfaces: ['eth0'], addresses, service }, true)
        const said = effect?.drops ?? 'passes'
        seen.add(said)
        if (said === 'perhaps' && !isCertain) continue
        const isOpen = (await stranger.connect(server.ipv4, SSH, said === 'passes' ? 1_000 : 200)).saw === 'open'
        if (said === 'perhaps' || isOpen !== (said === 'passes')) wrong.push(`${said}, and ${isOpen ? 'open' : 'shut'}:\n${text}`)
      }
      expect([wrong.join('\n'), seen.has('passes'), seen.has('all')]).toEqual(['', true, true])
    },
    120_000,
  )
})
