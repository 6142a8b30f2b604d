import { RENDEZVOUS, rendezvous } from '../protocol/codebook'
import type { Key } from '../protocol/key'
import { acceptedWindows } from './clock'

/** Most entries of a table that also holds far windows: some 350 keys (docs/protocol.md, "Receiving" 1). */
const MAX_ENTRIES_WITH_FAR = 65_536
/** Windows beyond each side that are held to tell a user of a wrong clock (docs/protocol.md, "Receiving" 1). */
export const FAR = 10
/** Windows beyond each side that are always held: the next one is ready before its time, the last one still explains a late knock. */
const MARGIN = 1

/** One key in one window: what a rendezvous port may point to. */
export interface Candidate {
  readonly key: Key
  readonly window: number
  readonly rendezvous: Uint16Array
}

/** One window of all keys of one period. */
interface Column {
  readonly candidates: Map<Key, Candidate>
  readonly missing: Key[]
}

/**
 * The rendezvous ports of every window of interest of every key, by port (docs/protocol.md, "Receiving" 1).
 * It is filled and emptied in slices, so that ten thousand keys do not hold up the loop when a window passes.
 */
export class Table {
  readonly #skew: number
  readonly #ports: (Candidate[] | undefined)[] = new Array(65536)
  readonly #keys = new Set<Key>()
  /** period → window → column */
  readonly #columns = new Map<number, Map<number, Column>>()
  readonly #passed: Candidate[] = []
  #margin = FAR

  constructor(skew: number) {
    this.#skew = skew
  }

  /** The candidates that a port may point to, or undefined: a stranger's port. */
  at(port: number): readonly Candidate[] | undefined {
    return this.#ports[port]
  }

  /** Whether a key is listened for. */
  has(key: Key): boolean {
    return this.#keys.has(key)
  }

  /** Whether far windows are held, so that a wrong clock can be named: with too many keys they are not. */
  get holdsFar(): boolean {
    return this.#margin === FAR
  }

  /** Takes over a new set of keys; keys that stay (the same object) keep their entries. {@link Table.sync} does the work. */
  setKeys(keys: readonly Key[]): void {
    const next = new Set(keys)
    for (const key of this.#keys) if (!next.has(key)) this.#drop(key)
    for (const key of next) if (!this.#keys.has(key)) this.#add(key)
    const windows = 2 * this.#skew + 1 + 2 * FAR
    this.#margin = next.size * windows * RENDEZVOUS <= MAX_ENTRIES_WITH_FAR ? FAR : MARGIN
  }

  /**
   * Brings the table up to the time, accepted windows first.
   * @param wall Unix time in milliseconds
   * @param limit most candidates to compute in this call
   * @returns whether nothing is left to do
   */
  sync(wall: number, limit: number): boolean {
    let left = limit
    let rest = false
    for (const [period, columns] of this.#columns) {
      const { first, last } = acceptedWindows(wall, period, this.#skew)
      for (const [window, column] of columns) {
        if (window >= first - this.#margin && window <= last + this.#margin) continue
        for (const candidate of column.candidates.values()) this.#passed.push(candidate)
        columns.delete(window)
      }
      for (const window of nearestFirst(first, last, this.#margin)) {
        const column = columns.get(window) ?? this.#newColumn(period, window)
        while (column.missing.length > 0 && left-- > 0) this.#fill(column, column.missing.pop() as Key, window)
        rest ||= column.missing.length > 0
      }
    }
    while (this.#passed.length > 0 && left-- > 0) this.#unlink(this.#passed.pop() as Candidate)
    return !rest && this.#passed.length === 0
  }

  #newColumn(period: number, window: number): Column {
    const column = { candidates: new Map(), missing: [...this.#keys].filter((key) => key.period === period) }
    this.#columns.get(period)?.set(window, column)
    return column
  }

  #fill(column: Column, key: Key, window: number): void {
    // A clock before 1970 has windows that no knock can name.
    if (window < 0) return
    const candidate = { key, window, rendezvous: rendezvous(key, window) }
    column.candidates.set(key, candidate)
    for (const port of candidate.rendezvous) {
      const there = this.#ports[port]
      if (there) there.push(candidate)
      else this.#ports[port] = [candidate]
    }
  }

  #unlink(candidate: Candidate): void {
    for (const port of candidate.rendezvous) {
      const rest = this.#ports[port]?.filter((other) => other !== candidate)
      this.#ports[port] = rest?.length ? rest : undefined
    }
  }

  #add(key: Key): void {
    this.#keys.add(key)
    const columns = this.#columns.get(key.period)
    if (!columns) this.#columns.set(key.period, new Map())
    else for (const column of columns.values()) column.missing.push(key)
  }

  #drop(key: Key): void {
    this.#keys.delete(key)
    for (const column of this.#columns.get(key.period)?.values() ?? []) {
      const candidate = column.candidates.get(key)
      if (candidate) this.#unlink(candidate)
      column.candidates.delete(key)
      const at = column.missing.indexOf(key)
      if (at >= 0) column.missing.splice(at, 1)
    }
  }
}

/** first..last, then outwards on both sides. */
function nearestFirst(first: number, last: number, margin: number): number[] {
  const windows: number[] = []
  for (let window = first; window <= last; window++) windows.push(window)
  for (let beyond = 1; beyond <= margin; beyond++) windows.push(last + beyond, first - beyond)
  return windows
}
