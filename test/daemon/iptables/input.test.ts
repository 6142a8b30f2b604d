import { describe, expect, it } from 'vitest'
import { acceptedInPool, establishedRule, tracksConnections } from '../../../src/daemon/iptables/input'
import { parseTable } from '../../../src/daemon/iptables/table'

/* Rules as iptables 1.8.9 and 1.8.11 print them. */

const tableOf = (...rules: string[]) => parseTable('iptables', ['-P INPUT DROP', ...rules].join('\n'))
const ALL = '-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT'

describe('the rule that accepts established connections', () => {
  it.each([
    ['as most have it', ALL],
    ['in the other order', '-A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT'],
    ['alone', '-A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT'],
    ['by -m state', '-A INPUT -m state --state RELATED,ESTABLISHED -j ACCEPT'],
    ['with a comment', '-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -m comment --comment established -j ACCEPT'],
    ['with a comment in front', '-A INPUT -m comment --comment "all \\"ours\\" -j DROP" -m state --state ESTABLISHED -j ACCEPT'],
    ['with what is not tracked', '-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED,UNTRACKED -j ACCEPT'],
  ])('is known %s', (_, rule) => {
    expect(establishedRule(tableOf('-A INPUT -i lo -j ACCEPT', rule))).toBe(2)
  })

  it.each([
    ['of one interface', '-A INPUT -i eth0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT'],
    ['of one protocol', '-A INPUT -p tcp -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT'],
    ['from one source', '-A INPUT -s 192.0.2.1/32 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT'],
    ['turned round', '-A INPUT -m conntrack ! --ctstate RELATED,ESTABLISHED -j ACCEPT'],
    ['that drops', '-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j DROP'],
    ['of related ones only', '-A INPUT -m conntrack --ctstate RELATED -j ACCEPT'],
  ])('is not one %s', (_, rule) => {
    expect(establishedRule(tableOf(rule))).toBe(0)
  })
})

describe('whether the kernel has kept track of connections', () => {
  it.each([
    ['all of them', ALL],
    ['those of one interface', '-A INPUT -i eth0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT'],
    ['those of one protocol', '-A INPUT -p tcp -m state --state ESTABLISHED -j ACCEPT'],
    ['in a chain of its own', '-A ufw-before-input -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT'],
  ])('shows where a rule accepts %s', (_, rule) => {
    expect(tracksConnections(tableOf(rule))).toBe(true)
  })

  it.each([
    ['no rule', '-A INPUT -i lo -j ACCEPT'],
    ['none that accepts', '-A INPUT -m conntrack --ctstate ESTABLISHED -j LOG'],
    ['none of established ones', '-A INPUT -m conntrack --ctstate NEW -j ACCEPT'],
  ])('does not where there is %s', (_, rule) => {
    expect(tracksConnections(tableOf(rule))).toBe(false)
  })
})

describe('a rule that the pool takes out of force', () => {
  const taps = { ranges: [[49_152, 65_535]] as const, target: 'nflog', group: 5, prefix: '', datagrams: [53] } as const
  const found = (...rules: string[]) => acceptedInPool(tableOf(...rules), taps)

  it.each([
    ['mosh', '-A INPUT -p udp -m udp --dport 60000:61000 -j ACCEPT'],
    ['coturn', '-A INPUT -p udp -m multiport --dports 3478,49152:65535 -m comment --comment turn -j ACCEPT'],
    ['one port', '-A INPUT -p tcp -m tcp --dport 51820 -j ACCEPT'],
    ['all high ports', '-A INPUT -p tcp -m tcp --dport 1024:65535 -j ACCEPT'],
    ['an interface', '-A INPUT -i eth0 -p tcp -m conntrack --ctstate NEW -m tcp --dport 50000 -j ACCEPT'],
    ['a datagram port', '-A INPUT -p udp -m udp --dport 53 -j ACCEPT'],
  ])('is named: %s', (_, rule) => {
    expect(found(rule)).toEqual([rule])
  })

  it.each([
    ['ports below', '-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT'],
    ['a datagram port by TCP', '-A INPUT -p tcp -m tcp --dport 53 -j ACCEPT'],
    ['a source port', '-A INPUT -p udp -m udp --sport 60000 -j ACCEPT'],
    ['a rule that drops', '-A INPUT -p udp -m udp --dport 60000:61000 -j DROP'],
    ['all ports', '-A INPUT -i lo -j ACCEPT'],
    ['a rule for what leaves', '-A OUTPUT -p udp -m udp --dport 60000:61000 -j ACCEPT'],
    ['a chain that nothing leads to', '-A mosh -p udp -m udp --dport 60000:61000 -j ACCEPT'],
    ['a lease of ours', '-A KNOCKTURN-LEASES -s 192.0.2.7/32 -p tcp -m tcp --dport 50000 -j ACCEPT'],
  ])('is not: %s', (_, rule) => {
    expect(found('-A INPUT -j KNOCKTURN-LEASES', rule)).toEqual([])
  })

  it('is found in the chains that INPUT leads to, however far, and round a circle', () => {
    const rule = '-A ufw-user-input -p udp -m multiport --dports 60000:61000 -j ACCEPT'
    expect(found('-A INPUT -j ufw-before', '-A ufw-before -g ufw-user-input', '-A ufw-user-input -j ufw-before', rule)).toEqual([
      rule,
    ])
  })
})
