/** Link type NFLOG. */
export const LINKTYPE_NFLOG = 239
/** Largest record that is believed; a capture's own limit is far lower. */
const MAX_RECORD = 65_536
/** Bytes of the header in front of each record. */
const RECORD_HEADER = 16

/** What the header of a pcap stream says of its records. */
export interface PcapHeader {
  readonly link: number
  readonly little: boolean
  /** Whether the times of records are in nanoseconds, and not in microseconds. */
  readonly isNano: boolean
}

/**
 * Makes a reader of a pcap stream (draft-ietf-opsawg-pcap), strict: link type NFLOG, and records no longer than they may be.
 * @param begun called when the stream's header has come
 * @param take takes each packet: the bytes from `from` to `to` (exclusive), valid during the call only
 * @param may what else the stream may be: other link types, and longer records
 * @returns takes the stream chunk by chunk
 * @throws {Error} (the returned function) when it is no such stream: it must be ended then
 */
export function pcapReader(
  begun: (header: PcapHeader) => void,
  take: (bytes: Buffer, from: number, to: number) => void,
  may: { readonly links: readonly number[]; readonly maxRecord: number } = { links: [LINKTYPE_NFLOG], maxRecord: MAX_RECORD },
): (chunk: Buffer) => void {
  const { links, maxRecord } = may
  let rest: Buffer = Buffer.alloc(0)
  let little: boolean | null = null
  return (chunk) => {
    let bytes = rest.length > 0 ? Buffer.concat([rest, chunk]) : chunk
    if (little === null) {
      if (bytes.length < 24) {
        rest = bytes
        return
      }
      const header = readHeader(bytes, links)
      little = header.little
      bytes = bytes.subarray(24)
      begun(header)
    }
    let at = 0
    while (bytes.length - at >= RECORD_HEADER) {
      const length = u32(bytes, at + 8, little)
      if (length > maxRecord) throw new Error(`expected a record of at most ${maxRecord} bytes, got ${length}`)
      if (bytes.length - at < RECORD_HEADER + length) break
      take(bytes, at + RECORD_HEADER, at + RECORD_HEADER + length)
      at += RECORD_HEADER + length
    }
    // A copy, so that a whole chunk is not held for its last bytes.
    rest = Buffer.from(bytes.subarray(at))
  }
}

const u32 = (bytes: Uint8Array, at: number, little: boolean): number =>
  (little
    ? bytes[at] | (bytes[at + 1] << 8) | (bytes[at + 2] << 16) | (bytes[at + 3] << 24)
    : (bytes[at] << 24) | (bytes[at + 1] << 16) | (bytes[at + 2] << 8) | bytes[at + 3]) >>> 0

/** The time of a record, in Unix milliseconds. @param from where its packet begins, as a reader has been given it */
export function recordTime(bytes: Uint8Array, from: number, { little, isNano }: PcapHeader): number {
  const at = from - RECORD_HEADER
  return u32(bytes, at, little) * 1000 + u32(bytes, at + 4, little) / (isNano ? 1e6 : 1e3)
}

function readHeader(header: Buffer, links: readonly number[]): PcapHeader {
  const magic = header.readUInt32LE(0)
  const little = magic === 0xa1b2c3d4 || magic === 0xa1b23c4d
  const big = magic === 0xd4c3b2a1 || magic === 0x4d3cb2a1
  if (!little && !big) throw new Error('expected a pcap stream, got something else')
  const link = (little ? header.readUInt32LE(20) : header.readUInt32BE(20)) & 0x0fffffff
  if (!links.includes(link)) throw new Error(`expected link type ${named(links)}, got ${link}`)
  return { link, little, isNano: magic === 0xa1b23c4d || magic === 0x4d3cb2a1 }
}

const named = (links: readonly number[]): string =>
  links.map((link) => (link === LINKTYPE_NFLOG ? `NFLOG (${link})` : `${link}`)).join(', ')
