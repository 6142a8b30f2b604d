import { type Codebook, MAX_PAGES, QUORUM, RENDEZVOUS, symbolOf } from '../../protocol/codebook'
import { PARITY } from '../../protocol/knock'
import { SEALED_LENGTHS } from '../../protocol/seal'

/* docs/protocol.md, "Receiving" 4: how a session's taps are read under a candidate's codebook. */

/** How far back a reading looks, in milliseconds before the newest tap. */
const HORIZONS = [100, 500, 2_000, 10_000]
/**
 * One more horizon: from shortly before the rendezvous, in milliseconds. A client sends those first, so what lies before them is
 * noise, and a scan from the knock's own address is cut off at the sharpest place. The slack is for taps that overtake.
 */
const RENDEZVOUS_SLACK = 10

/** How often a port was touched, when last (steady milliseconds), and by which tap of its session; `said`: as a symbol it is explained, and tells no more. */
export interface Touch {
  readonly count: number
  readonly last: number
  readonly number: number
  readonly said: boolean
}

/** One way to read a session's taps as a codeword: which pages say what, and the length of sealed request that is tried. */
export interface Reading {
  readonly k: number
  readonly places: Uint8Array
  readonly symbols: Uint8Array
}

/**
 * The readings of a session's taps under one codebook, the likeliest first; each costs its taker one decode.
 * @param touches port → touch
 * @param newest steady time of the session's newest tap
 * @param guesses how many readings may settle tied pages by chance; with 0 the pages beyond k + 16 are left out, too
 * @param random numbers from 0 to 1
 */
export function* readings(
  touches: ReadonlyMap<number, Touch>,
  newest: number,
  book: Codebook,
  guesses: number,
  random: () => number,
): Generator<Reading, void> {
  const counts = horizonStarts(touches, newest, book.ports.subarray(0, RENDEZVOUS)).map((start) =>
    countPages(touches, start, book),
  )
  for (const k of SEALED_LENGTHS) {
    for (const counted of counts) {
      const reading = settled(counted, k, k + PARITY)
      if (reading) yield reading
    }
  }
  if (guesses === 0) return
  for (const k of SEALED_LENGTHS) {
    for (const counted of counts) {
      // Where nobody sent, only noise can be: the pages beyond the default parity come last.
      const reading = counted.highest >= k + PARITY && settled(counted, k, MAX_PAGES)
      if (reading) yield reading
    }
  }
  const tied = SEALED_LENGTHS.flatMap((k) => counts.filter((counted) => mayGuess(counted, k)).map((counted) => ({ k, counted })))
  for (let i = 0; tied.length > 0 && i < guesses; i++) {
    const { k, counted } = tied[i % tied.length]
    const reading = settled(counted, k, k + PARITY, random)
    if (reading) yield reading
  }
}

/**
 * The readings that are tried as soon as there are symbols enough: of what was heard since the rendezvous, and of all.
 * @param k length of the sealed request that is tried
 */
export function* eagerReadings(
  touches: ReadonlyMap<number, Touch>,
  newest: number,
  book: Codebook,
  k: number,
): Generator<Reading, void> {
  const starts = [rendezvousStart(touches, book.ports.subarray(0, RENDEZVOUS)), newest - (HORIZONS.at(-1) as number)]
  for (const start of distinct(touches, starts)) {
    const reading = settled(countPages(touches, start, book), k, k + PARITY)
    if (reading) yield reading
  }
}

/** Since when a candidate's burst is heard: shortly before enough of its rendezvous. In steady milliseconds; -Infinity without a quorum. */
export function rendezvousStart(touches: ReadonlyMap<number, Touch>, rendezvous: Uint16Array): number {
  const heard = [...rendezvous].map((port) => touches.get(port)?.last ?? -Infinity).sort((a, b) => b - a)
  return heard[QUORUM - 1] - RENDEZVOUS_SLACK
}

/** What each page says since some moment. */
interface Counted {
  /** page → its most-touched symbols; more than one is a tie, which leaves the page open */
  readonly symbols: number[][]
  readonly highest: number
}

function countPages(touches: ReadonlyMap<number, Touch>, start: number, book: Codebook): Counted {
  const most = new Uint32Array(MAX_PAGES)
  const symbols: number[][] = new Array(MAX_PAGES)
  let highest = -1
  for (const [port, { count, last, said }] of touches) {
    if (last < start || said) continue
    const symbol = symbolOf(book, port)
    const page = symbol >> 8
    if (symbol < 0 || count < most[page]) continue
    if (count > most[page]) {
      most[page] = count
      symbols[page] = [symbol & 0xff]
    } else symbols[page].push(symbol & 0xff)
    if (page > highest) highest = page
  }
  return { symbols, highest }
}

/** The pages below `limit` as a reading, or null with fewer than k of them. With `random`, an open page gives one of its ties, or none. */
function settled({ symbols }: Counted, k: number, limit: number, random?: () => number): Reading | null {
  const places: number[] = []
  const values: number[] = []
  for (let page = 0; page < limit && page < MAX_PAGES; page++) {
    const said = symbols[page]
    if (!said) continue
    const value = said.length === 1 ? said[0] : random && said[Math.floor(random() * (said.length + 1))]
    if (value === undefined) continue
    places.push(page)
    values.push(value)
  }
  return places.length < k ? null : { k, places: Uint8Array.from(places), symbols: Uint8Array.from(values) }
}

function mayGuess({ symbols }: Counted, k: number): boolean {
  const said = symbols.slice(0, k + PARITY).filter(Boolean)
  return said.length >= k && said.some((page) => page.length > 1)
}

/** Where each horizon starts, latest first, without those that hold the same taps as another. */
function horizonStarts(touches: ReadonlyMap<number, Touch>, newest: number, rendezvous: Uint16Array): number[] {
  const starts = [rendezvousStart(touches, rendezvous), ...HORIZONS.map((horizon) => newest - horizon)]
  return distinct(
    touches,
    starts.sort((a, b) => b - a),
  )
}

/** Of moments, the latest first, those since which more was heard than since the one before. */
function distinct(touches: ReadonlyMap<number, Touch>, starts: readonly number[]): number[] {
  const held = starts.map(() => 0)
  for (const { last } of touches.values()) {
    for (let i = 0; i < starts.length; i++) if (last >= starts[i]) held[i]++
  }
  return starts.filter((_, i) => i === 0 || held[i] !== held[i - 1])
}
