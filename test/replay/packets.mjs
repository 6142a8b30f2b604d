// TCP SYNs in a file of packets, for a raw sender: from any source, to any port.

import { writeFileSync } from 'node:fs'

/* A pcap file's header and a record's; an Ethernet frame with IPv4 and TCP headers. */
const FILE = 24
const RECORD = 16
const [ETHERNET, IP, TCP] = [14, 20, 20]
const FRAME = ETHERNET + IP + TCP
const LINKTYPE_ETHERNET = 1

const bytes = (/** @type {string} */ mac) => Buffer.from(mac.replaceAll(':', ''), 'hex')
const number = (/** @type {string} */ ipv4) => ipv4.split('.').reduce((sum, part) => sum * 256 + Number(part), 0)

/** @typedef {{source: string | number, port: number}} Packet a SYN; its source as text or as a number */

/**
 * Writes SYNs into a file.
 * @param {string} file @param {readonly Packet[]} packets
 * @param {{from: string, to: string, destination: string}} way MAC addresses, and where they go
 */
export function writePcap(file, packets, { from, to, destination }) {
  const out = Buffer.alloc(FILE + packets.length * (RECORD + FRAME))
  out.writeUInt32LE(0xa1b2c3d4, 0)
  out.writeUInt16LE(2, 4)
  out.writeUInt16LE(4, 6)
  out.writeUInt32LE(65_535, 16)
  out.writeUInt32LE(LINKTYPE_ETHERNET, 20)
  const frame = Buffer.alloc(FRAME)
  bytes(to).copy(frame, 0)
  bytes(from).copy(frame, 6)
  const [ip, tcp] = [frame.subarray(ETHERNET), frame.subarray(ETHERNET + IP)]
  frame.writeUInt16BE(0x0800, 12)
  ip[0] = 0x45
  ip.writeUInt16BE(IP + TCP, 2)
  ip[8] = 64
  ip[9] = 6
  ip.writeUInt32BE(number(destination), 16)
  tcp[12] = 0x50
  tcp[13] = 0x02
  tcp.writeUInt16BE(64_240, 14)
  let at = FILE
  for (const [i, { source, port }] of packets.entries()) {
    ip.writeUInt32BE(typeof source === 'number' ? source : number(source), 12)
    tcp.writeUInt16BE(1_024 + (i % 60_000), 0)
    tcp.writeUInt16BE(port, 2)
    tcp.writeUInt32BE(i, 4)
    ip.writeUInt16BE(0, 10)
    ip.writeUInt16BE(checksum(ip, 0, IP, 0), 10)
    // The pseudo header: addresses, protocol and length.
    tcp.writeUInt16BE(0, 16)
    tcp.writeUInt16BE(checksum(ip, 12, IP + TCP, 6 + TCP), 16)
    out.writeUInt32LE(FRAME, at + 8)
    out.writeUInt32LE(FRAME, at + 12)
    frame.copy(out, at + RECORD)
    at += RECORD + FRAME
  }
  writeFileSync(file, out)
  return file
}

/** RFC 1071. @param {Buffer} data @param {number} start @param {number} end @param {number} sum to begin with */
function checksum(data, start, end, sum) {
  for (let at = start; at < end; at += 2) sum += data.readUInt16BE(at)
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16)
  return ~sum & 0xffff
}
