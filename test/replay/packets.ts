// Packets in a file, for a raw sender: from any source of either family, to any port.

import { writeFileSync } from 'node:fs'
import ipaddr from 'ipaddr.js'

/* A pcap file's header and a record's; an Ethernet frame with IP and TCP headers. */
const FILE = 24
const RECORD = 16
const ETHERNET = 14
const TCP = 20
const LINKTYPE_ETHERNET = 1

const bytes = (mac: string) => Buffer.from(mac.replaceAll(':', ''), 'hex')
const number = (ipv4: string) => ipv4.split('.').reduce((sum, part) => sum * 256 + Number(part), 0)
const isIPv6 = (address: string | number) => typeof address === 'string' && address.includes(':')

const ipv6Bytes = (address: string) => Buffer.from(ipaddr.parse(address).toByteArray())

/** A SYN by default; its source as text, or of IPv4 as a number. */
export type Packet = { source: string | number; port: number; from?: number; flags?: number; seq?: number; ack?: number }
const SYN = 0x02

/** Writes packets into a file. @param way MAC addresses, and where they go, by family */
export function writePcap(
  file: string,
  packets: readonly Packet[],
  { from: sender, to, destination, destination6 }: { from: string; to: string; destination: string; destination6: string },
) {
  const out = Buffer.alloc(
    FILE + packets.reduce((sum, { source }) => sum + RECORD + ETHERNET + (isIPv6(source) ? 40 : 20) + TCP, 0),
  )
  writeHead(out)
  const ethernet = Buffer.concat([bytes(to), bytes(sender)])
  const [v4, v6] = [frame4(ethernet, destination), frame6(ethernet, destination6)]
  let at = FILE
  for (const [i, { source, port, from = 1_024 + (i % 60_000), flags = SYN, seq = i, ack = 0 }] of packets.entries()) {
    const { frame, ip, addresses } = isIPv6(source) ? v6 : v4
    if (typeof source === 'string' && isIPv6(source)) ipv6Bytes(source).copy(ip, 8)
    else {
      ip.writeUInt32BE(typeof source === 'number' ? source : number(String(source)), 12)
      ip.writeUInt16BE(0, 10)
      ip.writeUInt16BE(checksum(ip, 0, 20, 0), 10)
    }
    const tcp = frame.subarray(frame.length - TCP)
    tcp.writeUInt16BE(from, 0)
    tcp.writeUInt16BE(port, 2)
    tcp.writeUInt32BE(seq, 4)
    tcp.writeUInt32BE(ack, 8)
    tcp[12] = 0x50
    tcp[13] = flags
    tcp.writeUInt16BE(64_240, 14)
    // The pseudo header: addresses, protocol and length.
    tcp.writeUInt16BE(0, 16)
    tcp.writeUInt16BE(checksum(ip, addresses, ip.length, 6 + TCP), 16)
    out.writeUInt32LE(frame.length, at + 8)
    out.writeUInt32LE(frame.length, at + 12)
    frame.copy(out, at + RECORD)
    at += RECORD + frame.length
  }
  writeFileSync(file, out)
  return file
}

/** A frame without source and ports; `addresses`: where in the IP packet they begin. */
function frame4(ethernet: Buffer, destination: string) {
  const frame = Buffer.concat([ethernet, Buffer.of(0x08, 0x00), Buffer.alloc(20 + TCP)])
  const ip = frame.subarray(ETHERNET)
  ip[0] = 0x45
  ip.writeUInt16BE(20 + TCP, 2)
  ip[8] = 64
  ip[9] = 6
  ip.writeUInt32BE(number(destination), 16)
  return { frame, ip, addresses: 12 }
}

function frame6(ethernet: Buffer, destination: string) {
  const frame = Buffer.concat([ethernet, Buffer.of(0x86, 0xdd), Buffer.alloc(40 + TCP)])
  const ip = frame.subarray(ETHERNET)
  ip[0] = 0x60
  ip.writeUInt16BE(TCP, 4)
  ip[6] = 6
  ip[7] = 64
  ipv6Bytes(destination).copy(ip, 24)
  return { frame, ip, addresses: 8 }
}

/** Bytes of an IPv6 header, of a UDP header, and of the shortest extension header. */
const [IPV6, UDP, EXTENSION] = [40, 8, 8]
const [DESTINATION_OPTIONS, UDP_PROTOCOL] = [60, 17]

/** over IPv6, behind extension headers of so many bytes each, multiples of 8 */
export type Datagram = { source: string; port: number; extensions?: number[] }

/** Writes UDP datagrams over IPv6 into a file. @param way MAC addresses, and where they go */
export function writePcap6(
  file: string,
  datagrams: readonly Datagram[],
  { from, to, destination }: { from: string; to: string; destination: string },
) {
  const packets = datagrams.map(({ source, port, extensions = [] }, i) => {
    const kinds = [...extensions.map(() => DESTINATION_OPTIONS), UDP_PROTOCOL]
    const headers = extensions.map((length, at) => {
      const header = Buffer.alloc(length)
      // Filled with options that mean nothing (PadN), of at most 255 bytes each.
      header.set([kinds[at + 1] ?? 0, length / EXTENSION - 1])
      for (let rest = 2; rest < length; rest += 2 + (header[rest + 1] ?? 0))
        header.set([1, Math.min(255, length - rest - 2)], rest)
      return header
    })
    const ip = Buffer.alloc(IPV6)
    ip[0] = 0x60
    ip.writeUInt16BE(
      headers.reduce((sum, { length }) => sum + length, UDP),
      4,
    )
    ip.set([kinds[0] ?? 0, 64], 6)
    ip.set(ipaddr.parse(source).toByteArray(), 8)
    ip.set(ipaddr.parse(destination).toByteArray(), 24)
    const udp = Buffer.alloc(UDP)
    udp.writeUInt16BE(1_024 + (i % 60_000), 0)
    udp.writeUInt16BE(port, 2)
    udp.writeUInt16BE(UDP, 4)
    const covered = Buffer.concat([ip.subarray(8), udp])
    udp.writeUInt16BE(checksum(covered, 0, covered.length, UDP_PROTOCOL + UDP) || 0xffff, 6)
    return Buffer.concat([ip, ...headers, udp])
  })
  return writeIp(file, packets, { from, to })
}

/** Bytes of a header of IPv4, and of IPv6's header of a fragment; how far a packet may go. */
const [IPV4, FRAGMENT, HOPS] = [20, 8, 64]
const [TCP_PROTOCOL, FRAGMENT_PROTOCOL] = [6, 44]
/** The bit that says of a fragment that more follow: of IPv4, where the offset is in units of 8 bytes, and of IPv6, where it is in bytes. */
const [MORE4, MORE6] = [0x2000, 1]

/** What a TCP segment is made from; of IPv6 it may be behind extension headers of 8 bytes each. */
export interface Segment {
  source: string
  destination: string
  from: number
  port: number
  flags?: number
  data?: string
  extensions?: number
}

/**
 * Makes the IP packets of a TCP segment.
 * @param split bytes of it in the first of two fragments, a multiple of 8; 0: it is in one packet
 */
export function segment(
  { source, destination, from, port, flags = SYN, data = '', extensions = 0 }: Segment,
  split = 0,
): Buffer[] {
  const tcp = Buffer.concat([Buffer.alloc(TCP), Buffer.from(data, 'latin1'), Buffer.alloc(data.length % 2)])
  tcp.writeUInt16BE(from, 0)
  tcp.writeUInt16BE(port, 2)
  tcp[12] = 0x50
  tcp[13] = flags
  tcp.writeUInt16BE(64_240, 14)
  const addresses = Buffer.concat([source, destination].map((address) => Buffer.from(ipaddr.parse(address).toByteArray())))
  const covered = Buffer.concat([addresses, tcp])
  tcp.writeUInt16BE(checksum(covered, 0, covered.length, TCP_PROTOCOL + tcp.length), 16)
  // A destination option that means nothing (PadN), to the end of its header.
  const more = Array.from({ length: extensions }, (_, i) =>
    Buffer.of(i + 1 < extensions ? DESTINATION_OPTIONS : TCP_PROTOCOL, 0, 1, 4, 0, 0, 0, 0),
  )
  const payload = Buffer.concat([...more, tcp])
  const first = extensions > 0 ? DESTINATION_OPTIONS : TCP_PROTOCOL
  const parts = split > 0 ? [payload.subarray(0, split), payload.subarray(split)] : [payload]
  // The same for all fragments of a packet, and another one for the next packet from the same address.
  const id = from
  return parts.map((part, i) =>
    isIPv6(source)
      ? ipv6Packet(addresses, first, part, split > 0 ? { id, offset: i * split, isLast: i > 0 } : null)
      : ipv4Packet(addresses, part, { id, offset: i * split, isLast: split === 0 || i > 0 }),
  )
}

type Place = { id: number; offset: number; isLast: boolean }

function ipv4Packet(addresses: Buffer, part: Buffer, { id, offset, isLast }: Place) {
  const ip = Buffer.concat([Buffer.alloc(IPV4 - addresses.length), addresses])
  ip[0] = 0x45
  ip.writeUInt16BE(IPV4 + part.length, 2)
  ip.writeUInt16BE(id, 4)
  ip.writeUInt16BE((isLast ? 0 : MORE4) | (offset / 8), 6)
  ip.set([HOPS, TCP_PROTOCOL], 8)
  ip.writeUInt16BE(checksum(ip, 0, IPV4, 0), 10)
  return Buffer.concat([ip, part])
}

function ipv6Packet(addresses: Buffer, next: number, part: Buffer, place: Place | null) {
  const header = Buffer.alloc(place ? FRAGMENT : 0)
  if (place) {
    header[0] = next
    header.writeUInt16BE(place.offset | (place.isLast ? 0 : MORE6), 2)
    header.writeUInt32BE(place.id, 4)
  }
  const ip = Buffer.alloc(IPV6 - addresses.length)
  ip[0] = 0x60
  ip.writeUInt16BE(header.length + part.length, 4)
  ip.set([place ? FRAGMENT_PROTOCOL : next, HOPS], 6)
  return Buffer.concat([ip, addresses, header, part])
}

/** Writes IP packets of either family into a file. @param way MAC addresses */
export function writeIp(file: string, packets: readonly Buffer[], { from, to }: { from: string; to: string }) {
  const head = Buffer.alloc(FILE)
  writeHead(head)
  const records = packets.flatMap((packet) => {
    const type = packet[0] >> 4 === 6 ? Buffer.of(0x86, 0xdd) : Buffer.of(0x08, 0x00)
    const frame = Buffer.concat([bytes(to), bytes(from), type, packet])
    const record = Buffer.alloc(RECORD)
    record.writeUInt32LE(frame.length, 8)
    record.writeUInt32LE(frame.length, 12)
    return [record, frame]
  })
  writeFileSync(file, Buffer.concat([head, ...records]))
  return file
}

/** A pcap file's header. */
function writeHead(out: Buffer) {
  out.writeUInt32LE(0xa1b2c3d4, 0)
  out.writeUInt16LE(2, 4)
  out.writeUInt16LE(4, 6)
  out.writeUInt32LE(65_535, 16)
  out.writeUInt32LE(LINKTYPE_ETHERNET, 20)
}

/** RFC 1071. @param sum to begin with */
function checksum(data: Buffer, start: number, end: number, sum: number) {
  for (let at = start; at < end; at += 2) sum += data.readUInt16BE(at)
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16)
  return ~sum & 0xffff
}
