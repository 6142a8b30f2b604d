import type { Name } from '../tap'

/* docs/protocol.md, "Receiving" 2: strays, all that a stranger's packet leaves behind. */

/** Taps of sources without a session that are remembered, all sources together. */
export const MAX_STRAYS = 4_096

/** A tap that might belong to a knock whose rendezvous is still on its way. */
export interface Stray {
  readonly port: number
  /** steady milliseconds */
  readonly at: number
}

/** What nearly every source has said. */
const NONE: readonly Stray[] = []

/**
 * One ring of the last taps on ports that mean nothing, from sources that mean nothing: all that a stranger's packet leaves behind,
 * so that the symbols that overtake their rendezvous are not lost. Taps are numbered as they come; the ring holds the last of them,
 * each with the number of the tap before it from the same source.
 */
export class Strays {
  readonly #sources: (Name | undefined)[] = new Array(MAX_STRAYS).fill(undefined)
  readonly #ports = new Uint16Array(MAX_STRAYS)
  readonly #times = new Float64Array(MAX_STRAYS)
  readonly #before = new Float64Array(MAX_STRAYS)
  /** source → the number of its newest tap */
  readonly #newest = new Map<Name, number>()
  #next = 0
  #size = 0

  get size(): number {
    return this.#size
  }

  add(source: Name, port: number, at: number): void {
    const number = this.#next++
    const slot = number % MAX_STRAYS
    const overwritten = this.#sources[slot]
    if (overwritten === undefined) this.#size++
    else if (this.#newest.get(overwritten) === number - MAX_STRAYS) this.#newest.delete(overwritten)
    this.#sources[slot] = source
    this.#ports[slot] = port
    this.#times[slot] = at
    this.#before[slot] = this.#newest.get(source) ?? -1
    this.#newest.set(source, number)
  }

  /** Takes a source's taps out of the ring, oldest first. */
  take(source: Name): readonly Stray[] {
    const newest = this.#newest.get(source)
    if (newest === undefined) return NONE
    const taps: Stray[] = []
    let number = newest
    // What is older than the ring has been overwritten.
    while (number >= 0 && number >= this.#next - MAX_STRAYS) {
      const slot = number % MAX_STRAYS
      taps.push({ port: this.#ports[slot], at: this.#times[slot] })
      this.#sources[slot] = undefined
      this.#size--
      number = this.#before[slot]
    }
    this.#newest.delete(source)
    return taps.reverse()
  }
}
