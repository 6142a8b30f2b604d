/*
 * The listener of docs/protocol.md, "Receiving", once more, slow and plain, to hold src/gate/listener/listener.ts against: it keeps every
 * tap, has no table, no ring and no state between taps but what has been opened, and tries every key in every window after every
 * tap. It makes no guesses and knows no budgets.
 */
import { bytesToHex } from '@noble/hashes/utils.js'
import type { Now } from '../../../src/gate/clock'
import type { Tap } from '../../../src/gate/tap'
import { type Codebook, codebook, symbolOf } from '../../../src/protocol/codebook'
import type { Key } from '../../../src/protocol/key'
import { identity, open, symbolPorts } from '../../../src/protocol/knock'

/** What a knock is known by in a comparison. */
export interface Opened {
  key: Key
  window: number
  v: string
  source: string
  arrival: 'timely' | 'stale' | 'future'
}
interface Heard {
  tap: Tap
  at: number
  /** As a symbol it is explained, and counts as a rendezvous only. */
  said: boolean
}
interface Explained {
  by: Tap
  key: Key
  window: number
  ports: number[]
}

const same = (a: Tap, b: Tap) => a.source === b.source && a.destination === b.destination

export class ListenerTwin {
  readonly opened: Opened[] = []
  #taps: Heard[] = []
  readonly #explained: Explained[] = []
  /** Those whose taps were enough to try an accepted window: they are not asked for far ones. */
  readonly #tried: Tap[] = []

  constructor(
    readonly keys: readonly Key[],
    readonly skew: number,
  ) {}

  hear(tap: Tap, now: Now): void {
    const explains = ({ by, key, window, ports }: Explained) =>
      same(by, tap) && ports.includes(tap.port) && this.#arrival(key, window, now.wall) !== 'stale'
    const said = this.#explained.some(explains)
    if (said && !this.#isLive(tap.port, now.wall)) return
    this.#taps.push({ tap, at: now.steady, said })
    while (this.#openOne(tap, now, 'timely')) {}
  }

  /** The far windows of all who have fallen silent. */
  end(now: Now): void {
    const silent = this.#taps.filter(({ tap }, i) => this.#taps.findLastIndex((other) => same(other.tap, tap)) === i)
    for (const { tap, at } of silent) {
      if (!this.#tried.some((other) => same(other, tap)))
        this.#openOne(tap, { steady: at, wall: now.wall - now.steady + at }, 'far')
    }
  }

  /** Opens one knock of a source, as of its newest tap; returns whether there was one. */
  #openOne(by: Tap, now: Now, which: 'timely' | 'far'): boolean {
    const living = this.#taps.filter(({ tap, at }) => same(tap, by) && at >= now.steady - 10_000)
    const ports = [...new Set(living.map(({ tap }) => tap.port).reverse())].slice(0, 256)
    if (ports.length < 32) return false
    for (const key of this.keys) {
      const newest = Math.floor(now.wall / 1000 / key.period)
      for (let window = newest - this.skew - 10; window <= newest + this.skew + 10; window++) {
        const timely = this.#arrival(key, window, now.wall) === 'timely'
        if (timely !== (which === 'timely')) continue
        const heard = living.filter(({ tap }) => ports.includes(tap.port))
        const { sealed, tried } = unsealed(key, window, heard, now.steady)
        if (tried && timely) this.#tried.push(by)
        if (!sealed) continue
        const said = symbolPorts(bookOf(key, window), sealed)
        const own = [...said, ...bookOf(key, window).ports.subarray(0, 8)]
        const last = Math.max(...living.filter(({ tap }) => own.includes(tap.port)).map(({ at }) => at))
        const arrival = this.#arrival(key, window, now.wall - now.steady + last)
        this.opened.push({ key, window, v: bytesToHex(identity(sealed)), source: by.source, arrival })
        this.#explained.push({ by, key, window, ports: said })
        this.#taps = this.#taps
          .filter(({ tap }) => !same(tap, by) || !said.includes(tap.port) || this.#isLive(tap.port, now.wall))
          .map((heard) => (same(heard.tap, by) && said.includes(heard.tap.port) ? { ...heard, said: true } : heard))
        return true
      }
    }
    return false
  }

  /** Whether a port is a rendezvous of any key, in any window that is known. */
  #isLive(port: number, wall: number): boolean {
    return this.keys.some((key) => {
      const newest = Math.floor(wall / 1000 / key.period)
      const windows = Array.from({ length: 2 * this.skew + 21 }, (_, i) => newest - this.skew - 10 + i)
      return windows.some((window) => bookOf(key, window).ports.subarray(0, 8).includes(port))
    })
  }

  #arrival(key: Key, window: number, wall: number): Opened['arrival'] {
    const grace = this.skew === 0 ? 10 : 0
    if (window < Math.floor((wall / 1000 - grace) / key.period) - this.skew) return 'stale'
    return window > Math.floor(wall / 1000 / key.period) + this.skew ? 'future' : 'timely'
  }
}

/** What some taps of one source, oldest first, seal under one key in one window, by any horizon. */
function unsealed(key: Key, window: number, taps: readonly Heard[], newest: number): { sealed?: Uint8Array; tried: boolean } {
  const book = bookOf(key, window)
  const lastOf = (port: number) => taps.findLast(({ tap }) => tap.port === port)?.at ?? -Infinity
  const rendezvous = [...book.ports.subarray(0, 8)].map(lastOf).sort((a, b) => b - a)
  if (rendezvous[3] === -Infinity) return { tried: false }
  let tried = false
  for (const k of [28, 40]) {
    for (const pages of [k + 16, 63]) {
      for (const start of [rendezvous[3] - 10, newest - 100, newest - 500, newest - 2_000, newest - 10_000]) {
        const said = mostTouched(
          book,
          taps.filter(({ tap, said }) => !said && lastOf(tap.port) >= start),
        ).filter(([page]) => page < pages)
        if (said.length < k) continue
        tried = true
        const [places, symbols] = [0, 1].map((i) => Uint8Array.from(said, (symbol) => symbol[i]))
        const knock = open(key, window, places, symbols, k)
        if (knock) return { sealed: knock.sealed, tried }
      }
    }
  }
  return { tried }
}

/** The byte that each page says: that of its most-touched port; a tie says nothing. */
function mostTouched(book: Codebook, taps: readonly Heard[]): [page: number, byte: number][] {
  const symbols = taps.map(({ tap }) => symbolOf(book, tap.port)).filter((symbol) => symbol >= 0)
  const touches = (symbol: number) => symbols.filter((other) => other === symbol).length
  const said: [number, number][] = []
  for (let page = 0; page < book.pages; page++) {
    const ranked = [...new Set(symbols.filter((symbol) => symbol >> 8 === page))].sort((a, b) => touches(b) - touches(a))
    if (ranked.length > 0 && (ranked.length === 1 || touches(ranked[0]) > touches(ranked[1]))) said.push([page, ranked[0] & 255])
  }
  return said
}

/** Codebooks never change: they are made once, to save time only. */
const books = new Map<Key, Map<number, Codebook>>()
function bookOf(key: Key, window: number): Codebook {
  const ofKey = books.get(key) ?? new Map<number, Codebook>()
  const book = ofKey.get(window) ?? codebook(key, window)
  books.set(key, ofKey.set(window, book))
  return book
}
