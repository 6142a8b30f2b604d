import { createReadStream } from 'node:fs'
import { endianness } from 'node:os'
import { canonicalAddress, formatAddress, isLoopback } from '../protocol/address'
import { errorCode, Fault, inOneLine, reason } from '../system/fault'
import { interfaceAddresses } from './iptables/table'
import type { TapRules } from './tap-rules'
import { lineSplitter } from './taps/lines'

/* What an installation would shut: connections and services of now, as the kernel lists them. Any local user can have any of these. */

/** States in /proc/self/net/tcp and udp (net/tcp_states.h). */
export const ESTABLISHED = 1
const UNCONNECTED = 7
const LISTEN = 10

/** Longest line of these files that is read; the kernel's have some 200 characters. */
const MAX_LINE = 1_024

interface Socket {
  readonly state: number
  readonly local: string
  readonly port: number
  readonly peer: string
  readonly peerPort: number
}

/**
 * Looks whom an installation would cut off. Where nobody can answer it is warned of: a daemon that does not start shuts everybody out.
 * @param remedyFor as of {@link connectionsAtRisk}
 * @returns lines for a warning; what can't be looked at is said there, too
 * @throws {Fault} where somebody can answer
 */
export async function whoIsCutOff(
  ranges: TapRules['ranges'],
  remedyFor: (peer: string) => string | null,
  isUnattended: boolean,
): Promise<string[]> {
  const risks = await connectionsAtRisk(ranges, remedyFor).catch(reasons)
  if (risks.length > 0 && !isUnattended) throw new Fault(risks[0])
  return risks
}

/** What can't be looked at is said in the place of what it would have shown. */
function reasons(error: unknown): string[] {
  if (error instanceof Fault) return [inOneLine(error)]
  throw error
}

/**
 * What an installation would cut off: connections of now whose port of ours lies in the pool, where nothing accepts established connections
 * yet (so that the kernel may not know them), or where their service could not be reached again. Those between this host's own addresses
 * don't count: loopback is never shut, and any local user can have such ones.
 * @param remedyFor the command by which the kernel comes to know the connections of a peer; null where it knows them, or where ours shut nothing
 * @returns a line for each
 * @throws {Fault} where that can't be known
 */
async function connectionsAtRisk(ranges: TapRules['ranges'], remedyFor: (peer: string) => string | null): Promise<string[]> {
  /** port → addresses */
  const listening = new Map<number, Set<string>>()
  const connected: Socket[] = []
  const own = new Set(interfaceAddresses().map(({ address }) => canonicalAddress(address) ?? address))
  await eachSocket('tcp', (socket) => {
    const { state, local, port, peer } = socket
    // What the kernel has connected has an address of ours at its near end, also one that no interface shows (a bridge without a cable).
    if (state === ESTABLISHED) own.add(local)
    if (!inRanges(port, ranges)) return
    if (state === LISTEN && !isLoopback(local)) listening.set(port, (listening.get(port) ?? new Set()).add(local))
    if (state === ESTABLISHED && !isLoopback(peer) && !own.has(peer)) connected.push(socket)
  })
  const isServed = ({ port, local }: Socket) => [local, '0.0.0.0', '::'].some((address) => listening.get(port)?.has(address))
  return connected.flatMap((socket) => {
    const { peer, port } = socket
    if (own.has(peer)) return []
    const connection = `the connection from ${peer} to port ${port}`
    if (isServed(socket))
      return `${connection} uses a service in the pool, which would be closed: move the service, or make keys with another pool`
    const remedy = remedyFor(peer)
    return remedy === null ? [] : `${connection} might be cut off: first run "${remedy}"`
  })
}

/**
 * Services that strangers can't reach any more, as lines for a warning: ports in the pool or of datagrams that something waits on. A UDP port may be
 * a service's (WireGuard's 51820 lies in the default pool) or just a program's own for a while; the kernel's list doesn't tell. What can't be looked
 * at is said there, too.
 */
export function servicesInPool(taps: TapRules): Promise<string[]> {
  return servicesOf(taps).catch(reasons)
}

async function servicesOf({ ranges, datagrams = [] }: TapRules): Promise<string[]> {
  const lines = new Set<string>()
  const look = (protocol: 'tcp' | 'udp', waiting: number) =>
    eachSocket(protocol, ({ state, local, port }) => {
      const say = (what: string) =>
        lines.add(`port ${port}/${protocol} is in use and ${what}: no new connection from outside will reach it`)
      if (state !== waiting || isLoopback(local)) return
      if (inRanges(port, ranges)) say('lies in the pool')
      if (protocol === 'udp' && datagrams.includes(port)) say('is a port of datagram knocks')
    })
  await look('tcp', LISTEN)
  await look('udp', UNCONNECTED)
  return [...lines]
}

const inRanges = (port: number, ranges: TapRules['ranges']): boolean => ranges.some(([low, high]) => port >= low && port <= high)

/**
 * The sockets of this machine, both families, one by one: a local user can have very many. By way of /proc/self, since the unit's
 * ProcSubset=pid leaves nothing else of /proc.
 * @throws {Fault} where they can't be read
 */
export async function eachSocket(protocol: 'tcp' | 'udp', take: (socket: Socket) => void): Promise<void> {
  for (const name of [protocol, `${protocol}6`]) {
    const path = `/proc/self/net/${name}`
    const lines = lineSplitter((line) => {
      const socket = readSocket(line)
      if (socket) take(socket)
    }, MAX_LINE)
    try {
      for await (const chunk of createReadStream(path, 'latin1')) lines.push(chunk)
    } catch (error) {
      // A kernel without IPv6 has no such file.
      if (name.endsWith('6') && errorCode(error) === 'ENOENT') continue
      const hint = 'mount /proc: it shows which connections the log rules would cut off'
      throw new Fault(`${path}: cannot be read: ${reason(error)}`, { hint })
    }
    lines.end()
  }
}

/**
 * Reads a line of /proc/self/net/tcp, tcp6, udp or udp6. An IPv4 address of an IPv6 socket counts as IPv4, as its packets do.
 * @returns null for any other line
 */
export function readSocket(line: string): Socket | null {
  const [, local, port, peer, peerPort, state] = SOCKET.exec(line) ?? []
  if (!local) return null
  return {
    state: Number.parseInt(state, 16),
    local: procAddress(local),
    port: Number.parseInt(port, 16),
    peer: procAddress(peer),
    peerPort: Number.parseInt(peerPort, 16),
  }
}

const END = '([0-9A-F]{8}|[0-9A-F]{32})'
const SOCKET = new RegExp(`^ *\\d+: ${END}:([0-9A-F]{4}) ${END}:([0-9A-F]{4}) ([0-9A-F]{2}) `)

/** /proc prints addresses as 32-bit words in the machine's byte order. */
function procAddress(hex: string): string {
  const bytes = Buffer.from(hex, 'hex')
  if (endianness() === 'LE') bytes.swap32()
  return canonicalAddress(formatAddress(bytes)) ?? ''
}
