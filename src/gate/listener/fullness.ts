import { type Codebook, MAX_PAGES, symbolOf } from '../../protocol/codebook'
import type { Touch } from './readings'

/* docs/protocol.md, "Receiving" 4: how many pages have settled (tracks.ts). */

/**
 * How full the pages of a candidate are with what a session has heard, kept tap by tap, so that only what is worth its cost is tried. It
 * counts as a reading does: a page is settled where one symbol was touched most.
 */
export class Fullness {
  /** page → distinct symbols; the most touches of one of them; how many have as many */
  readonly #distinct = new Uint16Array(MAX_PAGES)
  readonly #most = new Uint32Array(MAX_PAGES)
  readonly #leaders = new Uint16Array(MAX_PAGES)
  /** Pages that are settled, and pages with any symbol. */
  settled = 0
  filled = 0
  /** The most settled pages with which an attempt was made. */
  tried = 0
  /** Whether a page has lost its leader, so that all must be counted anew. */
  isStale = false

  /** Counts what was heard since a moment (steady milliseconds). */
  static of(touches: ReadonlyMap<number, Touch>, book: Codebook, start: number): Fullness {
    const counted = new Fullness()
    for (const [port, { count, last, said }] of touches) if (last >= start && !said) counted.add(book, port, count, true)
    return counted
  }

  /** @param count how often the port has been touched by now @param isNew whether it has not been counted before */
  add(book: Codebook, port: number, count: number, isNew: boolean): void {
    const page = symbolOf(book, port) >> 8
    if (page < 0) return
    if (isNew && this.#distinct[page]++ === 0) this.filled++
    if (count > this.#most[page]) {
      this.#most[page] = count
      this.#lead(page, 1)
    } else if (count === this.#most[page]) this.#lead(page, this.#leaders[page] + 1)
  }

  remove(book: Codebook, port: number, count: number): void {
    const page = symbolOf(book, port) >> 8
    if (page < 0 || this.#distinct[page] === 0) return
    if (--this.#distinct[page] === 0) {
      this.filled--
      this.#most[page] = 0
      this.#lead(page, 0)
    } else if (count === this.#most[page]) {
      this.#lead(page, this.#leaders[page] - 1)
      this.isStale ||= this.#leaders[page] === 0
    }
  }

  #lead(page: number, leaders: number): void {
    if (this.#leaders[page] === 1) this.settled--
    if (leaders === 1) this.settled++
    this.#leaders[page] = leaders
  }
}
