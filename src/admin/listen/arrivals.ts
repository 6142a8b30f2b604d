import { formatAddress } from '../../protocol/address'
import { findIp, ipHead } from '../replay/link'

/** Kinds of packets that are kept: every port of both protocols fits, of one source. */
const MAX_KINDS = 131_072

const TCP = 6
const UDP = 17
const ICMP: Readonly<Record<number, string>> = { 1: 'icmp', 58: 'icmp6' }
const SYN = 0x02
const ACK = 0x10
const RST = 0x04
/** Linux cooked v2 says by which interface a packet came, in these four bytes. */
const COOKED_2 = 276
const INTERFACE = 4

/** One kind of packet that has arrived: of one source, to one port. Times are Unix milliseconds. */
export interface Arrival {
  readonly source: string
  readonly destination: string
  /** tcp, udp, icmp, icmp6, or the protocol's number. */
  readonly protocol: string
  /** Null where the protocol has none. */
  readonly port: number | null
  /** `new`: it begins a connection (a SYN), or is a datagram; `other`: it belongs to one, or answers. */
  readonly kind: 'new' | 'other'
  readonly first: number
  last: number
  /** Packets, each counted once though it may pass several interfaces of this machine. */
  count: number
}

/** Counts packets by where they go. */
export class Arrivals {
  readonly #told: (arrival: Arrival) => void
  readonly #kinds = new Map<string, { readonly arrival: Arrival; readonly byInterface: Map<number, number> }>()
  left = 0

  /** @param told of each kind when it has come for the first time */
  constructor(told: (arrival: Arrival) => void) {
    this.#told = told
  }

  /**
   * Takes a record of a capture.
   * @param link its link type
   * @param bytes of which those from `from` to `to` (exclusive) are the record
   * @param at Unix milliseconds
   */
  add(link: number, bytes: Uint8Array, from: number, to: number, at: number): void {
    const start = findIp(link, bytes, from, to)
    const packet = start < 0 ? null : readPacket(bytes, start, to)
    if (!packet) return
    const name = Object.values(packet).join(' ')
    const via = link === COOKED_2 ? numberAt(bytes, from + INTERFACE) : 0
    const known = this.#kinds.get(name)
    if (known) {
      const { arrival, byInterface } = known
      const count = (byInterface.get(via) ?? 0) + 1
      byInterface.set(via, count)
      arrival.last = at
      arrival.count = Math.max(arrival.count, count)
    } else if (this.#kinds.size >= MAX_KINDS) this.left++
    else {
      const arrival = { ...packet, first: at, last: at, count: 1 }
      this.#kinds.set(name, { arrival, byInterface: new Map([[via, 1]]) })
      this.#told(arrival)
    }
  }

  /** All kinds, in the order in which they came. */
  all(): Arrival[] {
    return [...this.#kinds.values()].map(({ arrival }) => arrival)
  }
}

const numberAt = (bytes: Uint8Array, at: number): number => new DataView(bytes.buffer, bytes.byteOffset).getUint32(at)

/** Reads a packet's ends. Later fragments have no ports. */
function readPacket(bytes: Uint8Array, at: number, to: number): Omit<Arrival, 'first' | 'last' | 'count'> | null {
  const head = ipHead(bytes, at, to)
  if (!head) return null
  const { version, protocol: number, addresses, length, body: where } = head
  const ends = [0, length].map((offset) => formatAddress(bytes.slice(addresses + offset, addresses + offset + length)))
  const isLater = version === 4 && (((bytes[at + 6] << 8) | bytes[at + 7]) & 0x1fff) !== 0
  const has = (size: number) => !isLater && where + size <= to
  const [source, destination] = ends
  if (number === TCP && has(14)) {
    const flags = bytes[where + 13]
    const kind = (flags & (SYN | ACK | RST)) === SYN ? 'new' : 'other'
    return { source, destination, protocol: 'tcp', port: portAt(bytes, where + 2), kind }
  }
  if (number === UDP && has(8)) return { source, destination, protocol: 'udp', port: portAt(bytes, where + 2), kind: 'new' }
  return { source, destination, protocol: ICMP[number] ?? `${number}`, port: null, kind: 'other' }
}

const portAt = (bytes: Uint8Array, at: number): number => (bytes[at] << 8) | bytes[at + 1]
