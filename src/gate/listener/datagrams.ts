import { bytesToHex } from '@noble/hashes/utils.js'
import { hintOf, openDatagram } from '../../protocol/datagram'
import { identity } from '../../protocol/knock'
import type { Now } from '../clock'
import { arrivalOf, type Knock } from '../knock'
import type { Tap } from '../tap'
import type { Budget } from './budget'
import type { Queue } from './queue'
import type { Table } from './table'

/* docs/protocol.md, "Datagram knock": a knock by itself, beside the steps of "Receiving". */

/** What nearly every datagram opens. */
const NONE: Knock[] = []

/** Opens knocks in one datagram. They leave nothing behind. */
export class Datagrams {
  readonly #skew: number
  readonly #table: Table
  readonly #budget: Budget
  readonly #queue: Queue

  constructor(skew: number, table: Table, budget: Budget, queue: Queue) {
    this.#skew = skew
    this.#table = table
    this.#budget = budget
    this.#queue = queue
  }

  /**
   * Its hint says by which key and window to try it, once; where the budget is out, it is dropped: its sender says it again.
   * @returns the knock that it is, if any
   */
  hear({ source, destination }: Tap, payload: Uint8Array, now: Now): Knock[] {
    const hint = hintOf(payload)
    const candidate = hint === null ? undefined : this.#table.announced(hint)
    if (!candidate || !this.#table.has(candidate.key)) return NONE
    const arrival = arrivalOf(candidate, now.steady, now, this.#skew)
    this.#queue.turn(now.steady)
    if (!this.#budget.takeDatagram(candidate, arrival === 'stale')) return NONE
    const { key, window } = candidate
    const opened = openDatagram(key, window, payload)
    if (!opened) return NONE
    const v = bytesToHex(identity(opened.sealed))
    return [{ key, window, request: opened.request, v, source, destination, heard: now.steady, arrival }]
  }
}
