/** Link type NFLOG. */
const LINKTYPE_NFLOG = 239
/** Largest record that is believed; a capture's own limit is far lower. */
const MAX_RECORD = 65_536

/**
 * Makes a reader of a pcap stream (draft-ietf-opsawg-pcap), strict: link type NFLOG, and records no longer than they may be.
 * @param begun called when the stream's header has come
 * @param take takes each packet: the bytes from `from` to `to` (exclusive), valid during the call only
 * @returns takes the stream chunk by chunk
 * @throws {Error} (the returned function) when it is no such stream: it must be ended then
 */
export function pcapReader(begun: () => void, take: (bytes: Buffer, from: number, to: number) => void): (chunk: Buffer) => void {
  let rest: Buffer = Buffer.alloc(0)
  let little: boolean | null = null
  return (chunk) => {
    let bytes = rest.length > 0 ? Buffer.concat([rest, chunk]) : chunk
    if (little === null) {
      if (bytes.length < 24) {
        rest = bytes
        return
      }
      little = byteOrder(bytes)
      bytes = bytes.subarray(24)
      begun()
    }
    let at = 0
    while (bytes.length - at >= 16) {
      const length = u32(bytes, at + 8, little)
      if (length > MAX_RECORD) throw new Error(`expected a record of at most ${MAX_RECORD} bytes, got ${length}`)
      if (bytes.length - at < 16 + length) break
      take(bytes, at + 16, at + 16 + length)
      at += 16 + length
    }
    // A copy, so that a whole chunk is not held for its last bytes.
    rest = Buffer.from(bytes.subarray(at))
  }
}

const u32 = (bytes: Uint8Array, at: number, little: boolean): number =>
  (little
    ? bytes[at] | (bytes[at + 1] << 8) | (bytes[at + 2] << 16) | (bytes[at + 3] << 24)
    : (bytes[at] << 24) | (bytes[at + 1] << 16) | (bytes[at + 2] << 8) | bytes[at + 3]) >>> 0

function byteOrder(header: Buffer): boolean {
  const magic = header.readUInt32LE(0)
  const little = magic === 0xa1b2c3d4 || magic === 0xa1b23c4d
  const big = magic === 0xd4c3b2a1 || magic === 0x4d3cb2a1
  if (!little && !big) throw new Error('expected a pcap stream, got something else')
  const link = (little ? header.readUInt32LE(20) : header.readUInt32BE(20)) & 0x0fffffff
  if (link !== LINKTYPE_NFLOG) throw new Error(`expected link type NFLOG (${LINKTYPE_NFLOG}), got ${link}`)
  return little
}
