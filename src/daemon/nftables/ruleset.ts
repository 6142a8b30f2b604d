import { createHash } from 'node:crypto'
import { DATAGRAM_LENGTHS } from '../../protocol/datagram'
import type { Rules } from '../backends/backend'
import { type Guarded, merged } from '../guard'
import type { TapRules } from '../tap-rules'
import { ADDRESSES, LISTS, ROOM, TABLE, VERSIONS } from './elements'

/* Our table without its leases: the guard, and the log rules. */

/**
 * Packets a second that are heard from one source, and at once. Twice what a scan sends that means not to be lost, so that who is behind the
 * same address can knock meanwhile.
 */
const MAX_RATE = 2_000
/** Sources that are counted at once. When there are more, the others are heard without a limit. */
const MAX_SOURCES = 262_144
/** Lines a second of the kernel's own log: 2.5 MB a second. The limit of a source is none for forged ones, and that log lies on a disk. */
const MAX_LINES = 10_000
/** Bits of an address that count as one source: who has an IPv6 address has its /64. */
const SOURCE_MASK = { 4: '', 6: ' & ffff:ffff:ffff:ffff::' } as const

/** In front of DNAT, behind conntrack: the port is the one that the stranger sees, and a container's is guarded as the host's own. */
const HOOK = { hook: 'prerouting', priority: -110, policy: 'accept' } as const
/** The chain that packets come to, and its hook as nft's listing has it. */
export const BASE = { chain: 'guard', hook: `${HOOK.hook} ${HOOK.priority} ${HOOK.policy}` } as const
/** Chains that have a rule for each set of leases: they grow with them. */
export const GROWING: readonly string[] = ['open', 'once']

const SYN = 'tcp flags & (fin | syn | rst | ack) == syn'
const UDP = 'meta l4proto udp'
const PORT = 'meta l4proto . th dport'
const HEARD = 'ct state != { established, related }'

/** Rules by chain, in the order in which chains are made: those that are led to come first. */
function rulesOf({ guard, taps }: Rules): Map<string, string[]> {
  const pool = portsOf(poolOf(taps))
  const datagrams = taps?.datagrams?.length ? `udp dport { ${taps.datagrams.join(', ')} }` : null
  const logging = taps
    ? [
        ...(pool ? [`${SYN} ${PORT} ${pool} jump heard`, `${UDP} ${HEARD} ${PORT} ${pool} jump heard`] : []),
        // 8 bytes are the header's.
        ...(datagrams
          ? [`${datagrams} udp length { ${DATAGRAM_LENGTHS.map((length) => length + 8).join(', ')} } ${HEARD} jump heard`]
          : []),
      ]
    : []
  return new Map([
    ['open', []],
    ['once', []],
    ['heard', taps ? heard(taps) : []],
    ['taps', logging],
    ['gate', ['jump open', 'jump once', 'jump taps', 'counter drop']],
    [
      // Silent as a whole. What the administrator has the kernel not keep track of (a busy resolver's answers, say) may belong to a flow of
      // this machine's: it is heard, and goes on.
      'pool',
      [
        `${SYN} jump gate`,
        `${UDP} ct state { new, invalid } jump gate`,
        `${UDP} ct state untracked jump taps`,
        'meta l4proto tcp ct state { new, invalid } counter drop',
      ],
    ],
    [
      BASE.chain,
      [
        // Loopback is heard, and never shut.
        'iifname "lo" jump taps',
        'iifname "lo" accept',
        // What is forwarded anyway.
        'fib daddr type unicast accept',
        ...(pool ? [`${PORT} ${pool} jump pool`] : []),
        ...(datagrams ? [`${datagrams} jump pool`] : []),
        ...(guard.length > 0
          ? [
              `${PORT} != ${portsOf(guard)} accept`,
              // Whatever conntrack says: it takes a SYN for established that comes behind a RST and a stray ACK.
              `${SYN} jump gate`,
              `${UDP} ct state != established jump gate`,
            ]
          : []),
      ],
    ],
  ])
}

/** Within the limit of its source a packet is logged. */
function heard({ target, group, prefix }: TapRules): string[] {
  const quoted = `"${prefix.replace(/["\\]/g, '\\$&')}"`
  const log =
    target === 'nflog'
      ? `counter log prefix ${quoted} group ${group} queue-threshold 1`
      : // Level debug: each line of a higher one would also be written to the console, and a serial console holds up the kernel.
        `limit rate ${MAX_LINES}/second burst ${MAX_LINES} packets counter log level debug prefix ${quoted}`
  const beyond = VERSIONS.map((version) => {
    const { source } = ADDRESSES[version]
    const limit = `limit rate over ${MAX_RATE}/second burst ${MAX_RATE} packets`
    return `update @sources${version} { ${source}${SOURCE_MASK[version]} ${limit} } return`
  })
  return [...beyond, log]
}

/** The ports of the pool and of passcodes, by both protocols. */
function poolOf(taps: TapRules | null): Guarded[] {
  const ranges = taps?.ranges ?? []
  return merged([
    ...ranges.map((ports) => ({ protocol: 'tcp' as const, ports })),
    ...ranges.map((ports) => ({ protocol: 'udp' as const, ports })),
  ])
}

/** Ports as a set within a rule, which nobody can empty without that rule; null where there are none. */
function portsOf(all: readonly Guarded[]): string | null {
  const elements = all.map(({ protocol, ports: [low, high] }) => `${protocol} . ${low === high ? low : `${low}-${high}`}`)
  return elements.length > 0 ? `{ ${elements.join(', ')} }` : null
}

/** Names a ruleset: two that differ in anything have two names. */
function digestOf(rules: Rules): string {
  return createHash('sha256')
    .update(JSON.stringify([...rulesOf(rules)]))
    .digest('hex')
    .slice(0, 8)
}

/** The comment of each rule: of which ruleset it is, and which of how many. By them a rule is known, however nft prints it. */
export function marksOf(rules: Rules): ReadonlyMap<string, readonly string[]> {
  const digest = digestOf(rules)
  const chains = [...rulesOf(rules)]
  const all = chains.flatMap(([, lines]) => lines).length
  let n = 0
  return new Map(chains.map(([chain, lines]) => [chain, lines.map(() => `${digest} ${++n}/${all}`)]))
}

/**
 * Whether rules are all of one ruleset, each once and in its place.
 * @param chains the comments of the rules of each chain, in their order
 */
export function areWhole(chains: Iterable<readonly string[]>): boolean {
  const read = [...chains].map((comments) => comments.map((comment) => /^(\S+) (\d+)\/(\d+)$/.exec(comment) ?? []))
  const all = read.flat()
  const [, digest, , total] = all[0] ?? []
  return (
    all.length === Number(total) &&
    all.every(([, one, , count]) => one === digest && count === total) &&
    new Set(all.map(([, , n]) => n)).size === all.length &&
    read.every((rules) => rules.every(([, , n], i) => i === 0 || Number(n) === Number(rules[i - 1][2]) + 1))
  )
}

/** What makes the table or brings it up to date, as lines for nft: in one transaction, and without touching the leases in it. */
export function rulesetLines(rules: Rules): string[] {
  const lines = rulesOf(rules)
  const marks = marksOf(rules)
  const set = (name: string, spec: string) => `add set ${TABLE} ${name} { ${spec} }`
  return [
    `add table ${TABLE}`,
    ...Object.entries(LISTS).map(([name, type]) => set(name, `type ${type}; flags timeout; size ${ROOM};`)),
    ...VERSIONS.map((version) =>
      set(`sources${version}`, `type ${ADDRESSES[version].type}; flags dynamic, timeout; timeout 2s; size ${MAX_SOURCES};`),
    ),
    ...[...lines.keys()].flatMap((chain) => {
      const { hook, priority, policy } = HOOK
      const base = chain === BASE.chain ? ` { type filter hook ${hook} priority ${priority}; policy ${policy}; }` : ''
      return [`add chain ${TABLE} ${chain}${base}`, ...(GROWING.includes(chain) ? [] : [`flush chain ${TABLE} ${chain}`])]
    }),
    ...[...lines].flatMap(([chain, all]) =>
      all.map((line, n) => `add rule ${TABLE} ${chain} ${line} comment "${marks.get(chain)?.[n]}"`),
    ),
  ]
}
