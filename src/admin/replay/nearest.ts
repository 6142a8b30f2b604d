import { TAP_LIFE } from '../../gate/listener/session'
import { type Codebook, codebook, QUORUM, RENDEZVOUS, rendezvous, symbolOf } from '../../protocol/codebook'
import { hint, hintNumber, hintOf, openDatagram } from '../../protocol/datagram'
import { type Key, windowAt } from '../../protocol/key'
import { type Opened, open, PARITY } from '../../protocol/knock'
import { SEALED_LENGTHS } from '../../protocol/seal'

/*
 * Which key and window a burst was of that the daemon did not open. It knows only accepted windows and ten beside them; here there is time to look
 * further: for a clock that is hours off, or for an old knock that is played again.
 */

/** Fewest rendezvous ports that say anything. */
const MIN_HITS = 3
/** A key and window is named only where chance would hit so many of its ports in fewer than one of so many recordings. */
const MAX_CHANCE = 1 / 1_000
/** A quorum this unlikely to be chance ends the search. */
const SURE = 1e-9

/** What it costs to look at rendezvous ports that have been computed, where to compute them costs 1. */
const LOOK_COST = 1 / 8

/** Searches of one recording, which share their room and what they have computed: sources that knock at one time are looked for in the same windows. */
export class Searches {
  /** Keys and windows that may still be computed. */
  #room: number
  readonly #most: number
  /** How many there are in all: each of them may hit by chance. */
  readonly count: number
  #left: number
  readonly #rendezvous = new Map<Key, Map<number, Uint16Array>>()

  /**
   * @param room keys and windows that all searches together may compute: some 10 µs each
   * @param most keys and windows that one search tries
   * @param searches how many there will be
   */
  constructor(room: number, most: number, searches: number) {
    this.#room = room
    this.#most = most
    this.count = searches
    this.#left = searches
  }

  /** Goes through keys and windows, one after the other: those of now first, then further and further from them. */
  *windows(keys: readonly Key[], at: number): Generator<[Key, number, tried: number]> {
    const share = this.#room / Math.max(1, this.#left--)
    const end = this.#room - share
    let tried = 0
    for (let far = 0; tried < this.#most && this.#room > end && keys.length > 0; far++) {
      for (const key of keys) {
        const now = windowAt(at / 1000, key.period)
        for (const window of far === 0 ? [now] : [now - far, now + far]) {
          if (window < 0) continue
          this.#room -= LOOK_COST
          yield [key, window, ++tried]
        }
      }
    }
  }

  rendezvous(key: Key, window: number): Uint16Array {
    const ofKey = this.#rendezvous.get(key) ?? new Map<number, Uint16Array>()
    this.#rendezvous.set(key, ofKey)
    const ports = ofKey.get(window) ?? rendezvous(key, window)
    if (!ofKey.has(window)) {
      this.#room--
      ofKey.set(window, ports)
    }
    return ports
  }

  /** Pays for a hint, which is not kept. */
  hint(key: Key, window: number): bigint {
    this.#room--
    return hintNumber(hint(key, window))
  }
}

/** A knock that was not opened, as far as it was heard. */
export interface Near {
  readonly key: Key
  readonly window: number
  /** Rendezvous ports that were heard, of 8, of which 4 are needed. */
  readonly rendezvous: number
  /** Symbols that were heard within the life of a tap, and how many are needed. */
  readonly symbols: number
  readonly needed: number
  /** Milliseconds from the first of its taps to the last. */
  readonly spread: number
  /** What it asks, where enough of it was heard to open it: then its key has sent it. */
  readonly opened: Opened | null
}

/**
 * Finds the key and window whose rendezvous a burst has most likely touched.
 * @param ports when each was last touched, in Unix milliseconds
 * @param at when that was
 * @returns null where it was none that chance could not have made
 */
export function nearest(ports: ReadonlyMap<number, number>, keys: readonly Key[], at: number, searches: Searches): Near | null {
  const within = new Map<Uint16Array, number>()
  for (const { pool } of keys) if (!within.has(pool)) within.set(pool, countIn(pool, ports))
  let best: { key: Key; window: number; hits: number; chance: number } | null = null
  for (const [key, window, tried] of searches.windows(keys, at)) {
    let hits = 0
    for (const port of searches.rendezvous(key, window)) if (ports.has(port)) hits++
    if (hits < MIN_HITS || (best && hits < best.hits)) continue
    const chance = searches.count * tried * chanceOf(hits, (within.get(key.pool) ?? 0) / key.pool.length)
    if (best && hits === best.hits && chance >= best.chance) continue
    best = { key, window, hits, chance }
    if (hits >= QUORUM && chance < SURE) break
  }
  return best && best.chance < MAX_CHANCE ? measure(best.key, best.window, ports) : null
}

/** How likely it is that chance touches so many of 8 ports. @param part of the pool that was touched */
function chanceOf(hits: number, part: number): number {
  let sum = 0
  for (let r = hits; r <= RENDEZVOUS; r++) sum += choose(RENDEZVOUS, r) * part ** r * (1 - part) ** (RENDEZVOUS - r)
  return sum
}

const choose = (n: number, r: number): number => (r === 0 ? 1 : (choose(n - 1, r - 1) * n) / r)

function countIn(pool: Uint16Array, ports: ReadonlyMap<number, number>): number {
  const all = new Set(pool)
  let count = 0
  for (const port of ports.keys()) if (all.has(port)) count++
  return count
}

/** How much of a knock was heard. */
function measure(key: Key, window: number, ports: ReadonlyMap<number, number>): Near {
  const book = codebook(key, window)
  const times = [...ports].filter(([port]) => saysSomething(book, port)).map(([, at]) => at)
  const newest = Math.max(...times)
  const tries = SEALED_LENGTHS.map((needed) => ({ needed, ...bestStretch(book, ports, needed) }))
  const opened = tries
    .map(({ needed, pages }) => ({ needed, found: openFrom(key, window, pages, needed) }))
    .find(({ found }) => found)
  // Nobody says how long the request is: pages that only the longer one has are not touched by the shorter.
  const [short, long] = tries
  const beyond = [...long.pages.keys()].filter((page) => page >= short.needed + PARITY).length
  const isLong = opened
    ? opened.needed === long.needed
    : beyond / (long.needed - short.needed) > long.pages.size / (2 * (long.needed + PARITY))
  const { needed, pages, hits } = isLong ? long : short
  return {
    key,
    window,
    rendezvous: hits,
    symbols: pages.size,
    needed,
    spread: newest - Math.min(...times),
    opened: opened?.found ?? null,
  }
}

const saysSomething = (book: Codebook, port: number): boolean =>
  symbolOf(book, port) >= 0 || book.ports.subarray(0, RENDEZVOUS).includes(port)

/** The stretch of a tap's life in which most of a knock was heard: its pages, each with what it says, and its rendezvous ports. */
function bestStretch(
  book: Codebook,
  ports: ReadonlyMap<number, number>,
  needed: number,
): { pages: Map<number, number>; hits: number } {
  const touched = [...ports].filter(([port]) => saysSomething(book, port)).sort(([, a], [, b]) => a - b)
  const ends = new Set(touched.map(([, at]) => at))
  let best = { pages: new Map<number, number>(), hits: 0 }
  for (const end of ends) {
    const pages = new Map<number, number>()
    let hits = 0
    for (const [port, at] of touched) {
      if (at > end || at < end - TAP_LIFE) continue
      const symbol = symbolOf(book, port)
      if (symbol < 0) hits++
      else if (symbol >> 8 < needed + PARITY) pages.set(symbol >> 8, symbol & 0xff)
    }
    if (pages.size + hits > best.pages.size + best.hits) best = { pages, hits }
  }
  return best
}

function openFrom(key: Key, window: number, pages: ReadonlyMap<number, number>, k: number): Opened | null {
  if (pages.size < k) return null
  const places = [...pages.keys()].sort((a, b) => a - b)
  return open(
    key,
    window,
    Uint8Array.from(places),
    Uint8Array.from(places, (page) => pages.get(page) as number),
    k,
  )
}

/** A datagram that was not opened, by the hint that it begins with. */
export interface NearDatagram {
  readonly key: Key
  readonly window: number
  readonly opened: Opened | null
}

/** Finds the key and window of a datagram, by its hint. @returns null where it is none of those that are looked at */
export function nearestDatagram(payload: Uint8Array, keys: readonly Key[], at: number, searches: Searches): NearDatagram | null {
  const announced = hintOf(payload)
  for (const [key, window] of announced === null ? [] : searches.windows(keys, at)) {
    if (searches.hint(key, window) === announced) return { key, window, opened: openDatagram(key, window, payload) }
  }
  return null
}
