import { setTimeout as sleep } from 'node:timers/promises'
import { isLoopback } from '../protocol/address'
import { Fault } from '../system/fault'
import { type Guarded, guards } from './guard'
import { ESTABLISHED, eachSocket } from './sockets'

/** Milliseconds between two looks at whether they have ended: nothing is urgent about it. */
const LOOK = 10_000
/** Connections that are remembered: a server with more of them at its start is looked at again when they are fewer. */
const MAX_CONNECTIONS = 65_536

/**
 * Connections to guarded ports that are older than the guard, so that the kernel may not know them: what is not of a connection that it knows
 * is dropped only when they have ended. Those that containers have are known, since what leads to them keeps track of them.
 */
export class UnknownConnections {
  readonly #ports: readonly Guarded[]
  /** Those of the first look that are still there; null before it, and where they can't be seen. */
  #left: ReadonlySet<string> | null = null

  constructor(ports: readonly Guarded[]) {
    this.#ports = ports
  }

  /** Whether there are none. Where that can't be known there may be some. */
  get isNone(): boolean {
    return this.#left?.size === 0
  }

  /** Looks which of them are still there: all that there are, the first time. */
  async look(): Promise<void> {
    const there = new Set<string>()
    let isTooMany = false
    try {
      await eachSocket('tcp', ({ state, local, port, peer, peerPort }) => {
        if (state !== ESTABLISHED || isLoopback(peer) || !guards(this.#ports, { protocol: 'tcp', port })) return
        const name = `${local} ${port} ${peer} ${peerPort}`
        if (this.#left && !this.#left.has(name)) return
        if (there.size > MAX_CONNECTIONS) isTooMany = true
        else there.add(name)
      })
      // Those that are not remembered may be there for long: nothing is known then.
      this.#left = isTooMany ? null : there
    } catch (error) {
      if (!(error instanceof Fault)) throw error
    }
  }
}

/** Looks until there are none, and says so then, or until it is aborted. */
export async function watchUnknown(unknown: UnknownConnections, isKnown: () => void, signal: AbortSignal): Promise<void> {
  while (!unknown.isNone && !signal.aborted) {
    await sleep(LOOK, undefined, { signal, ref: false }).catch(() => {})
    await unknown.look()
    if (unknown.isNone && !signal.aborted) isKnown()
  }
}
