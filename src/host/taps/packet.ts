import { endianness } from 'node:os'
import type { Tap } from '../../gate/listener'
import { canonicalAddress, formatAddress } from '../../protocol/address'

/* Attributes of an NFLOG packet (linux/netfilter/nfnetlink_log.h): length and type in the machine's byte order, padded to 4 bytes. */
const PAYLOAD = 9
const PREFIX = 10

const TCP = 6
const UDP = 17
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
 * @returns takes bytes of which those from `from` to `to` (exclusive) are a packet; gives a tap for a new packet (TCP SYN without ACK, or
 *   UDP) of IPv4 or IPv6, null for anything else
 */
export function packetReader(prefix: string): (bytes: Uint8Array, from?: number, to?: number) => Tap | null {
  const little = endianness() === 'LE'
  const ours = Buffer.from(`${prefix}\0`, 'latin1')
  const readAddress = addressReader()
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
      if (length < 4 || (at + length > to && type !== PAYLOAD)) return null
      if (type === PREFIX) isOurs = length - 4 === ours.length && holds(bytes, at + 4, ours)
      if (type === PAYLOAD) {
        payload = at + 4
        end = Math.min(at + length, to)
      }
      at += (length + 3) & ~3
    }
    return isOurs && payload >= 0 ? readIp(bytes, payload, end, readAddress) : null
  }
}

function holds(bytes: Uint8Array, at: number, wanted: Uint8Array, length = wanted.length): boolean {
  for (let i = 0; i < length; i++) if (bytes[at + i] !== wanted[i]) return false
  return true
}

type AddressReader = (bytes: Uint8Array, at: number, length: 4 | 16) => string | null

function readIp(bytes: Uint8Array, at: number, end: number, readAddress: AddressReader): Tap | null {
  if (end - at < 20) return null
  const version = bytes[at] >> 4
  return version === 4 ? readIpv4(bytes, at, end, readAddress) : version === 6 ? readIpv6(bytes, at, end, readAddress) : null
}

function readIpv4(bytes: Uint8Array, at: number, end: number, readAddress: AddressReader): Tap | null {
  const header = 4 * (bytes[at] & 15)
  // Only the first fragment has ports.
  if (header < 20 || u16(bytes, at + 6) & 0x1fff) return null
  const port = newPort(bytes[at + 9], bytes, at + header, end)
  if (port === null) return null
  return tapOf(readAddress(bytes, at + 12, 4), readAddress(bytes, at + 16, 4), port)
}

function readIpv6(bytes: Uint8Array, at: number, end: number, readAddress: AddressReader): Tap | null {
  if (end - at < 40) return null
  let protocol = bytes[at + 6]
  let next = at + 40
  for (let i = 0; EXTENSIONS.has(protocol); i++) {
    if (i === MAX_EXTENSIONS || next + 8 > end) return null
    if (protocol === FRAGMENT && u16(bytes, next + 2) & 0xfff8) return null
    const length = protocol === FRAGMENT ? 8 : 8 * (bytes[next + 1] + 1)
    protocol = bytes[next]
    next += length
  }
  const port = newPort(protocol, bytes, next, end)
  if (port === null) return null
  return tapOf(readAddress(bytes, at + 8, 16), readAddress(bytes, at + 24, 16), port)
}

const tapOf = (source: string | null, destination: string | null, port: number): Tap | null =>
  source && destination ? { source, destination, port } : null

/** The destination port of a new TCP connection or of a UDP datagram. */
function newPort(protocol: number, bytes: Uint8Array, at: number, end: number): number | null {
  if (protocol === TCP && (end - at < 14 || (bytes[at + 13] & (SYN | NOT_NEW)) !== SYN)) return null
  if ((protocol !== TCP && protocol !== UDP) || end - at < 8) return null
  return u16(bytes, at + 2) || null
}

const u16 = (bytes: Uint8Array, at: number): number => (bytes[at] << 8) | bytes[at + 1]

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
