import { Fault } from '../system/fault'
import { ASK_LIMIT, askHttps, askUdp } from './ask'
import { resolveHost } from './host'

/* What time others have: asked only of whom the user has named. */

const NTP_PORT = 123
const NTP_PACKET = 48
/** Seconds from NTP's epoch, 1900, to Unix', and of one of its eras (RFC 5905, 6). */
const NTP_TO_UNIX = 2_208_988_800
const ERA = 2 ** 32
/** An HTTP Date has no fraction: half a second is as likely too little as too much. */
const HALF_SECOND = 500

/**
 * Most windows of a key by which a clock may be corrected, by all corrections together. Who hears a knock of a window that the server does not
 * know yet can keep it and play it when its time comes, which is what a forged time would be for. A server knows ten windows ahead, if its keys
 * are not many: so that leaves six for what the clock itself is ahead, without anybody having been told.
 */
export const MOST_WINDOWS = 4

/** Whether this correction of a clock, in seconds, is more than any that should be made for knocks of a key of this period. */
export function isTooMuch(timeOffset: number, period: number): boolean {
  return Math.abs(timeOffset) > MOST_WINDOWS * period
}

/** A client's request (RFC 5905, 7.3), but for its time, which is nobody's business: 8 random bytes tell its answer as well. */
export function ntpRequest(cookie: Uint8Array): Uint8Array {
  const packet = new Uint8Array(NTP_PACKET)
  packet[0] = (4 << 3) | 3 // version 4, client
  packet.set(cookie, 40)
  return packet
}

/**
 * How far our clock is from a server's (RFC 5905, 8: the offset).
 * @param cookie that of the request
 * @param sent, received when the request left and this answer came, in Unix milliseconds of our clock
 * @returns milliseconds to be added to our clock; null where it is no answer to the request
 * @throws {Fault} where the server says that it has no time
 */
export function ntpOffset(answer: Uint8Array, cookie: Uint8Array, sent: number, received: number): number | null {
  const packet = Buffer.from(answer.buffer, answer.byteOffset, answer.length)
  // Extensions and a code of authentication may follow.
  if (packet.length < NTP_PACKET || !packet.subarray(24, 32).equals(cookie)) return null
  const [leap, version, mode, stratum] = [packet[0] >> 6, (packet[0] >> 3) & 7, packet[0] & 7, packet[1]]
  if (mode !== 4 || version < 3 || version > 4) return null
  if (leap === 3 || stratum === 0 || stratum > 15) throw new Fault('the NTP server has no valid time')
  const [arrived, left] = [ntpTime(packet, 32, received), ntpTime(packet, 40, received)]
  return (arrived - sent + (left - received)) / 2
}

/** An NTP timestamp as Unix milliseconds, of the era that is nearest to our clock's time. */
function ntpTime(packet: Buffer, at: number, near: number): number {
  const seconds = packet.readUInt32BE(at) - NTP_TO_UNIX
  const era = Math.round((near / 1000 - seconds) / ERA)
  return (seconds + era * ERA) * 1000 + (packet.readUInt32BE(at + 4) / ERA) * 1000
}

/** A time source: `ntp://HOST[:PORT]` or `https://HOST[:PORT]`; null for any other text. */
export function parseTimeSource(text: string): URL | null {
  if (!URL.canParse(text)) return null
  const url = new URL(text)
  const isPlain = url.username === '' && url.password === '' && url.hostname !== '' && url.port !== '0'
  return isPlain && (url.protocol === 'ntp:' || url.protocol === 'https:') ? url : null
}

/**
 * How far this machine's clock is from that of a time source.
 * @returns milliseconds to be added to ours; good to some tens of them by NTP, to a second by HTTPS
 * @throws {Fault} where nothing credible is answered
 */
export async function clockOffset(source: URL): Promise<number> {
  if (source.protocol === 'https:') {
    const sent = Date.now()
    const { date } = await askHttps(source, 'HEAD', 0, ASK_LIMIT)
    const theirs = Date.parse(date ?? '')
    if (Number.isNaN(theirs)) throw new Fault(`${source.origin}: its answer has no Date`)
    return theirs + HALF_SECOND - (sent + Date.now()) / 2
  }
  const name = source.hostname.replace(/^\[|\]$/g, '')
  const end = performance.now() + ASK_LIMIT
  const address = await resolveHost(name, 0, 0, ASK_LIMIT)
  let cookie: Uint8Array = new Uint8Array(8)
  let sent = 0
  return askUdp(
    { name, address, port: Number(source.port || NTP_PORT) },
    () => {
      cookie = crypto.getRandomValues(new Uint8Array(8))
      sent = Date.now()
      return ntpRequest(cookie)
    },
    (answer) => ntpOffset(answer, cookie, sent, Date.now()),
    end - performance.now(),
  )
}
