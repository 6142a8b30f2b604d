import { MAX_PORTS } from '../../gate/listener/sessions'
import type { Tap } from '../../gate/tap'

/* What each source of a recording has said, burst by burst: a knock that was not heard whole is looked for there. */

/** Sources whose bursts go on at a time: that one is given up first which was heard of longest ago. */
const MAX_LIVE = 65_536
/** Bursts that are kept until the end, the first: after a flood of forged sources the others are only counted. */
const MAX_KEPT = 16_384
/** Fewer ports are no part of a knock that could be recognised. */
export const MIN_PORTS = 6
/** A burst is over when nothing has come for so many milliseconds: longer than a tap counts. */
const REST = 12_000
/** Datagrams that may be knocks and were none. */
const MAX_DATAGRAMS = 4_096

/** Touches of one source between two rests. */
export interface Burst {
  readonly source: string
  readonly destination: string
  readonly first: number
  last: number
  taps: number
  /** port → when it was last touched, in Unix milliseconds; the latest {@link MAX_PORTS}, as a session has them. */
  readonly ports: Map<number, number>
}

/** A datagram that may be a knock. */
export interface Datagram {
  readonly source: string
  readonly destination: string
  readonly port: number
  readonly payload: Uint8Array
  readonly at: number
}

/** Collects bursts. */
export class Bursts {
  readonly #live = new Map<string, Burst>()
  readonly kept: Burst[] = []
  readonly datagrams: Datagram[] = []
  /** Bursts, and datagrams, for which there was no room. */
  lost = 0

  /** Takes a tap. @param at Unix milliseconds */
  add({ source, destination, port, payload }: Tap, at: number): void {
    if (payload) {
      if (this.datagrams.length < MAX_DATAGRAMS) this.datagrams.push({ source, destination, port, payload, at })
      else this.lost++
      return
    }
    const name = `${source} ${destination}`
    let burst = this.#live.get(name)
    if (burst && at - burst.last > REST) {
      this.#keep(name, burst)
      burst = undefined
    }
    burst ??= { source, destination, first: at, last: at, taps: 0, ports: new Map() }
    // Deleted and set again, so that both maps stay in order of the latest touch.
    this.#live.delete(name)
    this.#live.set(name, burst)
    burst.last = at
    burst.taps++
    burst.ports.delete(port)
    burst.ports.set(port, at)
    if (burst.ports.size > MAX_PORTS) burst.ports.delete(burst.ports.keys().next().value as number)
    if (this.#live.size > MAX_LIVE) {
      const [[oldest, its]] = this.#live
      this.#keep(oldest, its)
    }
  }

  /** There will be no more. */
  end(): void {
    for (const [name, burst] of this.#live) this.#keep(name, burst)
  }

  #keep(name: string, burst: Burst): void {
    this.#live.delete(name)
    if (burst.ports.size < MIN_PORTS) return
    if (this.kept.length < MAX_KEPT) this.kept.push(burst)
    else this.lost++
  }
}
