import { formatAddress } from '../protocol/address'
import { errorCode, Fault, reason } from '../system/fault'
import { askUdp } from './ask'
import { resolveHost } from './host'
import { NO_ANSWER } from './name'

/*
 * "From which address do you see me?", asked of a STUN server (RFC 8489). Nothing proves the answer: whoever is on the way there can give
 * another.
 */

const STUN_PORT = 3478
const HEADER = 20
const TRANSACTION = 12
const COOKIE = 0x2112a442
const BINDING_REQUEST = 0x0001
const BINDING_SUCCESS = 0x0101
const BINDING_ERROR = 0x0111
const ERROR_CODE = 0x0009
const XOR_MAPPED_ADDRESS = 0x0020
/** Longest answer that is read: a server's fits into one packet of the smallest MTU that IPv6 has. */
const MAX_ANSWER = 1_280

/** A Binding request without attributes (RFC 8489, 5). @param transaction 12 random bytes */
export function bindingRequest(transaction: Uint8Array): Uint8Array {
  const packet = Buffer.alloc(HEADER)
  packet.writeUInt16BE(BINDING_REQUEST, 0)
  packet.writeUInt32BE(COOKIE, 4)
  packet.set(transaction, 8)
  return packet
}

/**
 * The address in a Binding response (RFC 8489, 14.2).
 * @param transaction that of the request
 * @param family the only one that is wanted
 * @returns null where it is no whole and true answer to the request
 * @throws {Fault} where the server answers with an error
 */
export function mappedAddress(answer: Uint8Array, transaction: Uint8Array, family: 4 | 6): string | null {
  const packet = Buffer.from(answer.buffer, answer.byteOffset, answer.length)
  if (packet.length < HEADER || packet.length > MAX_ANSWER) return null
  if (packet.readUInt16BE(2) !== packet.length - HEADER || packet.length % 4 !== 0) return null
  if (packet.readUInt32BE(4) !== COOKIE || !packet.subarray(8, HEADER).equals(transaction)) return null
  const type = packet.readUInt16BE(0)
  if (type !== BINDING_SUCCESS && type !== BINDING_ERROR) return null
  // Whoever has written it had our 96 random bits. Other attributes say nothing about this one, which is the whole question.
  const value = attribute(packet, type === BINDING_ERROR ? ERROR_CODE : XOR_MAPPED_ADDRESS)
  if (type === BINDING_ERROR) {
    const code = value && value.length >= 4 ? `error ${(value[2] & 7) * 100 + value[3]}` : 'an error without a number'
    throw new Fault(`the STUN server answers with ${code}`)
  }
  const size = family === 4 ? 4 : 16
  if (value?.length !== 4 + size || value[1] !== (family === 4 ? 1 : 2)) return null
  // The mask is the cookie and the transaction, which stand side by side in the header.
  return formatAddress(Uint8Array.from(value.subarray(4), (byte, i) => byte ^ packet[4 + i]))
}

/** The value of the first attribute of a type, or null; null also where an attribute is cut off. */
function attribute(packet: Buffer, wanted: number): Buffer | null {
  for (let at = HEADER; at + 4 <= packet.length; ) {
    const [type, length] = [packet.readUInt16BE(at), packet.readUInt16BE(at + 2)]
    const end = at + 4 + length
    if (end > packet.length) return null
    if (type === wanted) return packet.subarray(at + 4, end)
    // Each is padded to 4 bytes.
    at = end + ((4 - (length % 4)) % 4)
  }
  return null
}

/** A STUN server's name: `HOST`, `HOST:PORT` or `[IPV6]:PORT`; null for any other text. */
export function parseStun(text: string): { host: string; port: number } | null {
  const match = /^(?:\[([0-9a-f:.]+)\]|([^\s:[\]/@]{1,253}))(?::([1-9]\d{0,4}))?$/i.exec(text)
  const port = Number(match?.[3] ?? STUN_PORT)
  return match && port <= 65535 ? { host: match[1] ?? match[2], port } : null
}

/**
 * Asks a STUN server from which address it sees us come.
 * @param family by which it is asked
 * @param limit milliseconds, its name and its answer together
 * @param seen the family of the address that is wanted
 * @throws {Fault}
 */
export async function askStun(
  { host, port }: { host: string; port: number },
  family: 4 | 6,
  limit: number,
  seen = family,
): Promise<string> {
  const end = performance.now() + limit
  const address = await resolveHost(host, family, 0, limit).catch((error) => {
    throw new Fault(`--stun ${host}: cannot be asked by IPv${family}, by which the knock goes: ${reason(error.cause ?? error)}`, {
      hint: errorCode(error.cause) === NO_ANSWER ? error.hint : `name another server, or knock with -${family === 4 ? 6 : 4}`,
    })
  })
  // Each try is the same transaction: whichever of them is answered, it is the answer.
  const transaction = crypto.getRandomValues(new Uint8Array(TRANSACTION))
  return askUdp(
    { name: host, address, port },
    () => bindingRequest(transaction),
    (answer) => mappedAddress(answer, transaction, seen),
    end - performance.now(),
  )
}
