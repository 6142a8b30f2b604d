import { LINKTYPE_NFLOG } from '../../daemon/taps/pcap'

/* What stands in front of an IP packet in a capture (www.tcpdump.org/linktypes.html). */

/** Ethernet's types of what follows: IPv4, IPv6, and tags of a VLAN, which have another type behind them. */
const IPV4 = 0x0800
const IPV6 = 0x86dd
const TAGS = [0x8100, 0x88a8, 0x9100]
/** Most tags that are followed: nobody nests more. */
const MAX_TAGS = 4

/** How to find the IP packet of a record. */
interface Link {
  readonly name: string
  /** Where the type of what follows stands, and where that begins; the type is null where nothing but IP can follow. */
  readonly type: number | null
  readonly length: number
}

const LINKS: Readonly<Record<number, Link>> = {
  1: { name: 'Ethernet', type: 12, length: 14 },
  101: { name: 'raw IP', type: null, length: 0 },
  113: { name: 'Linux cooked', type: 14, length: 16 },
  228: { name: 'IPv4', type: null, length: 0 },
  229: { name: 'IPv6', type: null, length: 0 },
  276: { name: 'Linux cooked v2', type: 0, length: 20 },
}

/** Link types that can be read: those, and NFLOG. */
export const LINK_TYPES: readonly number[] = [...Object.keys(LINKS).map(Number), LINKTYPE_NFLOG]

/** What a link type is called; of one that can't be read, its number. */
export const linkName = (link: number): string => (link === LINKTYPE_NFLOG ? 'NFLOG' : (LINKS[link]?.name ?? `${link}`))

/**
 * Finds the IP packet of a record that has none of NFLOG.
 * @param bytes of which those from `from` to `to` (exclusive) are the record
 * @returns where the packet begins; -1 where it is none of IP
 */
export function findIp(link: number, bytes: Uint8Array, from: number, to: number): number {
  const how = LINKS[link]
  if (!how) return -1
  if (how.type === null) return from
  let [typeAt, at] = [from + how.type, from + how.length]
  for (let tags = 0; at <= to; tags++) {
    const type = (bytes[typeAt] << 8) | bytes[typeAt + 1]
    if (type === IPV4 || type === IPV6) return at
    if (!TAGS.includes(type) || tags === MAX_TAGS) return -1
    // Behind a tag's two bytes stands the next type, and behind that what it names.
    typeAt = at + 2
    at += 4
  }
  return -1
}

/** The head of an IP packet, by where its parts stand. */
export interface IpHead {
  readonly version: 4 | 6
  readonly protocol: number
  /** Where the source begins; the destination stands behind it. */
  readonly addresses: number
  /** Bytes of an address. */
  readonly length: number
  /** Where what it carries begins. */
  readonly body: number
}

/**
 * Reads the head of an IP packet that begins at a place. Extension headers of IPv6 are not followed: nobody sends these.
 * @param to where the bytes end (exclusive)
 * @returns null where it is none, or is cut off
 */
export function ipHead(bytes: Uint8Array, at: number, to: number): IpHead | null {
  const version = bytes[at] >> 4
  const size = version === 4 ? 4 * (bytes[at] & 15) : 40
  if ((version !== 4 && version !== 6) || size < 20 || at + size > to) return null
  const [protocol, addresses, length] = version === 4 ? [bytes[at + 9], at + 12, 4] : [bytes[at + 6], at + 8, 16]
  return { version, protocol, addresses, length, body: at + size }
}
