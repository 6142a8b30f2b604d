import { POOL, SOURCE, seededRandom, shuffled } from '../gate/listener/ear'

/* Taps as the tap sources get them: lines of text or NFLOG packets, in chunks as a pipe delivers them. */

export const PREFIX = 'KNOCK: '
const CHUNK = 64 * 1024
const PORTS = shuffled([...POOL], seededRandom(1))
const ONE = SOURCE.split('.').reduce((sum, part) => 256 * sum + Number(part), 0)

/** Whose taps: the address (32 bits) of tap number n, for any n. */
export const SOURCES: Record<string, (n: number) => number> = {
  'one source': () => ONE,
  // Another address each time: the stride has no factor in common with the 222 * 2^24 addresses from 1.0.0.0 on.
  'forged sources': (n) => 2 ** 24 + ((n * 7919) % (222 * 2 ** 24)),
}

const portOf = (n: number) => PORTS[n % PORTS.length]

/** In which form: packet number n, from `source`. */
export const FORMS: Record<string, (n: number, source: number) => Buffer> = {
  // As ulogd 2.0.8 (NFLOG, LOGEMU) wrote them.
  ulogd: (n, source) =>
    Buffer.from(
      `Nov 22 18:43:19 gate ${PREFIX} IN=eth0 OUT= ${MAC} SRC=${dotted(source)} DST=198.51.100.1 LEN=60 TOS=00 PREC=0x00 TTL=64 ` +
        `ID=${n % 65_536} DF PROTO=TCP SPT=${clientPort(n)} DPT=${portOf(n)} SEQ=${sequence(n)} ACK=0 WINDOW=64240 SYN URGP=0 MARK=0x0 \n`,
    ),
  // As Linux 6.18 wrote them, after rsyslog's head.
  kernel: (n, source) =>
    Buffer.from(
      `Nov 22 18:43:19 gate kernel: [ 3329.127466] ${PREFIX}IN=eth0 OUT= ${MAC} SRC=${dotted(source)} DST=198.51.100.1 LEN=60 TOS=0x00 ` +
        `PREC=0x00 TTL=64 ID=${n % 65_536} DF PROTO=TCP SPT=${clientPort(n)} DPT=${portOf(n)} WINDOW=64240 RES=0x00 SYN URGP=0 \n`,
    ),
  pcap: (n, source) => {
    const record = Buffer.from(RECORD)
    record.writeUInt32BE(source, RECORD_SOURCE)
    record.writeUInt16BE(portOf(n), RECORD_PORT)
    return record
  },
}

const MAC = 'MAC=9a:69:bb:3f:7a:cd:5a:f3:16:26:a3:3d:08:00'
const dotted = (address: number) => `${address >>> 24}.${(address >> 16) & 255}.${(address >> 8) & 255}.${address & 255}`
const clientPort = (n: number) => 32_768 + (n % 28_232)
const sequence = (n: number) => (n * 2_654_435_761) % 2 ** 32

/** A stream's header and a record, as tcpdump 4.99 wrote them of an NFLOG group on a little-endian machine. */
const STREAM_HEADER = Buffer.from('d4c3b2a102000400000000000000000000010000ef000000', 'hex')
const RECORD = Buffer.from(
  'b157036b3fe60900a8000000a80000000200000508000100080001000c000a004b4e4f434b3a2000080004000000000210000800' +
    '00060000a65cc0ba1a10000006000f000001000006001100000e000012001000ae86a9574805a65cc0ba1a1008000000140003' +
    '00000000006b0357b1000000000009e604400009004500003c6cbe400040067993c6336402c6336401d43ac3510cf415d4' +
    '00000000a002faf054990000020405b40402080a0564f188000000000103030a',
  'hex',
)
const RECORD_SOURCE = 136
const RECORD_PORT = 146

/** Taps number `from` to `from + count` as a stream's chunks. */
export function traffic(form: string, sources: string, from: number, count: number): Buffer[] {
  const parts: Uint8Array[] = form === 'pcap' ? [STREAM_HEADER] : []
  for (let n = from; n < from + count; n++) parts.push(FORMS[form](n, SOURCES[sources](n)))
  const bytes = Buffer.concat(parts)
  return Array.from({ length: Math.ceil(bytes.length / CHUNK) }, (_, i) => bytes.subarray(i * CHUNK, (i + 1) * CHUNK))
}
