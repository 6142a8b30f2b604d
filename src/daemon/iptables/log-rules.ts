import { DATAGRAM_LENGTHS } from '../../protocol/datagram'
import type { Ports } from '../../protocol/ports'
import type { TapRules } from '../tap-rules'
import { type Family, type FilterTable, iptables, readPorts, TAPS } from './table'

/**
 * Packets a second that are heard from one address, and at once. Twice what a scan sends that means not to be lost, so that who is behind
 * the same address can knock meanwhile: with 200, none of five knocks opened during 1,000 packets a second of their own address.
 */
const MAX_RATE = 2_000

/** Bits of an address that count as one source: who has an IPv6 address has its /64, and by an entry for each address could fill the table alone. */
const SOURCE_BITS: Record<Family, number> = { iptables: 32, ip6tables: 64 }

/**
 * Lines a second that target "log" writes at most, for each family: five sources at their limit, and 2.5 MB a second. The limit per source
 * is none for forged ones, and the kernel's log lies on a disk. NFLOG writes no files.
 */
const MAX_LINES = 10_000

/** The log rules, and the silence behind them. */
export function logRules(family: Family, taps: TapRules): string[] {
  return [
    ...taps.ranges.flatMap((range) => tapRules(family, range, taps)),
    ...(taps.datagrams?.length ? datagramRules(family, taps.datagrams, taps) : []),
  ]
}

/**
 * The log rules of a range, and its silence. The limit per source keeps a flood from one address out of everybody's way; its table
 * is sized for a flood from many: with the default size a third of 50,000 packets a second was lost. Loopback is heard, but local services in the pool keep working.
 */
function tapRules(family: Family, [low, high]: Ports, taps: TapRules): string[] {
  const ports = `--dport ${low}:${high}`
  const log = logPart(family, taps)
  return [
    `-A ${TAPS} -p tcp -m tcp ${ports} --syn ${log}`,
    `-A ${TAPS} -p udp -m udp ${ports} ${UNKNOWN} ${log}`,
    `-A ${TAPS} ! -i lo -p tcp -m tcp ${ports} ${NEW_TO_US} -j DROP`,
    `-A ${TAPS} ! -i lo -p udp -m udp ${ports} ${NEW_TO_US} -j DROP`,
  ]
}

/** Bytes of an IP header and a UDP header: what xt_length counts in front of a datagram's payload. */
const HEADERS: Record<Family, number> = { iptables: 20 + 8, ip6tables: 40 + 8 }

/** Datagrams that may be a knock, by their length, and silence for all. Who knocks by IPv4 may ask for an IPv6 address, and the other way round. */
function datagramRules(family: Family, datagrams: readonly number[], taps: TapRules): string[] {
  const ports = `-p udp -m multiport --dports ${datagrams.join(',')}`
  return [
    ...DATAGRAM_LENGTHS.map(
      (length) => `-A ${TAPS} ${ports} -m length --length ${HEADERS[family] + length} ${UNKNOWN} ${logPart(family, taps)}`,
    ),
    `-A ${TAPS} ! -i lo ${ports} ${NEW_TO_US} -j DROP`,
  ]
}

/** Sources that are counted at once. When there are more, the kernel drops packets of others at once, unheard; nothing but time makes room. */
const TABLE =
  '--hashlimit-htable-size 65536 --hashlimit-htable-max 262144 --hashlimit-htable-expire 1000 --hashlimit-htable-gcinterval 500'

/** A limit. The kernel keeps a table by its name as it was first made, whatever a later rule says: so the name has all that may change. */
const upto = (rate: number, name: string): string =>
  `-m hashlimit --hashlimit-upto ${rate}/sec --hashlimit-burst ${rate} --hashlimit-name knockturn-${name}${rate}`

/** What belongs to a flow that was let in, or that this machine began, is none of ours. */
const UNKNOWN = '-m conntrack ! --ctstate ESTABLISHED,RELATED'
/**
 * What is to be silent: nor is what the administrator has the kernel not keep track of (a busy resolver's answers, say), which may belong to
 * a flow of this machine's. It is heard all the same.
 */
const NEW_TO_US = `${UNKNOWN},UNTRACKED`

/** The limits and the target of a log rule. Who is beyond a limit of its own takes nothing of what all may have together. */
function logPart(family: Family, taps: TapRules): string {
  const bits = SOURCE_BITS[family]
  const each = `${upto(MAX_RATE, `${bits}-`)} --hashlimit-mode srcip --hashlimit-srcmask ${bits} ${TABLE}`
  return [each, ...(taps.target === 'log' ? [upto(MAX_LINES, 'log-')] : []), logTarget(taps)].join(' ')
}

function logTarget({ target, group, prefix }: TapRules): string {
  const quoted = `"${prefix.replace(/["\\]/g, '\\$&')}"`
  return target === 'nflog'
    ? `-j NFLOG --nflog-group ${group} --nflog-prefix ${quoted} --nflog-threshold 1`
    : // Level debug: each line of a higher one would also be written to the console, and a serial console holds up the kernel.
      `-j LOG --log-level debug --log-prefix ${quoted}`
}

/** How many packets the log rules of all families have logged. @throws {Fault} where they can't be looked at, or are not there */
export async function loggedPackets(families: readonly Family[]): Promise<number> {
  const chains = await Promise.all(families.map((family) => iptables(family, ['-v', '-S', TAPS])))
  return chains.reduce((sum, chain) => sum + countLogged(chain), 0)
}

/** The packets of the log rules in a chain, as `iptables -v -S` prints it. */
export function countLogged(chain: string): number {
  const counts = chain.matchAll(/^-A .* -c (\d+) \d+ -j (?:NFLOG|LOG) /gm)
  return [...counts].reduce((sum, [, packets]) => sum + Number(packets), 0)
}

/** Whether the log rules hear datagrams to just these ports. */
export function hearsDatagrams({ taps }: FilterTable, ports: readonly number[]): boolean {
  const dports = taps.flatMap((rule) => / -m multiport --dports (\S+) .*-j NFLOG/.exec(rule)?.[1] ?? [])
  return ports.length === 0 ? dports.length === 0 : dports.length > 0 && dports.every((list) => list === ports.join())
}

/** Whether the log rules hear a range of ports, which {@link TapRules} has as one. */
export function hears({ taps }: FilterTable, [low, high]: Ports): boolean {
  return taps.some((rule) => rule.includes(` --dport ${low}:${high} `))
}

/** Whether the log rules hear every port of a pool, by TCP and so by UDP: both are made together. */
export function hearsPool({ taps }: FilterTable, pool: Uint16Array): boolean {
  const heard = new Uint8Array(65536)
  for (const rule of taps) {
    const [, ports] = / -p tcp .*--dport (\d+(?::\d+)?) .*-j (?:NFLOG|LOG)/.exec(rule) ?? []
    if (ports === undefined) continue
    const [low, high] = readPorts(ports)
    heard.fill(1, low, high + 1)
  }
  return pool.every((port) => heard[port] === 1)
}
