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

/**
 * Makes a reader of NFLOG packets.
 * @param prefix of our log rule; packets of other rules in the group are none of ours
 * @returns a tap for a new packet (TCP SYN without ACK, or UDP) of IPv4 or IPv6, null for anything else
 */
export function packetReader(prefix: string): (packet: Buffer) => Tap | null {
  const little = endianness() === 'LE'
  const ours = Buffer.from(`${prefix}\0`, 'latin1')
  return (packet) => {
    // Family, version 0, the group; then the attributes.
    if (packet.length < 4 || packet[1] !== 0) return null
    let payload: Buffer | null = null
    let wanted = false
    for (let at = 4; at + 4 <= packet.length; ) {
      const length = little ? packet.readUInt16LE(at) : packet.readUInt16BE(at)
      const type = (little ? packet.readUInt16LE(at + 2) : packet.readUInt16BE(at + 2)) & 0x7fff
      // The last attribute may be cut off by the capture's length, and only the payload is long.
      if (length < 4 || (at + length > packet.length && type !== PAYLOAD)) return null
      const value = packet.subarray(at + 4, at + length)
      if (type === PREFIX) wanted = value.equals(ours)
      if (type === PAYLOAD) payload = value
      at += (length + 3) & ~3
    }
    return wanted && payload ? readIp(payload) : null
  }
}

function readIp(packet: Buffer): Tap | null {
  if (packet.length < 20) return null
  return packet[0] >> 4 === 4 ? readIpv4(packet) : packet[0] >> 4 === 6 ? readIpv6(packet) : null
}

function readIpv4(packet: Buffer): Tap | null {
  const header = 4 * (packet[0] & 15)
  // Only the first fragment has ports.
  if (header < 20 || packet.readUInt16BE(6) & 0x1fff) return null
  const port = newPort(packet[9], packet.subarray(header))
  if (port === null) return null
  return { source: formatAddress(packet.subarray(12, 16)), destination: formatAddress(packet.subarray(16, 20)), port }
}

function readIpv6(packet: Buffer): Tap | null {
  if (packet.length < 40) return null
  let protocol = packet[6]
  let at = 40
  for (let i = 0; EXTENSIONS.has(protocol); i++) {
    if (i === MAX_EXTENSIONS || at + 8 > packet.length) return null
    if (protocol === FRAGMENT && packet.readUInt16BE(at + 2) & 0xfff8) return null
    const length = protocol === FRAGMENT ? 8 : 8 * (packet[at + 1] + 1)
    protocol = packet[at]
    at += length
  }
  const port = newPort(protocol, packet.subarray(at))
  if (port === null) return null
  const source = canonicalAddress(formatAddress(packet.subarray(8, 24)))
  const destination = canonicalAddress(formatAddress(packet.subarray(24, 40)))
  return source && destination ? { source, destination, port } : null
}

/** The destination port of a new TCP connection or of a UDP datagram. */
function newPort(protocol: number, segment: Buffer): number | null {
  if (protocol === TCP && (segment.length < 14 || (segment[13] & (SYN | NOT_NEW)) !== SYN)) return null
  if ((protocol !== TCP && protocol !== UDP) || segment.length < 8) return null
  return segment.readUInt16BE(2) || null
}
