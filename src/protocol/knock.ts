import { type Codebook, codebook, MAX_PAGES, RENDEZVOUS, symbolPort } from './codebook'
import { decode, encode } from './erasure'
import type { Key } from './key'
import { decodeRequest, encodeRequest, type Request } from './request'
import { SEALED_LENGTHS, seal, unseal, V_BYTES } from './seal'

/** Symbols sent beyond the data, by default (docs/protocol.md, "Constants"). */
export const PARITY = 16
/** Most parity that any pool has room for. */
export const MAX_PARITY = MAX_PAGES - SEALED_LENGTHS[0]

/**
 * The ports of a knock, rendezvous ports first (docs/protocol.md, "Sending"): 52 for IPv4, 64 for IPv6 by default.
 * @param parity symbols beyond the data, 0 to 35; a pool with fewer pages gives as many as it has
 * @throws {RangeError} when the request or the parity is outside its bounds
 */
export function compose(key: Key, window: number, request: Request, parity = PARITY): number[] {
  if (!Number.isInteger(parity) || parity < 0 || parity > MAX_PARITY) {
    throw new RangeError(`"parity" expected 0 to ${MAX_PARITY}, got ${parity}`)
  }
  const sealed = seal(key, window, encodeRequest(request))
  const book = codebook(key, window, sealed.length + parity)
  return [...book.ports.subarray(0, RENDEZVOUS), ...symbolPorts(book, sealed)]
}

/** What a knock turned out to carry. */
export interface Opened {
  readonly request: Request
  readonly sealed: Uint8Array
}

/**
 * Opens a knock from symbols seen: decode, unseal, read. One attempt, for one length of sealed request.
 * @param places the pages of the symbols, each once
 * @param symbols the byte that each of these pages says
 * @param k length of the sealed request that is tried, 28 or 40
 * @returns null for everything that this key did not seal for this window
 */
export function open(key: Key, window: number, places: Uint8Array, symbols: Uint8Array, k: number): Opened | null {
  const sealed = decode(places, symbols, k)
  const bytes = sealed && unseal(key, window, sealed)
  const request = bytes && decodeRequest(bytes)
  return request && { request, sealed }
}

/** The symbol ports of a sealed request: one for each page of the codebook. */
export function symbolPorts(book: Codebook, sealed: Uint8Array): number[] {
  return Array.from(encode(sealed, book.pages), (byte, page) => symbolPort(book, page, byte))
}

/** V: the identity of a knock within its key and window, whichever of its symbols were seen (docs/protocol.md, "Sealing"). */
export function identity(sealed: Uint8Array): Uint8Array {
  return sealed.subarray(0, V_BYTES)
}
