import { addressBytes, formatAddress } from './address'

/** The version that this build speaks (docs/protocol.md, "Request"). */
const VERSION = 1
/** Bytes of a request before its address. */
const HEAD = 8
/** Longest lifetime in seconds: 24 bits. */
export const MAX_SECONDS = 0xffffff

const ACTIONS = ['open', 'close', 'lock'] as const
const PROTOCOLS = ['any', 'tcp', 'udp'] as const

export type Action = (typeof ACTIONS)[number]
export type Protocol = (typeof PROTOCOLS)[number]

/** The address of a request that is for whom the knock comes from, of any family. */
export const AS_SEEN = '0.0.0.0'

/** What a knock asks (docs/protocol.md, "Request"). */
export interface Request {
  readonly action: Action
  readonly protocol: Protocol
  /** The lease admits one new connection, then no more. */
  readonly once: boolean
  /** Random u16 that makes two equal requests in one window two different knocks. */
  readonly salt: number
  /** 0 = every service that the key's grant lists. */
  readonly port: number
  /** 0 = until closed. */
  readonly seconds: number
  /** RFC 5952 text; all zero (`0.0.0.0`, `::`) = the address that the daemon sees the knock come from. */
  readonly address: string
}

/**
 * A request as 12 bytes (IPv4) or 24 (IPv6).
 * @throws {RangeError} when a field is outside its bounds
 */
export function encodeRequest(request: Request): Uint8Array {
  const address = addressBytes(request.address)
  if (!address) throw new RangeError(`"address" expected an IPv4 or IPv6 address, got "${request.address}"`)
  const bytes = new Uint8Array(HEAD + address.length)
  const action = ACTIONS.indexOf(request.action)
  const protocol = PROTOCOLS.indexOf(request.protocol)
  if (action < 0 || protocol < 0) throw new RangeError(`unknown action or protocol: ${request.action}, ${request.protocol}`)
  bytes[0] = (VERSION << 6) | (action << 4) | (protocol << 2) | (request.once ? 2 : 0)
  writeUint(bytes, 1, 2, request.salt, 'salt')
  writeUint(bytes, 3, 2, request.port, 'port')
  writeUint(bytes, 5, 3, request.seconds, 'seconds')
  bytes.set(address, HEAD)
  return bytes
}

/** Reads a request, or null for another length, another version or a reserved value: silence, by docs/protocol.md. */
export function decodeRequest(bytes: Uint8Array): Request | null {
  if (bytes.length !== HEAD + 4 && bytes.length !== HEAD + 16) return null
  const head = bytes[0]
  const action = ACTIONS[(head >> 4) & 3]
  const protocol = PROTOCOLS[(head >> 2) & 3]
  if (head >> 6 !== VERSION || !action || !protocol || head & 1) return null
  return {
    action,
    protocol,
    once: (head & 2) !== 0,
    salt: (bytes[1] << 8) | bytes[2],
    port: (bytes[3] << 8) | bytes[4],
    seconds: (bytes[5] << 16) | (bytes[6] << 8) | bytes[7],
    address: formatAddress(bytes.subarray(HEAD)),
  }
}

function writeUint(bytes: Uint8Array, offset: number, length: number, value: number, name: string): void {
  const max = 2 ** (8 * length) - 1
  if (!Number.isInteger(value) || value < 0 || value > max) throw new RangeError(`"${name}" expected 0 to ${max}, got ${value}`)
  for (let i = length - 1, rest = value; i >= 0; i--, rest >>>= 8) bytes[offset + i] = rest & 0xff
}
