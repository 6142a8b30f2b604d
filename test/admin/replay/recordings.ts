import { join } from 'node:path'
import { type Replayed, type ReplayOptions, replay } from '../../../src/admin/replay/replay'
import { parseKeyFile } from '../../../src/keys/key-file'
import { addressBytes } from '../../../src/protocol/address'
import type { Key } from '../../../src/protocol/key'
import { keyText, put, scratch, secretOf } from '../../system/scratch'

/* Recordings as tcpdump and syslog write them, and a server whose keys they are replayed by. */

export const CLIENT = '198.51.100.2'
export const SERVER = '198.51.100.1'

/** A packet of a recording. */
export interface Packet {
  readonly port: number
  /** Unix milliseconds. */
  readonly at: number
  readonly source?: string
  readonly destination?: string
  readonly protocol?: 'tcp' | 'udp'
  readonly sourcePort?: number
  readonly flags?: number
  readonly payload?: Uint8Array
}

const u16 = (n: number) => Buffer.of(n >> 8, n & 255)
const SYN = 0x02

/** An IP packet. */
export function ipPacket({
  port,
  source = CLIENT,
  destination = SERVER,
  protocol = 'tcp',
  sourcePort = 40_000,
  flags = SYN,
  payload = new Uint8Array(),
}: Packet): Buffer {
  const ports = [u16(sourcePort), u16(port)]
  const segment =
    protocol === 'tcp'
      ? Buffer.concat([...ports, Buffer.alloc(8), Buffer.of(0x50, flags), Buffer.alloc(6)])
      : Buffer.concat([...ports, u16(8 + payload.length), u16(0), payload])
  const number = protocol === 'tcp' ? 6 : 17
  const ends = [source, destination].map((text) => Buffer.from(addressBytes(text) ?? []))
  const head = source.includes(':')
    ? Buffer.concat([Buffer.of(0x60, 0, 0, 0), u16(segment.length), Buffer.of(number, 64)])
    : Buffer.concat([Buffer.of(0x45, 0), u16(20 + segment.length), u16(1), u16(0x4000), Buffer.of(64, number), u16(0)])
  return Buffer.concat([head, ...ends, segment])
}

/** What stands in front of a packet, by the link type. */
export const FRAMES: Readonly<Record<number, (isV6: boolean) => Buffer>> = {
  1: (isV6) => Buffer.concat([Buffer.alloc(12), u16(isV6 ? 0x86dd : 0x0800)]),
  101: () => Buffer.alloc(0),
  113: (isV6) => Buffer.concat([Buffer.alloc(14), u16(isV6 ? 0x86dd : 0x0800)]),
  276: (isV6) => Buffer.concat([u16(isV6 ? 0x86dd : 0x0800), Buffer.alloc(18)]),
}

/** A pcap file. */
export function pcap(
  packets: readonly Packet[],
  { link = 1, little = true, nano = false, frame = FRAMES[link] as (isV6: boolean) => Buffer } = {},
): Buffer {
  const u32 = (n: number) => {
    const bytes = Buffer.alloc(4)
    if (little) bytes.writeUInt32LE(n)
    else bytes.writeUInt32BE(n)
    return bytes
  }
  const half = (n: number) => u32(n).subarray(little ? 0 : 2, little ? 2 : 4)
  const head = [u32(nano ? 0xa1b23c4d : 0xa1b2c3d4), half(2), half(4), u32(0), u32(0), u32(262_144), u32(link)]
  const records = packets.flatMap((packet) => {
    const bytes = Buffer.concat([frame((packet.source ?? CLIENT).includes(':')), ipPacket(packet)])
    const seconds = Math.floor(packet.at / 1000)
    const rest = Math.round((packet.at - seconds * 1000) * (nano ? 1e6 : 1e3))
    return [u32(seconds), u32(rest), u32(bytes.length), u32(bytes.length), bytes]
  })
  return Buffer.concat([...head, ...records])
}

/** A line as the kernel's LOG target writes it, behind what stands in front. */
export const logLine = (front: string, { port, source = CLIENT, destination = SERVER }: Omit<Packet, 'at'>) =>
  `${front}KNOCK: IN=eth0 OUT= MAC=00:00:00:00:00:00 SRC=${source} DST=${destination} LEN=60 TOS=0x00 PREC=0x00 TTL=64 ID=1 DF PROTO=TCP SPT=40000 DPT=${port} WINDOW=64240 RES=0x00 SYN URGP=0 `

/** Packets to ports, one behind the other. @param every milliseconds between them */
export const packetsTo = (ports: readonly number[], at: number, more: Partial<Packet> = {}, every = 1): Packet[] =>
  ports.map((port, i) => ({ ...more, port, at: at + i * every }))

/** A server with keys, of which each has a number that its secret comes from. */
export class Server {
  readonly folder = scratch()
  readonly config: string
  readonly keys: string

  constructor(more = '') {
    this.keys = scratch()
    this.config = put(
      this.folder,
      'knockturn.toml',
      `server = "gate.example"\nkeys = "${this.keys}"\n${more}\n[ledger]\npath = "${join(this.folder, 'ledger')}"\n`,
      0o644,
    )
  }

  /** Adds a key. @param lines of its file above its grant */
  key(id: string, n: number, { lines = '', grant = 'services = ["22/tcp"]', tail = '' } = {}): Key {
    const text = keyText({ id, secret: secretOf(n), more: lines, grant }) + tail
    put(this.keys, `${id}.key`, text)
    const { value, faults } = parseKeyFile(id, text)
    if (!value) throw faults[0]
    return value.key
  }

  /** Replays a file of these contents. */
  replay(content: string | Uint8Array, options: Partial<ReplayOptions> = {}, now = Date.now()): Promise<Replayed> {
    const file = put(this.folder, 'recording', content)
    return replay(file, { config: this.config, ...options }, () => {}, now)
  }
}
