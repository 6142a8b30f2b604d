import { u64 } from './bytes'
import type { Key } from './key'
import { chacha20, hmacSha256 } from './primitives'

/** Rendezvous ports of a window, and how many of them must be seen (docs/protocol.md, "Constants"). */
export const RENDEZVOUS = 8
export const QUORUM = 4
/** Ports of a page: one for each value of a byte. */
export const PAGE = 256
/** Most and fewest pages of a codebook. */
export const MAX_PAGES = 63
export const MIN_PAGES = 44

/** The pool as shuffled for one key and one window. */
export interface Codebook {
  /** The 8 rendezvous ports, then page after page of 256 ports. */
  readonly ports: Uint16Array
  readonly pages: number
  /** Lowest port of the pool; {@link Codebook.places} counts from it. */
  readonly base: number
  /** At `port - base`: 1 + its index in `ports`, or 0 where the port says nothing. */
  readonly places: Uint16Array
}

/** How many pages a pool of `size` ports gives (docs/protocol.md, "Constants"). */
function pageCount(size: number): number {
  return Math.min(MAX_PAGES, Math.floor((size - RENDEZVOUS) / PAGE))
}

/**
 * The 8 rendezvous ports of a window: all that a daemon computes for a key until somebody finds them.
 * @see docs/protocol.md, "Derivation" (the first 8 draws of the shuffle need one HMAC only)
 */
export function rendezvous(key: Key, window: number): Uint16Array {
  const { pool } = key
  const draws = rendezvousDraws(key, window)
  // The shuffle's first 8 swaps, on a pool of which only the touched places are written down.
  const moved = new Map<number, number>()
  const ports = new Uint16Array(RENDEZVOUS)
  for (let i = 0; i < RENDEZVOUS; i++) {
    const j = i + below(draws.getUint32(4 * i), pool.length - i)
    ports[i] = moved.get(j) ?? pool[j]
    moved.set(j, moved.get(i) ?? pool[i])
  }
  return ports
}

/**
 * The codebook of a window: a Fisher-Yates shuffle of the pool from the front.
 * @param most pages that the caller needs: the shuffle goes no further, and a sender starts that much sooner
 * @see docs/protocol.md, "Derivation"; ChaCha20 is RFC 8439's, counter from 0
 */
export function codebook(key: Key, window: number, most = MAX_PAGES): Codebook {
  const pages = Math.min(most, pageCount(key.pool.length))
  const size = RENDEZVOUS + pages * PAGE
  const ports = key.pool.slice()
  const first = rendezvousDraws(key, window)
  const stream = keystream(hmacSha256(key.codebookKey, u64(window)), pages * PAGE * 4)
  for (let i = 0; i < size; i++) {
    const draw = i < RENDEZVOUS ? first.getUint32(4 * i) : stream.getUint32(4 * (i - RENDEZVOUS), true)
    const j = i + below(draw, ports.length - i)
    const port = ports[i]
    ports[i] = ports[j]
    ports[j] = port
  }
  const base = key.pool[0]
  const places = new Uint16Array(key.pool[key.pool.length - 1] - base + 1)
  for (let i = 0; i < size; i++) places[ports[i] - base] = i + 1
  return { ports: ports.subarray(0, size), pages, base, places }
}

/** The port that says "byte number `page` is `byte`". */
export function symbolPort(book: Codebook, page: number, byte: number): number {
  return book.ports[RENDEZVOUS + PAGE * page + byte]
}

/** What a port says in this codebook, as 256 * page + byte, or -1 where it says nothing or is a rendezvous port. */
export function symbolOf(book: Codebook, port: number): number {
  const place = book.places[port - book.base]
  return place > RENDEZVOUS ? place - 1 - RENDEZVOUS : -1
}

function rendezvousDraws(key: Key, window: number): DataView {
  const bytes = hmacSha256(key.rendezvousKey, u64(window))
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
}

function keystream(key: Uint8Array, length: number): DataView {
  const bytes = chacha20(key, length)
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
}

/** A 32-bit draw as an integer below n: exact, since the product stays below 2^53. */
function below(draw: number, n: number): number {
  return Math.floor((draw * n) / 0x1_0000_0000)
}
