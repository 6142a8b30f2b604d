import { crc32 } from 'node:zlib'
import type { LedgerRecord } from '../../gate/ledger'

/*
 * The ledger is a text file. Its first line says how many bytes have been synced, in a fixed width:
 *
 *     knockturn-ledger 1 0000000000000123
 *     spent <fingerprint> <period> <window> <V> <floor> <CRC-32 of what stands before it>
 *     floor <fingerprint> <period> <floor> <CRC-32>
 *     base <Unix seconds> <windows ahead> <CRC-32>
 *
 * A line and the new length are written and synced together, and only then is the firewall touched. So what lies beyond that length
 * was never acted upon, and a tear there is no harm; whatever is wrong within it (or a file that is shorter) is damage.
 */

const MAGIC = 'knockturn-ledger 1 '
/** Bytes of the first line. */
export const HEADER = MAGIC.length + 16 + 1

/** One record as a line, without its end. */
export function formatRecord(record: LedgerRecord): string {
  const body = bodyOf(record)
  return `${body} ${checksum(body)}`
}

function bodyOf(record: LedgerRecord): string {
  switch (record.kind) {
    case 'base':
      return `base ${record.seconds} ${record.ahead}`
    case 'floor':
      return `floor ${record.fingerprint} ${record.period} ${record.floor}`
    case 'spent':
      return `spent ${record.fingerprint} ${record.period} ${record.window} ${record.v} ${record.floor}`
  }
}

/** Reads a line that {@link formatRecord} wrote, or null for anything else. */
export function parseRecord(line: string): LedgerRecord | null {
  const cut = line.lastIndexOf(' ')
  const body = line.slice(0, cut)
  if (cut < 0 || line.slice(cut + 1) !== checksum(body)) return null
  const match =
    /^(?:base (\d+) (\d+)|floor ([0-9a-f]{32}) (\d+) (\d+)|spent ([0-9a-f]{32}) (\d+) (\d+) ([0-9a-f]{32}) (\d+))$/.exec(body)
  if (!match) return null
  const [, seconds, ahead, floorOf, floorPeriod, floor, fingerprint, period, window, v, raised] = match
  const record: LedgerRecord = seconds
    ? { kind: 'base', seconds: Number(seconds), ahead: Number(ahead) }
    : floorOf
      ? { kind: 'floor', fingerprint: floorOf, period: Number(floorPeriod), floor: Number(floor) }
      : { kind: 'spent', fingerprint, period: Number(period), window: Number(window), v, floor: Number(raised) }
  // A number too large to be exact would not be the number that was written.
  return Object.values(record).every((value) => typeof value === 'string' || Number.isSafeInteger(value)) ? record : null
}

const checksum = (body: string): string => crc32(body).toString(16).padStart(8, '0')

/** What a ledger held when it was opened. `whole`: nothing that was acted upon is lost. */
export interface Found {
  readonly state: 'missing' | 'whole' | 'damaged'
  readonly records: LedgerRecord[]
}

/** Reads a ledger's bytes. Pure, so that every tear and every flipped bit can be tried. */
export function readLedger(bytes: Buffer): Found {
  const synced = new RegExp(`^${MAGIC}(\\d{16})\\n`).exec(bytes.toString('latin1', 0, HEADER))?.[1]
  const records: LedgerRecord[] = []
  let at = HEADER
  for (let end = bytes.indexOf(10, at); end >= 0; end = bytes.indexOf(10, at)) {
    const record = parseRecord(bytes.toString('latin1', at, end))
    if (!record) break
    records.push(record)
    at = end + 1
  }
  // What is left is kept even then: every row that survives is one more knock that stays dead.
  return { state: synced !== undefined && at >= Number(synced) ? 'whole' : 'damaged', records }
}

/** The first line, for a ledger of so many synced bytes. */
export const formatHeader = (length: number): Buffer => Buffer.from(`${MAGIC}${String(length).padStart(16, '0')}\n`, 'latin1')
