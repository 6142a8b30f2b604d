import { overlap } from '../../protocol/ports'
import type { TapRules } from '../tap-rules'
import { CHAINS, type FilterTable, readPorts, targetOf } from './table'

/* What the administrator's own rules in INPUT, and in the chains that it leads to, say that concerns us. */

/** The number (from 1) of the rule in INPUT that accepts established connections from anywhere; 0 where there is none. */
export function establishedRule({ input }: FilterTable): number {
  return 1 + input.findIndex((rule) => ESTABLISHED.test(rule.replace(COMMENT, '')))
}

/**
 * Whether the kernel has kept track of connections before our rules: where any rule accepts established ones, of whatever interface or
 * protocol, conntrack looks at all of them.
 */
export function tracksConnections({ rules }: FilterTable): boolean {
  return [...rules.values()].flat().some((rule) => / --(ct)?state \S*ESTABLISHED\S* .*-j ACCEPT$/.test(rule))
}

/**
 * Rules by which the administrator lets strangers reach ports of the pool, or of datagrams: ours stand in front of them, and shut those ports.
 * @returns the rules, as iptables prints them
 */
export function acceptedInPool(table: FilterTable, { ranges, datagrams = [] }: TapRules): string[] {
  const shut = { tcp: ranges, udp: [...ranges, ...datagrams.map((port) => [port, port] as const)] }
  return rulesBehindInput(table).filter((rule) => {
    const [, protocol, own, ports] = ACCEPTED.exec(rule.replace(COMMENT, '')) ?? []
    if (protocol !== 'tcp' && protocol !== 'udp') return false
    if (own !== protocol && own !== 'multiport') return false
    return ports.split(',').some((text) => shut[protocol].some((range) => overlap(range, readPorts(text))))
  })
}

/** All rules that a packet to this machine may meet, but for ours. */
function rulesBehindInput({ input, rules }: FilterTable): string[] {
  const seen = new Set(['INPUT', ...CHAINS])
  const found = [...input]
  for (const rule of found) {
    const chain = targetOf(rule)
    if (chain === null || seen.has(chain)) continue
    seen.add(chain)
    found.push(...(rules.get(chain) ?? []))
  }
  return found
}

const COMMENT = / -m comment --comment ("(?:[^"\\]|\\.)*"|\S+)/
const ESTABLISHED = /^-A INPUT -m (conntrack --ctstate|state --state) (\w+,)*ESTABLISHED(,\w+)* -j ACCEPT$/
/** Whose source says that they are for somebody in particular are no service for strangers, and are shut all the same. */
const ACCEPTED = /^-A \S+ .*-p (\w+) .*-m (\w+) --dports? (\S+) .*-j ACCEPT$/
