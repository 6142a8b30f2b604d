import { aessiv } from '@noble/ciphers/aes.js'
import { chacha20 as chacha } from '@noble/ciphers/chacha.js'
import { expand, extract } from '@noble/hashes/hkdf.js'
import { hmac } from '@noble/hashes/hmac.js'
import { sha256 } from '@noble/hashes/sha2.js'

/*
 * What the protocol takes from cryptography as it stands in the RFCs, in JavaScript: as a browser needs it, and the tests. The programs have
 * src/build/node-primitives.ts in the place of this file, since the build says so: the same functions, by Node's own OpenSSL.
 */

/** HMAC-SHA-256 (RFC 2104): 32 bytes. */
export const hmacSha256 = (key: Uint8Array, data: Uint8Array): Uint8Array => hmac(sha256, key, data)

/** HKDF-Extract by SHA-256 (RFC 5869): a pseudorandom key of 32 bytes. */
export const hkdfExtract = (secret: Uint8Array, salt: Uint8Array): Uint8Array => extract(sha256, secret, salt)

/** HKDF-Expand by SHA-256 (RFC 5869). @param length bytes */
export const hkdfExpand = (prk: Uint8Array, info: Uint8Array, length: number): Uint8Array => expand(sha256, prk, info, length)

/** The keystream of ChaCha20 (RFC 8439) for a nonce of zeros, its counter from 0. @param length bytes */
export const chacha20 = (key: Uint8Array, length: number): Uint8Array => chacha(key, new Uint8Array(12), new Uint8Array(length))

/** AES-SIV (RFC 5297) with a key of 64 bytes and one piece of associated data: V and what it seals. */
export const sivSeal = (key: Uint8Array, data: Uint8Array, text: Uint8Array): Uint8Array => aessiv(key, data).encrypt(text)

/** What {@link sivSeal} has sealed; null where that was not with this key and this data. */
export function sivOpen(key: Uint8Array, data: Uint8Array, sealed: Uint8Array): Uint8Array | null {
  try {
    return aessiv(key, data).decrypt(sealed)
  } catch {
    return null
  }
}
