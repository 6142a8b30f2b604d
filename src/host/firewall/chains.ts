import { readFile } from 'node:fs/promises'
import { canonicalAddress, formatAddress } from '../../protocol/address'
import { DATAGRAM_LENGTHS } from '../../protocol/datagram'
import { run } from '../commands'
import { Fault } from '../fault'

/** Our chains. Nothing else of the administrator's is touched but for one jump in INPUT. */
export const MAIN = 'KNOCKTURN'
export const LEASES = 'KNOCKTURN-LEASES'
const TAPS = 'KNOCKTURN-TAPS'

/** Seconds to wait for another program that holds the firewall's lock. */
const LOCK_WAIT = '5'

export const FAMILIES = ['iptables', 'ip6tables'] as const
export type Family = (typeof FAMILIES)[number]

/** Which program keeps the rules of an address. */
export function familyOf(address: string): Family {
  return address.includes(':') ? 'ip6tables' : 'iptables'
}

/** Runs iptables or ip6tables on the filter table. */
export function iptables(family: Family, args: readonly string[]): Promise<string> {
  return run(family, ['-w', LOCK_WAIT, ...args])
}

/** What the log rules must hear, the ports of every pool, and how they say it to the daemon: target, NFLOG group and prefix. */
export interface TapRules {
  readonly ranges: readonly (readonly [number, number])[]
  readonly target: 'nflog' | 'log'
  readonly group: number
  readonly prefix: string
  /** Ports to which a knock may come in one UDP datagram; none of them lies in a pool. */
  readonly datagrams?: readonly number[]
}

/** The filter table of one family, as far as it concerns us. */
export interface Table {
  readonly family: Family
  readonly chains: readonly string[]
  readonly input: readonly string[]
  /** The rules of our own chains, as `iptables -S` prints them. */
  readonly main: readonly string[]
  readonly leases: readonly string[]
  readonly taps: readonly string[]
}

/** Reads the filter table of a family. */
export async function readTable(family: Family): Promise<Table> {
  return parseTable(family, await iptables(family, ['-S']))
}

/** Reads what `iptables -S` prints; nothing is an empty table. */
export function parseTable(family: Family, text: string): Table {
  const lines = text.split('\n')
  const rulesOf = (chain: string) => lines.filter((line) => line.startsWith(`-A ${chain} `))
  return {
    family,
    chains: lines.filter((line) => line.startsWith('-N ')).map((line) => line.slice(3)),
    input: rulesOf('INPUT'),
    main: rulesOf(MAIN),
    leases: rulesOf(LEASES),
    taps: rulesOf(TAPS),
  }
}

/** Whether packets reach our chains, and the leases in them. */
export function isConnected({ chains, input, main }: Table): boolean {
  const jumps = (rules: readonly string[], chain: string) => rules.some((rule) => rule.endsWith(` -j ${chain}`))
  return (
    [MAIN, LEASES, TAPS].every((chain) => chains.includes(chain)) &&
    jumps(input, MAIN) &&
    jumps(main, LEASES) &&
    jumps(main, TAPS)
  )
}

/** Whether the log rules are in place. */
export function isInstalled({ chains, input }: Table): boolean {
  return chains.includes(MAIN) && chains.includes(TAPS) && input.some(isOurJump)
}

/** Whether the log rules hear datagrams to just these ports. */
export function hearsDatagrams({ taps }: Table, ports: readonly number[]): boolean {
  const dports = taps.flatMap((rule) => / -m multiport --dports (\S+) .*-j NFLOG/.exec(rule)?.[1] ?? [])
  return ports.length === 0 ? dports.length === 0 : dports.length > 0 && dports.every((list) => list === ports.join())
}

/** Whether the log rules hear a range of ports, which {@link TapRules} has as one. */
export function hears({ taps }: Table, [low, high]: readonly [number, number]): boolean {
  return taps.some((rule) => rule.includes(` --dport ${low}:${high} `))
}

/**
 * What puts our chains in place, as input for iptables-restore --noflush: one step for the kernel, and the same result however
 * often. Leases that are in force stay.
 * @param taps null: only what leases need, for a daemon that finds its chains gone
 * @param more rules to put back into our chains
 */
export function installScript(table: Table, taps: TapRules | null, more: readonly string[] = []): string {
  const established = establishedRule(table)
  return [
    '*filter',
    `:${MAIN} - [0:0]`,
    ...(table.chains.includes(LEASES) ? [] : [`:${LEASES} - [0:0]`]),
    ...(taps || !table.chains.includes(TAPS) ? [`:${TAPS} - [0:0]`] : []),
    // Connections live on when their lease ends; where the administrator has no such rule, we bring our own.
    ...(established ? [] : [`-A ${MAIN} -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT`]),
    `-A ${MAIN} -j ${LEASES}`,
    `-A ${MAIN} -j ${TAPS}`,
    ...(taps ? taps.ranges.flatMap((range) => tapRules(range, taps)) : []),
    ...(taps?.datagrams?.length ? datagramRules(table.family, taps.datagrams, taps) : []),
    ...(table.input.some(isOurJump) ? [] : [`-I INPUT ${established + 1} -j ${MAIN}`]),
    ...more,
    'COMMIT',
    '',
  ].join('\n')
}

/** What takes our chains away again, leases and all; null where there is nothing of ours. */
export function removeScript({ chains, input }: Table): string | null {
  const ours = [MAIN, LEASES, TAPS].filter((chain) => chains.includes(chain))
  if (ours.length === 0) return null
  const jumps = input.filter(isOurJump).map((rule) => rule.replace('-A', '-D'))
  return ['*filter', ...jumps, ...ours.map((chain) => `-F ${chain}`), ...ours.map((chain) => `-X ${chain}`), 'COMMIT', ''].join(
    '\n',
  )
}

/** Applies a script in one step. */
export async function restore(family: Family, script: string): Promise<void> {
  await run(`${family}-restore`, ['-w', LOCK_WAIT, '--noflush'], script)
}

/** Our chains and our jump, as iptables prints them. */
export async function show(family: Family): Promise<string[]> {
  const lines = (await iptables(family, ['-S'])).split('\n')
  return lines.filter((line) => /^-[NA] KNOCKTURN(-LEASES|-TAPS)?( |$)/.test(line) || isOurJump(line))
}

/**
 * Refuses an installation that would cut somebody off: a connection of now whose port of ours lies in the pool, where nothing
 * accepts established connections yet (so that the kernel may not know it), or where its service could not be reached again.
 * @throws {Fault}
 */
export async function refuseToCutOff(table: Table, { ranges }: TapRules): Promise<void> {
  const sockets = await readSockets('tcp')
  const listening = new Set(sockets.filter(({ state }) => state === LISTEN).map(({ port }) => port))
  for (const { state, port, peer } of sockets) {
    const concernsUs = state === ESTABLISHED && familyOf(peer) === table.family && !isLoopback(peer) && inRanges(port, ranges)
    if (!concernsUs) continue
    const connection = `the connection from ${peer} to port ${port}`
    if (listening.has(port)) {
      throw new Fault(
        `${connection} uses a service in the pool, which would be shut: move the service, or make keys with another pool`,
      )
    }
    // Where ours is in force already, connections have been known for as long as it was.
    if (!establishedRule(table) && !isConnected(table)) {
      throw new Fault(
        `${connection} might be cut off: first run "${table.family} -I INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT"`,
      )
    }
  }
}

/** The number (from 1) of the rule in INPUT that accepts established connections from anywhere; 0 where there is none. */
function establishedRule({ input }: Table): number {
  return (
    1 +
    input.findIndex((rule) => /^-A INPUT -m (conntrack --ctstate|state --state) (\w+,)*ESTABLISHED(,\w+)* -j ACCEPT$/.test(rule))
  )
}

const isOurJump = (rule: string): boolean => rule === `-A INPUT -j ${MAIN}`

/**
 * Packets a second that are heard from one address, and at once. Twice what a scan sends that means not to be lost, so that who is behind
 * the same address can knock meanwhile: with 200, none of five knocks opened during 1,000 packets a second of their own address.
 */
const MAX_RATE = 2_000

/**
 * The log rules of a range, and its silence. The limit per source keeps a flood from one address out of everybody's way; its table
 * is sized for a flood from many: with the default size a third of 50,000 packets a second was lost. Loopback is heard, but local services in the pool keep working.
 */
function tapRules([low, high]: readonly [number, number], taps: TapRules): string[] {
  const ports = `--dport ${low}:${high}`
  const log = logTarget(taps)
  return [
    `-A ${TAPS} -p tcp -m tcp ${ports} --syn ${LIMIT} ${log}`,
    `-A ${TAPS} -p udp -m udp ${ports} ${UNKNOWN} ${LIMIT} ${log}`,
    `-A ${TAPS} ! -i lo -p tcp -m tcp ${ports} ${UNKNOWN} -j DROP`,
    `-A ${TAPS} ! -i lo -p udp -m udp ${ports} ${UNKNOWN} -j DROP`,
  ]
}

/** Bytes of an IP header and a UDP header: what xt_length counts in front of a datagram's payload. */
const HEADERS: Record<Family, number> = { iptables: 20 + 8, ip6tables: 40 + 8 }

/** Datagrams that may be a knock, by their length, and silence for all. Who knocks by IPv4 may ask for an IPv6 address, and the other way round. */
function datagramRules(family: Family, datagrams: readonly number[], taps: TapRules): string[] {
  const ports = `-p udp -m multiport --dports ${datagrams.join(',')}`
  return [
    ...DATAGRAM_LENGTHS.map(
      (length) => `-A ${TAPS} ${ports} -m length --length ${HEADERS[family] + length} ${UNKNOWN} ${LIMIT} ${logTarget(taps)}`,
    ),
    `-A ${TAPS} ! -i lo ${ports} ${UNKNOWN} -j DROP`,
  ]
}

const LIMIT =
  `-m hashlimit --hashlimit-upto ${MAX_RATE}/sec --hashlimit-burst ${MAX_RATE} --hashlimit-mode srcip --hashlimit-name knockturn` +
  ' --hashlimit-htable-size 65536 --hashlimit-htable-max 262144 --hashlimit-htable-expire 1000 --hashlimit-htable-gcinterval 500'
/** What belongs to a flow that was let in, or that this machine began, is none of ours. */
const UNKNOWN = '-m conntrack ! --ctstate ESTABLISHED,RELATED'

function logTarget({ target, group, prefix }: TapRules): string {
  const quoted = `"${prefix.replace(/["\\]/g, '\\$&')}"`
  return target === 'nflog'
    ? `-j NFLOG --nflog-group ${group} --nflog-prefix ${quoted} --nflog-threshold 1`
    : // Level debug: each line of a higher one would also be written to the console, and a serial console holds up the kernel.
      `-j LOG --log-level debug --log-prefix ${quoted}`
}

/** How many packets the log rules of both families have logged. @throws {Fault} where they can't be looked at, or are not there */
export async function loggedPackets(): Promise<number> {
  const chains = await Promise.all(FAMILIES.map((family) => iptables(family, ['-v', '-S', TAPS])))
  return chains.reduce((sum, chain) => sum + countLogged(chain), 0)
}

/** The packets of the log rules in a chain, as `iptables -v -S` prints it. */
export function countLogged(chain: string): number {
  const counts = chain.matchAll(/^-A .* -c (\d+) \d+ -j (?:NFLOG|LOG) /gm)
  return [...counts].reduce((sum, [, packets]) => sum + Number(packets), 0)
}

/**
 * Services that strangers can't reach any more, as lines for a warning: ports in the pool or of datagrams that something waits on. A UDP port may be
 * a service's (WireGuard's 51820 lies in the default pool) or just a program's own for a while; /proc doesn't tell.
 */
export async function servicesInPool({ ranges, datagrams = [] }: TapRules): Promise<string[]> {
  const waiting = async (protocol: 'tcp' | 'udp', state: number, takes: (port: number) => boolean, what: string) =>
    (await readSockets(protocol))
      .filter((socket) => socket.state === state && !isLoopback(socket.local) && takes(socket.port))
      .map(({ port }) => `port ${port}/${protocol} is in use and ${what}: no new connection from outside will reach it`)
  const inPool = (port: number) => inRanges(port, ranges)
  return [
    ...new Set([
      ...(await waiting('tcp', LISTEN, inPool, 'lies in the pool')),
      ...(await waiting('udp', UNCONNECTED, inPool, 'lies in the pool')),
      ...(await waiting('udp', UNCONNECTED, (port) => datagrams.includes(port), 'is a port of datagram knocks')),
    ]),
  ]
}

const inRanges = (port: number, ranges: TapRules['ranges']): boolean => ranges.some(([low, high]) => port >= low && port <= high)
const isLoopback = (address: string): boolean => address.startsWith('127.') || address === '::1'

/* States in /proc/net/tcp and /proc/net/udp (net/tcp_states.h). */
const ESTABLISHED = 1
const UNCONNECTED = 7
const LISTEN = 10

interface Socket {
  readonly state: number
  readonly local: string
  readonly port: number
  readonly peer: string
}

/** The sockets of this machine, both families, from /proc/net. An IPv4 peer of an IPv6 socket counts as IPv4, as its packets do. */
async function readSockets(protocol: 'tcp' | 'udp'): Promise<Socket[]> {
  const texts = await Promise.all(['', '6'].map((six) => readFile(`/proc/net/${protocol}${six}`, 'latin1').catch(() => '')))
  return texts
    .flatMap((text) => text.split('\n').slice(1))
    .map((line) => line.trim().split(/\s+/))
    .filter((fields) => fields.length > 3)
    .map(([, local, remote, state]) => ({
      state: Number.parseInt(state, 16),
      local: procAddress(local.split(':')[0]),
      port: Number.parseInt(local.split(':')[1], 16),
      peer: procAddress(remote.split(':')[0]),
    }))
}

/** /proc/net prints addresses as 32-bit words in the machine's byte order. */
function procAddress(hex: string): string {
  const words = Uint32Array.from(hex.match(/.{8}/g) ?? [], (word) => Number.parseInt(word, 16))
  return canonicalAddress(formatAddress(new Uint8Array(words.buffer))) ?? ''
}
