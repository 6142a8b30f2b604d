import { type Cidr, formatCidr } from '../../protocol/address'
import { DATAGRAM_LENGTHS } from '../../protocol/datagram'
import type { Rules } from '../backends/backend'
import { FAIL_OPEN_MARK, minutesLine } from '../fail-open'
import { byBoth, type Guard, type Guarded, merged } from '../guard'
import { marksOf } from '../marks'
import type { TapRules } from '../tap-rules'
import { ADDRESSES, LISTS, ROOM, TABLE, VERSIONS, versionOf } from './elements'

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
/** The chain that bin/knockturn-fail-open fills, and a daemon that hears empties: nobody else touches what is in it. */
export const FAIL_OPEN = 'failopen'

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
    ...(guard.failOpen ? ([[FAIL_OPEN, []]] as [string, string[]][]) : []),
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
        ...(guard.failOpen ? [`jump ${FAIL_OPEN}`] : []),
        ...networkLines(guard, 'counter drop'),
        ...(pool ? [`${PORT} ${pool} jump pool`] : []),
        ...(datagrams ? [`${datagrams} jump pool`] : []),
        ...portLines(guard, 'jump gate'),
        ...(guard.isStrict ? ['meta l4proto tcp ct state { new, invalid } counter drop'] : []),
      ],
    ],
  ])
}

/** What the guard does about what is forwarded. @param verdict on what begins a connection to a network behind us */
export function networkLines({ networks, inside }: Guard, verdict: string): string[] {
  return [
    ...networks.flatMap((network) => closed(network, inside, verdict)),
    // What is forwarded anyway.
    'fib daddr type unicast accept',
  ]
}

/** What the guard does about ports. @param verdict on what begins a connection to one of them */
export function portLines({ ports, interfaces, blocks }: Guard, verdict: string): string[] {
  if (ports.length === 0) return []
  return [
    ...interfaces.map((name) => `iifname "${name}" accept`),
    ...blocks.map((block) => `${sourceIs(block)} accept`),
    `${PORT} != ${portsOf(ports)} accept`,
    // Whatever conntrack says: it takes a SYN for established that comes behind a RST and a stray ACK.
    `${SYN} ${verdict}`,
    `${UDP} ct state != established ${verdict}`,
  ]
}

const sourceIs = (block: Cidr): string => `${ADDRESSES[versionOf(formatCidr(block))].source} ${formatCidr(block)}`

/** Nobody begins anything from outside with a network behind us: what is published comes to an address of ours. */
function closed(network: Cidr, inside: readonly string[], verdict: string): string[] {
  const text = formatCidr(network)
  const from = `iifname != { ${inside.map((name) => `"${name}"`).join(', ')} }`
  const to = `${inside.length > 0 ? `${from} ` : ''}${versionOf(text) === 4 ? 'ip' : 'ip6'} daddr ${text}`
  return [`${to} ${SYN} ${verdict}`, `${to} ${UDP} ct state != established ${verdict}`]
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
  return merged(byBoth(taps?.ranges ?? []))
}

/** Ports as a set within a rule, which nobody can empty without that rule; null where there are none. */
function portsOf(all: readonly Guarded[]): string | null {
  const elements = all.map(({ protocol, ports: [low, high] }) => `${protocol} . ${low === high ? low : `${low}-${high}`}`)
  return elements.length > 0 ? `{ ${elements.join(', ')} }` : null
}

/** The comment of each rule. By them a rule is known, however nft prints it. */
export function rulesetMarks(rules: Rules): ReadonlyMap<string, readonly string[]> {
  return marksOf(rulesOf(rules))
}

/** What makes the table or brings it up to date, as lines for nft: in one transaction, and without touching the leases in it. */
export function rulesetLines(rules: Rules): string[] {
  const lines = rulesOf(rules)
  const marks = rulesetMarks(rules)
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
      const isKept = GROWING.includes(chain) || chain === FAIL_OPEN
      return [`add chain ${TABLE} ${chain}${base}`, ...(isKept ? [] : [`flush chain ${TABLE} ${chain}`])]
    }),
    ...[...lines].flatMap(([chain, all]) =>
      all.map((line, n) => `add rule ${TABLE} ${chain} ${line} comment "${marks.get(chain)?.[n]}"`),
    ),
  ]
}

/** What opens the guarded ports to the blocks of fail_open_to and to nobody else, as lines for nft; none where that is not wanted. */
export function failOpenLines({ ports, failOpen }: Guard): string[] {
  if (!failOpen) return []
  const to = `${PORT} ${portsOf(ports)} accept comment "${FAIL_OPEN_MARK}"`
  return [
    minutesLine(failOpen),
    `flush chain ${TABLE} ${FAIL_OPEN}`,
    ...failOpen.blocks.map((block) => `add rule ${TABLE} ${FAIL_OPEN} ${sourceIs(block)} ${to}`),
  ]
}
