import { endianness } from 'node:os'
import { Ipv4Tap, type Tap } from '../../gate/tap'
import { canonicalAddress, formatAddress } from '../../protocol/address'
import { DATAGRAM_LENGTHS } from '../../protocol/datagram'

/* Attributes of an NFLOG packet (linux/netfilter/nfnetlink_log.h): length and type in the machine's byte order, padded to 4 bytes. */
const PAYLOAD = 9
const PREFIX = 10

const TCP = 6
const UDP = 17
const UDP_HEADER = 8
const SYN = 0x02
/** FIN, RST and ACK: a SYN with one of these asks for no new connection. */
const NOT_NEW = 0x15
/** IPv6 extension headers that may stand before TCP or UDP: hop-by-hop, routing, fragment, destination options; and how many are followed. */
const FRAGMENT = 44
const EXTENSIONS = new Set([0, 43, FRAGMENT, 60])
const MAX_EXTENSIONS = 8

/** Addresses whose text is kept: those of a burst, and the server's own. A power of two. */
const KEPT_ADDRESSES = 16

/**
 * Makes a reader of NFLOG packets. It looks at the bytes where they lie: under a flood every copy counts.
 * @param prefix of our log rule; packets of other rules in the group are none of ours
 * @param datagrams ports whose UDP datagrams are knocks by themselves: their taps have a payload, and what can be no such knock is no tap
 * @param unreadable told of each packet that is ours and no tap
 * @returns takes bytes of which those from `from` to `to` (exclusive) are a packet; gives a tap for a new packet (TCP SYN without ACK, or
 *   UDP) of IPv4 or IPv6, null for anything else
 */
export function packetReader(
  prefix: string,
  datagrams: readonly number[] = [],
  unreadable: () => void = () => {},
): (bytes: Uint8Array, from?: number, to?: number) => Tap | null {
  const little = endianness() === 'LE'
  const ours = Buffer.from(`${prefix}\0`, 'latin1')
  const how = { readAddress: addressReader(), datagrams: new Set(datagrams) }
  return (bytes, from = 0, to = bytes.length) => {
    // Family, version 0, the group; then the attributes.
    if (to - from < 4 || bytes[from + 1] !== 0) return null
    let payload = -1
    let end = -1
    let isOurs = false
    for (let at = from + 4; at + 4 <= to; ) {
      const length = little ? bytes[at] | (bytes[at + 1] << 8) : (bytes[at] << 8) | bytes[at + 1]
      const type = (little ? bytes[at + 2] | (bytes[at + 3] << 8) : (bytes[at + 2] << 8) | bytes[at + 3]) & 0x7fff
      // The last attribute may be cut off by the capture's length, and only the payload is long.
      if (length < 4 || (at + length > to && type !== PAYLOAD)) {
        payload = -1
        break
      }
      if (type === PREFIX) isOurs = length - 4 === ours.length && holds(bytes, at + 4, ours)
      if (type === PAYLOAD) {
        payload = at + 4
        end = Math.min(at + length, to)
      }
      at += (length + 3) & ~3
    }
    const tap = isOurs && payload >= 0 ? readIp(bytes, payload, end, how) : null
    if (isOurs && !tap) unreadable()
    return tap
  }
}

/**
 * Makes a reader of packets that no log rule has chosen, of a capture: IPv4 or IPv6, nothing in front.
 * @param datagrams as {@link packetReader} has them
 * @returns takes bytes of which those from `from` to `to` (exclusive) are a packet; gives a tap for a new packet, null for anything else
 */
export function ipReader(datagrams: readonly number[]): (bytes: Uint8Array, from: number, to: number) => Tap | null {
  const how = { readAddress: addressReader(), datagrams: new Set(datagrams) }
  return (bytes, from, to) => readIp(bytes, from, to, how)
}

function holds(bytes: Uint8Array, at: number, wanted: Uint8Array, length = wanted.length): boolean {
  for (let i = 0; i < length; i++) if (bytes[at + i] !== wanted[i]) return false
  return true
}

type AddressReader = (bytes: Uint8Array, at: number, length: 4 | 16) => string | null

/** What a reader has of its own. */
interface How {
  readonly readAddress: AddressReader
  readonly datagrams: ReadonlySet<number>
}

function readIp(bytes: Uint8Array, at: number, end: number, how: How): Tap | null {
  if (end - at < 20) return null
  const version = bytes[at] >> 4
  return version === 4 ? readIpv4(bytes, at, end, how) : version === 6 ? readIpv6(bytes, at, end, how) : null
}

function readIpv4(bytes: Uint8Array, at: number, end: number, how: How): Tap | null {
  const header = 4 * (bytes[at] & 15)
  const fragment = u16(bytes, at + 6)
  // Only the first fragment has ports.
  if (header < 20 || fragment & 0x1fff) return null
  const isPart = (fragment & 0x2000) !== 0
  return readNew(bytes[at + 9], bytes, at + header, end, isPart, at + 12, 4, how)
}

function readIpv6(bytes: Uint8Array, at: number, end: number, how: How): Tap | null {
  if (end - at < 40) return null
  let protocol = bytes[at + 6]
  let next = at + 40
  let isPart = false
  for (let i = 0; EXTENSIONS.has(protocol); i++) {
    if (i === MAX_EXTENSIONS || next + 8 > end) return null
    if (protocol === FRAGMENT && u16(bytes, next + 2) & 0xfff8) return null
    isPart ||= protocol === FRAGMENT && (bytes[next + 3] & 1) !== 0
    const length = protocol === FRAGMENT ? 8 : 8 * (bytes[next + 1] + 1)
    protocol = bytes[next]
    next += length
  }
  return readNew(protocol, bytes, next, end, isPart, at + 8, 16, how)
}

/**
 * The tap of a new TCP connection or of a UDP datagram.
 * @param isPart whether more fragments follow
 * @param addresses where source and destination lie, one behind the other
 */
function readNew(
  protocol: number,
  bytes: Uint8Array,
  at: number,
  end: number,
  isPart: boolean,
  addresses: number,
  length: 4 | 16,
  { readAddress, datagrams }: How,
): Tap | null {
  const port = newPort(protocol, bytes, at, end)
  if (port === null) return null
  const mayKnock = protocol === UDP && datagrams.has(port)
  const size = u16(bytes, at + 4) - UDP_HEADER
  // What a knock could not be is thrown away before it costs anything.
  if (mayKnock && (isPart || !DATAGRAM_LENGTHS.includes(size) || end - at - UDP_HEADER < size)) return null
  const destination = readAddress(bytes, addresses + length, length)
  if (!destination) return null
  if (length === 4 && !mayKnock) return new Ipv4Tap(u32(bytes, addresses), destination, port)
  const source = readAddress(bytes, addresses, length)
  if (!source) return null
  if (!mayKnock) return { source, destination, port }
  // A copy: the bytes are the capture's, and good for this moment only.
  return { source, destination, port, payload: new Uint8Array(bytes.subarray(at + UDP_HEADER, at + UDP_HEADER + size)) }
}

/** The destination port of a new TCP connection or of a UDP datagram. */
function newPort(protocol: number, bytes: Uint8Array, at: number, end: number): number | null {
  if (protocol === TCP && (end - at < 14 || (bytes[at + 13] & (SYN | NOT_NEW)) !== SYN)) return null
  if ((protocol !== TCP && protocol !== UDP) || end - at < UDP_HEADER) return null
  return u16(bytes, at + 2) || null
}

const u16 = (bytes: Uint8Array, at: number): number => (bytes[at] << 8) | bytes[at + 1]
const u32 = (bytes: Uint8Array, at: number): number => (u16(bytes, at) << 16) | u16(bytes, at + 2)

/** Makes a reader of addresses that writes the text of one that keeps coming only once. */
function addressReader(): AddressReader {
  const kept = Array.from({ length: KEPT_ADDRESSES }, () => ({ length: 0, bytes: new Uint8Array(16), text: '' as string | null }))
  return (bytes, at, length) => {
    const slot = kept[(bytes[at + length - 1] ^ bytes[at + length - 2]) & (KEPT_ADDRESSES - 1)]
    if (slot.length === length && holds(bytes, at, slot.bytes, length)) return slot.text
    for (let i = 0; i < length; i++) slot.bytes[i] = bytes[at + i]
    slot.length = length
    const address = slot.bytes.subarray(0, length)
    slot.text = length === 4 ? formatAddress(address) : canonicalAddress(formatAddress(address))
    return slot.text
  }
}
