import { QUORUM, RENDEZVOUS, rendezvous } from '../protocol/codebook'
import { hintNumber } from '../protocol/datagram'
import { hint, type Key } from '../protocol/key'
import { acceptedWindows } from './clock'
import type { PortFilter } from './port-filter'

/** Most entries of a table that also holds far windows: some 350 keys (docs/protocol.md, "Receiving" 1). */
const MAX_ENTRIES_WITH_FAR = 65_536
/** Windows beyond each side that are held to tell a user of a wrong clock (docs/protocol.md, "Receiving" 1). */
export const FAR = 10
/** Windows beyond each side that are always held: the next one is ready before its time, the last one still explains a late knock. */
const MARGIN = 1
/** Places of a new table; it grows by doubling. */
const FIRST_PLACES = 1_024
/** No candidates: one array for all calls, of which nearly every one has none. */
const NONE: Candidate[] = []

/** One key in one window: what a rendezvous port may point to. */
export interface Candidate {
  readonly key: Key
  readonly window: number
  readonly rendezvous: Uint16Array
  /** What its datagrams begin with; null where none are heard. */
  readonly hint: bigint | null
}

/** One window of all keys of one period. */
interface Column {
  /** key → its candidate's place */
  readonly places: Map<Key, number>
  readonly missing: Set<Key>
}

/**
 * The rendezvous ports of every window of interest of every key, by port (docs/protocol.md, "Receiving" 1).
 * It is filled and emptied in slices, so that ten thousand keys do not hold up the loop when a window passes. Candidates have places, by
 * number, and their ports lie side by side: where a port has two dozen candidates, to follow each by reference is what costs.
 */
export class Table {
  readonly #skew: number
  /** port → places of the candidates that it may point to */
  readonly #ports: (number[] | undefined)[] = new Array(65536)
  readonly #candidates: (Candidate | undefined)[] = []
  /** 8 rendezvous ports for each place */
  #rendezvous = new Uint16Array(RENDEZVOUS * FIRST_PLACES)
  readonly #free: number[] = []
  readonly #keys = new Set<Key>()
  /** period → window → column */
  readonly #columns = new Map<number, Map<number, Column>>()
  readonly #passed: number[] = []
  /** hint → the candidate that it announces. Two of ten thousand keys have one hint once in some 10^9 windows: the later one has it then. */
  readonly #hints = new Map<bigint, Candidate>()
  readonly #datagrams: boolean
  #margin = FAR

  /** @param datagrams whether hints are wanted, too */
  constructor(skew: number, datagrams = false) {
    this.#skew = skew
    this.#datagrams = datagrams
  }

  /** Whether a port points to any candidate; nearly all are a stranger's. */
  knows(port: number): boolean {
    return this.#ports[port] !== undefined
  }

  /** The candidates that a port points to and whose quorum the filter can't rule out. */
  suspects(port: number, heard: PortFilter): readonly Candidate[] {
    let found: Candidate[] = NONE
    const places = this.#ports[port]
    if (!places) return found
    const rendezvous = this.#rendezvous
    for (let i = 0; i < places.length; i++) {
      if (heard.countOf8(rendezvous, RENDEZVOUS * places[i]) < QUORUM) continue
      if (found === NONE) found = []
      found.push(this.#candidates[places[i]] as Candidate)
    }
    return found
  }

  /** The candidate whose datagrams begin with this hint, or undefined; nearly all are a stranger's. */
  announced(hint: bigint): Candidate | undefined {
    return this.#hints.get(hint)
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
        for (const place of column.places.values()) this.#passed.push(place)
        columns.delete(window)
      }
      for (const window of nearestFirst(first, last, this.#margin)) {
        // Not even begun: to list ten thousand keys is a piece of work, too.
        if (left <= 0) {
          rest = true
          break
        }
        const column = columns.get(window) ?? this.#newColumn(period, window)
        for (const key of column.missing) {
          if (left-- <= 0) break
          column.missing.delete(key)
          this.#fill(column, key, window)
        }
        rest ||= column.missing.size > 0
      }
    }
    while (this.#passed.length > 0 && left-- > 0) this.#unlink(this.#passed.pop() as number)
    return !rest && this.#passed.length === 0
  }

  #newColumn(period: number, window: number): Column {
    const column = { places: new Map(), missing: new Set([...this.#keys].filter((key) => key.period === period)) }
    this.#columns.get(period)?.set(window, column)
    return column
  }

  #fill(column: Column, key: Key, window: number): void {
    // A clock before 1970 has windows that no knock can name.
    if (window < 0) return
    const announcement = this.#datagrams ? hintNumber(hint(key, window)) : null
    const candidate = { key, window, rendezvous: rendezvous(key, window), hint: announcement }
    if (announcement !== null) this.#hints.set(announcement, candidate)
    const place = this.#free.pop() ?? this.#candidates.length
    this.#candidates[place] = candidate
    if (RENDEZVOUS * place >= this.#rendezvous.length) {
      const longer = new Uint16Array(2 * this.#rendezvous.length)
      longer.set(this.#rendezvous)
      this.#rendezvous = longer
    }
    this.#rendezvous.set(candidate.rendezvous, RENDEZVOUS * place)
    column.places.set(key, place)
    for (const port of candidate.rendezvous) {
      const there = this.#ports[port]
      if (there) there.push(place)
      else this.#ports[port] = [place]
    }
  }

  #unlink(place: number): void {
    const candidate = this.#candidates[place]
    if (candidate?.hint != null && this.#hints.get(candidate.hint) === candidate) this.#hints.delete(candidate.hint)
    for (const port of candidate?.rendezvous ?? []) {
      const rest = this.#ports[port]?.filter((other) => other !== place)
      this.#ports[port] = rest?.length ? rest : undefined
    }
    this.#candidates[place] = undefined
    this.#free.push(place)
  }

  #add(key: Key): void {
    this.#keys.add(key)
    const columns = this.#columns.get(key.period)
    if (!columns) this.#columns.set(key.period, new Map())
    else for (const column of columns.values()) column.missing.add(key)
  }

  #drop(key: Key): void {
    this.#keys.delete(key)
    for (const column of this.#columns.get(key.period)?.values() ?? []) {
      const place = column.places.get(key)
      if (place !== undefined) this.#passed.push(place)
      column.places.delete(key)
      column.missing.delete(key)
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
