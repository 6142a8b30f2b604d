import { type Cidr, formatCidr } from '../../protocol/address'
import type { Ports } from '../../protocol/ports'
import type { Rules } from '../backends/backend'
import { FAIL_OPEN_MARK } from '../fail-open'
import { byBoth, type Guard, type Guarded } from '../guard'
import { marksOf } from '../marks'
import { logRules } from './log-rules'
import { ADMIT, type Family, familyOf, LEASES, MAIN, TAPS } from './table'

/*
 * The guard of iptables: in mangle PREROUTING, in front of DNAT and behind conntrack, so that the port is the one that the stranger sees, and a
 * container's is guarded as the host's own. Leases and log rules stand here, too: what is guarded is decided in one place.
 */

/** Whether a packet to a guarded port passes. */
export const GATE = 'KNOCKTURN-GATE'
/** Whether a packet to a network behind us comes from inside. */
export const CLOSED = 'KNOCKTURN-CLOSED'
/** The chain that bin/knockturn-fail-open fills, and a daemon that hears empties: nobody else touches what is in it. */
export const FAIL_OPEN = 'KNOCKTURN-FAILOPEN'
/** Chains whose rules are all ours; {@link LEASES} grows with the leases. */
export const FIXED = [TAPS, CLOSED, ADMIT, GATE, MAIN]
/** The jump to all of it: in front of whatever else could accept packets there. */
export const GUARD_JUMP = `-A PREROUTING -j ${MAIN}`

/** Ports that one rule names (xt_multiport); a range counts twice. */
const MAX_PORTS = 15
const SYN = '-m tcp --syn'

/** The rules of each chain but that of the leases, each without a comment. */
export function guardRules(family: Family, { guard, taps }: Rules): Map<string, string[]> {
  const logging = taps ? logRules(family, taps).filter((rule) => / -j (NFLOG|LOG) /.test(rule)) : []
  const heard: Guarded[] = [
    ...byBoth(taps?.ranges ?? []),
    ...(taps?.datagrams ?? []).map((port) => ({ protocol: 'udp' as const, ports: [port, port] as const })),
  ]
  const to = (protocol: Guarded['protocol'], of: readonly Guarded[], rest: string) =>
    portMatches(protocol, of).map((match) => `-A ${MAIN} ${match} ${rest}`)
  const networks = blocksOf(family, guard.networks)
  return new Map([
    [TAPS, logging],
    [CLOSED, [...guard.inside.map((name) => `-A ${CLOSED} -i ${name} -j RETURN`), `-A ${CLOSED} -j DROP`]],
    [ADMIT, [`-A ${ADMIT} -j ACCEPT`]],
    [GATE, [`-A ${GATE} -j ${LEASES}`, `-A ${GATE} -j ${TAPS}`, `-A ${GATE} -j DROP`]],
    [
      MAIN,
      [
        // Loopback is heard, and never shut.
        `-A ${MAIN} -i lo -j ${TAPS}`,
        `-A ${MAIN} -i lo -j RETURN`,
        ...(guard.failOpen ? [`-A ${MAIN} -j ${FAIL_OPEN}`] : []),
        ...networks.flatMap((network) => {
          const there = `-A ${MAIN} -d ${network}`
          return [`${there} -p tcp ${SYN} -j ${CLOSED}`, `${there} -p udp -m conntrack ! --ctstate ESTABLISHED -j ${CLOSED}`]
        }),
        // What is forwarded anyway. By IPv6 an address of this machine counts as unicast, too, and so does the anycast one of a router's link.
        `-A ${MAIN} -m addrtype --dst-type UNICAST -m addrtype ! --dst-type LOCAL,ANYCAST -j RETURN`,
        ...to('tcp', heard, `${SYN} -j ${GATE}`),
        ...to('udp', heard, `-m conntrack --ctstate NEW,INVALID -j ${GATE}`),
        // What the administrator has the kernel not keep track of may belong to a flow of this machine's: it is heard, and goes on.
        ...to('udp', heard, `-m conntrack --ctstate UNTRACKED -j ${TAPS}`),
        ...to('tcp', heard, '-m conntrack --ctstate NEW,INVALID -j DROP'),
        // Whatever conntrack says: it takes a SYN for established that comes behind a RST and a stray ACK.
        ...(guard.ports.length > 0
          ? [
              ...guard.interfaces.map((name) => `-A ${MAIN} -i ${name.replace('*', '+')} -j RETURN`),
              ...blocksOf(family, guard.blocks).map((block) => `-A ${MAIN} -s ${block} -j RETURN`),
            ]
          : []),
        ...to('tcp', guard.ports, `${SYN} -j ${GATE}`),
        ...(guard.isStrict ? to('tcp', guard.ports, '-m conntrack --ctstate NEW,INVALID -j DROP') : []),
        ...to('udp', guard.ports, `-m conntrack ! --ctstate ESTABLISHED -j ${GATE}`),
      ],
    ],
  ])
}

/** What opens the guarded ports to the blocks of fail_open_to that a family has, and to nobody else; none where there are none. */
export function failOpenRules(family: Family, { ports, failOpen }: Guard): string[] {
  return blocksOf(family, failOpen?.blocks ?? []).flatMap((block) =>
    (['tcp', 'udp'] as const).flatMap((protocol) =>
      portMatches(protocol, ports).map(
        (match) => `-A ${FAIL_OPEN} -s ${block} ${match} -m comment --comment ${FAIL_OPEN_MARK} -j ACCEPT`,
      ),
    ),
  )
}

/** What matches packets to the ports of a protocol, each with as many as one rule takes. */
const portMatches = (protocol: Guarded['protocol'], of: readonly Guarded[]): string[] =>
  chunks(of.filter((one) => one.protocol === protocol).map(({ ports }) => ports)).map(
    (ports) => `-p ${protocol} -m multiport --dports ${ports}`,
  )

/** The blocks of a family. */
function blocksOf(family: Family, blocks: readonly Cidr[]): string[] {
  return blocks.map(formatCidr).filter((block) => familyOf(block) === family)
}

/** The same with their comments. */
export function markedRules(rules: ReadonlyMap<string, readonly string[]>): string[] {
  const marks = marksOf(rules)
  return [...rules].flatMap(([chain, lines]) =>
    lines.map((line, i) => line.replace(/ (-j \S+.*)$/, ` -m comment --comment "${marks.get(chain)?.[i]}" $1`)),
  )
}

/** The comment of a rule as iptables prints it; nothing where it has none. */
export const commentOf = (line: string): string => / --comment "([^"]*)"/.exec(line)?.[1] ?? ''

/** Ports as multiport takes them, so many a rule as it does. */
function chunks(all: readonly Ports[]): string[] {
  const lists: string[][] = []
  let room = 0
  for (const [low, high] of all) {
    const needs = low === high ? 1 : 2
    if (room < needs) {
      lists.push([])
      room = MAX_PORTS
    }
    room -= needs
    lists.at(-1)?.push(low === high ? `${low}` : `${low}:${high}`)
  }
  return lists.map((list) => list.join())
}
