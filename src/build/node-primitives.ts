import { createCipheriv, createHmac, timingSafeEqual } from 'node:crypto'

/* As src/protocol/primitives.ts, by Node's own OpenSSL: what a program does once is done before JavaScript has become fast. */

/** @see src/protocol/primitives.ts */
export const hmacSha256 = (key: Uint8Array, data: Uint8Array): Uint8Array =>
  new Uint8Array(createHmac('sha256', key).update(data).digest())

/** @see src/protocol/primitives.ts */
export const hkdfExtract = (secret: Uint8Array, salt: Uint8Array): Uint8Array => hmacSha256(salt, secret)

/** @see src/protocol/primitives.ts */
export function hkdfExpand(prk: Uint8Array, info: Uint8Array, length: number): Uint8Array {
  const out = new Uint8Array(length)
  let last = new Uint8Array(0)
  for (let at = 0, n = 1; at < length; at += last.length, n++) {
    last = Uint8Array.from(createHmac('sha256', prk).update(last).update(info).update(Uint8Array.of(n)).digest())
    out.set(last.subarray(0, length - at), at)
  }
  return out
}

/** OpenSSL's counter and nonce in one: zeros, both. */
const START = new Uint8Array(16)

/** @see src/protocol/primitives.ts */
export const chacha20 = (key: Uint8Array, length: number): Uint8Array =>
  createCipheriv('chacha20', key, START).update(new Uint8Array(length))

const BLOCK = 16
/** What a field element of 128 bits overflows by. */
const REDUCTION = 0x87

/** Doubles a block in GF(2^128) (RFC 5297, 2.3). */
function doubled(block: Uint8Array): Uint8Array {
  const out = block.map((byte, i) => (byte << 1) | ((block[i + 1] ?? 0) >> 7))
  out[BLOCK - 1] ^= (block[0] >> 7) * REDUCTION
  return out
}

/** The bytes of `under` behind `at`, with those of `over` added, as far as that goes. */
function xorAt(under: Uint8Array, at: number, over: Uint8Array): Uint8Array {
  const out = Uint8Array.from(under)
  for (let i = 0; i < over.length; i++) out[at + i] ^= over[i]
  return out
}

/** A block that is not full: a bit of 1 behind it, and bits of 0 (RFC 4493, 2.4). */
const padded = (bytes: Uint8Array): Uint8Array => xorAt(xorAt(new Uint8Array(BLOCK), 0, bytes), bytes.length, Uint8Array.of(0x80))

/** AES-256-CMAC (RFC 4493): the last block of CBC. */
function cmac(key: Uint8Array, bytes: Uint8Array): Uint8Array {
  const cbc = (data: Uint8Array) => createCipheriv('aes-256-cbc', key, START).setAutoPadding(false).update(data).subarray(-BLOCK)
  const subkey = doubled(cbc(START))
  const last = Math.max(0, Math.ceil(bytes.length / BLOCK) - 1) * BLOCK
  const end = bytes.subarray(last)
  const block = end.length === BLOCK ? xorAt(end, 0, subkey) : xorAt(padded(end), 0, doubled(subkey))
  return cbc(Buffer.concat([bytes.subarray(0, last), block]))
}

/** The synthetic IV of a text (RFC 5297, 2.4). */
function s2v(key: Uint8Array, data: Uint8Array, text: Uint8Array): Uint8Array {
  const sum = xorAt(doubled(cmac(key, START)), 0, cmac(key, data))
  return cmac(key, text.length < BLOCK ? xorAt(doubled(sum), 0, padded(text)) : xorAt(text, text.length - BLOCK, sum))
}

/** AES in counter mode, with two bits of V cleared (RFC 5297, 2.5). */
function counted(key: Uint8Array, v: Uint8Array, bytes: Uint8Array): Uint8Array {
  const start = v.map((byte, i) => (i === 8 || i === 12 ? byte & 0x7f : byte))
  return createCipheriv('aes-256-ctr', key, start).update(bytes)
}

const halves = (key: Uint8Array) => [key.subarray(0, key.length / 2), key.subarray(key.length / 2)] as const

/** @see src/protocol/primitives.ts */
export function sivSeal(key: Uint8Array, data: Uint8Array, text: Uint8Array): Uint8Array {
  const [macKey, counterKey] = halves(key)
  const v = s2v(macKey, data, text)
  return Uint8Array.from(Buffer.concat([v, counted(counterKey, v, text)]))
}

/** @see src/protocol/primitives.ts */
export function sivOpen(key: Uint8Array, data: Uint8Array, sealed: Uint8Array): Uint8Array | null {
  if (sealed.length < BLOCK) return null
  const [macKey, counterKey] = halves(key)
  const v = sealed.subarray(0, BLOCK)
  const text = counted(counterKey, v, sealed.subarray(BLOCK))
  return timingSafeEqual(s2v(macKey, data, text), v) ? Uint8Array.from(text) : null
}
