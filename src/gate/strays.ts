/** Taps of sources without a session that are remembered, all sources together (docs/protocol.md, "Receiving" 2). */
export const MAX_STRAYS = 4_096

/** A tap that might belong to a knock whose rendezvous is still on its way. */
export interface Stray {
  readonly port: number
  /** steady milliseconds */
  readonly at: number
}

/**
 * One ring of the last taps on ports that mean nothing, from sources that mean nothing: all that a stranger's packet leaves behind,
 * so that the symbols that overtake their rendezvous are not lost.
 */
export class Strays {
  readonly #ring: (string | undefined)[] = new Array(MAX_STRAYS)
  /** source → its taps in the ring, oldest first */
  readonly #bySource = new Map<string, Stray[]>()
  #next = 0
  #size = 0

  get size(): number {
    return this.#size
  }

  add(source: string, port: number, at: number): void {
    const overwritten = this.#ring[this.#next]
    const taps = overwritten === undefined ? undefined : this.#bySource.get(overwritten)
    // A slot may name a source whose taps have been taken out since; a shift then is for a later tap of it, and does no harm.
    if (taps?.shift()) this.#size--
    if (taps?.length === 0) this.#bySource.delete(overwritten as string)
    this.#ring[this.#next] = source
    this.#next = (this.#next + 1) % MAX_STRAYS
    const own = this.#bySource.get(source)
    if (own) own.push({ port, at })
    else this.#bySource.set(source, [{ port, at }])
    this.#size++
  }

  /** Takes a source's taps out of the ring, oldest first. */
  take(source: string): Stray[] {
    const taps = this.#bySource.get(source) ?? []
    this.#bySource.delete(source)
    this.#size -= taps.length
    return taps
  }
}
