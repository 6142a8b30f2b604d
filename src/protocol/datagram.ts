import { u64 } from './bytes'
import type { Key } from './key'
import { identity, type Opened } from './knock'
import { hmacSha256 } from './primitives'
import { decodeRequest, encodeRequest, type Request } from './request'
import { SEALED_LENGTHS, seal, unseal } from './seal'

/* A knock in one UDP datagram (docs/protocol.md, "Datagram knock"): hint ‖ sealed. */

const HINT_BYTES = 8
/** Lengths of a datagram in bytes: IPv4, IPv6. */
export const DATAGRAM_LENGTHS: readonly number[] = SEALED_LENGTHS.map((length) => HINT_BYTES + length)

/** The 8 bytes that announce a datagram knock of this window. */
export function hint(key: Key, window: number): Uint8Array {
  return hmacSha256(key.hintKey, u64(window)).slice(0, HINT_BYTES)
}

/**
 * The payload of a datagram knock: 36 bytes for IPv4, 48 for IPv6.
 * @throws {RangeError} when the request is outside its bounds
 */
export function composeDatagram(key: Key, window: number, request: Request): Uint8Array {
  return Uint8Array.of(...hint(key, window), ...seal(key, window, encodeRequest(request)))
}

/** The hint that a datagram begins with, or that a hint is, as one number. @returns null for what has not the length of a datagram knock */
export function hintOf(datagram: Uint8Array): bigint | null {
  return DATAGRAM_LENGTHS.includes(datagram.length) ? hintNumber(datagram) : null
}

/** 8 bytes as one number: what a table of hints is looked up by. */
export function hintNumber(bytes: Uint8Array): bigint {
  return new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0)
}

/** V of a datagram knock, which can be told without opening it. */
export function datagramIdentity(datagram: Uint8Array): Uint8Array {
  return identity(datagram.subarray(HINT_BYTES))
}

/**
 * Opens a datagram of which the hint has said the key and the window: unseal, read.
 * @returns null for everything that this key did not seal for this window
 */
export function openDatagram(key: Key, window: number, datagram: Uint8Array): Opened | null {
  const sealed = datagram.subarray(HINT_BYTES)
  const bytes = unseal(key, window, sealed)
  const request = bytes && decodeRequest(bytes)
  return request && { request, sealed }
}
