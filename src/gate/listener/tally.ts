/* docs/protocol.md, "Receiving" 3: of which candidates 4 rendezvous ports may have been heard (candidates.ts). */

/** Fewest counters of a tally, and for how many candidates there is one at most: 4 of them have 32 ports, which fit into a byte. */
const MIN_COUNTERS = 1_024
const CANDIDATES_A_COUNTER = 4

/**
 * Of how many ports of each candidate a session has heard: never too few, and too many where candidates share a counter. It is asked for every
 * candidate of a port, of which ten thousand keys have two dozen, where to look for the ports of each would be ten times as slow.
 */
export class Tally {
  /** The state of the table that it counts by. */
  readonly version: number
  readonly #counts: Uint8Array

  /** @param candidates how many places the table has */
  constructor(candidates: number, version: number) {
    let counters = MIN_COUNTERS
    while (counters * CANDIDATES_A_COUNTER < candidates) counters *= 2
    this.#counts = new Uint8Array(counters)
    this.version = version
  }

  /** In bytes. */
  get size(): number {
    return this.#counts.length
  }

  /** Counts a port of the candidate at this place of the table. @returns of how many ports it may have been heard by now */
  add(place: number): number {
    const counts = this.#counts
    return ++counts[place & (counts.length - 1)]
  }

  /** Takes a port of it back. */
  remove(place: number): void {
    const counts = this.#counts
    counts[place & (counts.length - 1)]--
  }
}
