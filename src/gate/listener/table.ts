import { QUORUM, RENDEZVOUS, rendezvous } from '../../protocol/codebook'
import { hint, hintNumber } from '../../protocol/datagram'
import type { Key } from '../../protocol/key'
import { acceptedWindows } from '../clock'
import type { PortFilter } from './port-filter'
import { Tally } from './tally'

/* docs/protocol.md, "Receiving" 1: the table, rendezvous port → keys and windows. */

/** Most entries of a table that also holds far windows: some 350 keys. */
const MAX_ENTRIES_WITH_FAR = 65_536
/** Windows beyond each side that are held to tell a user of a wrong clock. */
export const FAR = 10
/** Windows beyond each side that are always held: the next one is ready before its time, the last one still explains a late knock. */
const MARGIN = 1
const PORTS = 65_536
/** Places for which each port has room at first; it grows by doubling. */
const FIRST_ROOM = 4
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
 * The rendezvous ports of every window of interest of every key, by port.
 * It is filled and emptied in slices, so that ten thousand keys do not hold up the loop when a window passes. Candidates have places, by
 * number: where a port has two dozen candidates, to follow each by reference is what costs.
 */
export class Table {
  readonly #skew: number
  /** Places of the candidates that a port may point to: those of a port lie side by side, with room for so many each. */
  #places = new Int32Array(PORTS * FIRST_ROOM)
  #room = FIRST_ROOM
  /** port → how many they are */
  readonly #counts = new Uint16Array(PORTS)
  readonly #candidates: (Candidate | undefined)[] = []
  /** 8 rendezvous ports for each place */
  #rendezvous = new Uint16Array(RENDEZVOUS * FIRST_PLACES)
  readonly #free: number[] = []
  readonly #keys = new Set<Key>()
  /** period → window → column */
  readonly #columns = new Map<number, Map<number, Column>>()
  readonly #passed: number[] = []
  /** period → the first accepted window for which all its columns are there */
  readonly #synced = new Map<number, number>()
  /** hint → the candidate that it announces. Two of ten thousand keys have one hint once in some 10^9 windows: the later one has it then. */
  readonly #hints = new Map<bigint, Candidate>()
  readonly #datagrams: boolean
  #margin = FAR
  /** Grows with each candidate that is added. */
  #version = 0

  /** @param datagrams whether hints are wanted, too */
  constructor(skew: number, datagrams = false) {
    this.#skew = skew
    this.#datagrams = datagrams
  }

  /** Whether a port points to any candidate; nearly all are a stranger's. */
  knows(port: number): boolean {
    return this.#counts[port] > 0
  }

  /** Nothing is counted in it yet. */
  newTally(): Tally {
    return new Tally(this.#candidates.length, this.#version)
  }

  /** Whether a tally has been made since the last candidate was added: it has not counted what was heard of that before. */
  isCurrent(tally: Tally): boolean {
    return tally.version === this.#version
  }

  /** Counts a port that was heard. @returns the candidates that it points to and whose quorum the tally can't rule out */
  suspects(port: number, heard: Tally): readonly Candidate[] {
    let found: Candidate[] = NONE
    const places = this.#places
    const from = port * this.#room
    const to = from + this.#counts[port]
    for (let i = from; i < to; i++) {
      if (heard.add(places[i]) < QUORUM) continue
      if (found === NONE) found = []
      found.push(this.#candidates[places[i]] as Candidate)
    }
    return found
  }

  /** Those whose quorum a filter can't rule out, for a session without a tally. */
  suspectsAmong(port: number, heard: PortFilter): readonly Candidate[] {
    let found: Candidate[] = NONE
    const from = port * this.#room
    const to = from + this.#counts[port]
    for (let i = from; i < to; i++) {
      if (heard.countOf8(this.#rendezvous, RENDEZVOUS * this.#places[i]) < QUORUM) continue
      if (found === NONE) found = []
      found.push(this.#candidates[this.#places[i]] as Candidate)
    }
    return found
  }

  /** Takes a port back that was counted. */
  forget(port: number, heard: Tally): void {
    const from = port * this.#room
    const to = from + this.#counts[port]
    for (let i = from; i < to; i++) heard.remove(this.#places[i])
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
    this.#synced.clear()
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
    let isWhole = true
    for (const [period, columns] of this.#columns) {
      const { first, last } = acceptedWindows(wall, period, this.#skew)
      if (this.#synced.get(period) === first) continue
      for (const [window, column] of columns) {
        if (window >= first - this.#margin && window <= last + this.#margin) continue
        for (const place of column.places.values()) this.#passed.push(place)
        columns.delete(window)
      }
      let rest = false
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
      if (rest) isWhole = false
      else this.#synced.set(period, first)
    }
    while (this.#passed.length > 0 && left-- > 0) this.#unlink(this.#passed.pop() as number)
    return isWhole && this.#passed.length === 0
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
    this.#version++
    column.places.set(key, place)
    for (const port of candidate.rendezvous) {
      if (this.#counts[port] === this.#room) this.#grow()
      this.#places[port * this.#room + this.#counts[port]++] = place
    }
  }

  /** Twice as much room for each port. */
  #grow(): void {
    const wider = new Int32Array(2 * this.#places.length)
    for (let port = 0; port < PORTS; port++) {
      if (this.#counts[port] === 0) continue
      const from = port * this.#room
      wider.set(this.#places.subarray(from, from + this.#counts[port]), 2 * from)
    }
    this.#places = wider
    this.#room *= 2
  }

  #unlink(place: number): void {
    const candidate = this.#candidates[place]
    if (candidate?.hint != null && this.#hints.get(candidate.hint) === candidate) this.#hints.delete(candidate.hint)
    for (const port of candidate?.rendezvous ?? []) {
      const from = port * this.#room
      const last = from + --this.#counts[port]
      // The last one takes its place.
      this.#places[this.#places.indexOf(place, from)] = this.#places[last]
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
