import { u64 } from './bytes'
import type { Key } from './key'
import { sivOpen, sivSeal } from './primitives'

/** Length of V, the synthetic IV in front of the ciphertext (RFC 5297). */
export const V_BYTES = 16
/** Lengths of a sealed request: IPv4, IPv6. */
export const SEALED_LENGTHS = [28, 40] as const

/** Encrypts and authenticates a request for one window with AES-SIV (RFC 5297; docs/protocol.md, "Sealing"). */
export function seal(key: Key, window: number, request: Uint8Array): Uint8Array {
  return sivSeal(key.sealKey, u64(window), request)
}

/** The sealed request's bytes, or null where it was not sealed by this key for this window. */
export function unseal(key: Key, window: number, sealed: Uint8Array): Uint8Array | null {
  return sivOpen(key.sealKey, u64(window), sealed)
}
