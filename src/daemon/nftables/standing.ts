import { type Batch, type Entry, isLease, type Lease, nameOf, Refused } from '../../gate/firewall'
import { commentOf, type Element, limitOf, listed, networkOf, ROOM, TABLE, versionOf } from './elements'
import { type Place, placeOf, setOf } from './places'
import { dataOf, Script } from './script'

/* What stands in our sets as far as we know, and the lines for nft that change it. */

/**
 * Knocks for one connection each that may be in force for one door at the same time: each needs a map of its own, since a map leads from a door
 * to one limit. People who share an address and knock in the same hour.
 */
const MAX_ROUNDS = 16

/** Milliseconds between the ends of two elements that end together, at most: they begin in one transaction, and reading them takes its time. */
const MOMENT = 60_000

/** What packets meet of a door. */
interface Met {
  readonly place: Place
  /** Unix seconds, or null: until closed. */
  readonly until: number | null
  /** When it ends in steady milliseconds, or Infinity. */
  readonly end: number
  /** The limit that a connection has to pass; null: none. */
  readonly limit: string | null
}

/** The lines of a change, and what has to be noted when it was made. */
export interface Change {
  readonly lines: readonly string[]
  /** Places that are new: they need their sets and rules. */
  readonly places: readonly Place[]
  made(): void
}

/** The entries that stand in our sets, and what packets meet of them. */
export class Standing {
  /** The entries, by their elements in the lists. */
  readonly #listed = new Map<string, Entry>()
  /** The leases of each door: address, protocol and port. */
  readonly #doors = new Map<string, readonly Lease[]>()
  /** The rounds of leases for one connection, by door and limit. */
  readonly #rounds = new Map<string, number>()
  readonly #places = new Set<string>()
  readonly #limits = new Set<string>()
  /** When an entry ends in steady milliseconds. */
  readonly #ends = new WeakMap<Entry, number>()

  /**
   * Takes over what was read.
   * @param rounds the maps in which limits were found, by door and limit (see {@link roundKey})
   * @param ends when an entry ends, in steady milliseconds; one that is not there stands until it is taken away
   */
  constructor(
    entries: readonly Entry[] = [],
    places: readonly Place[] = [],
    limits: readonly string[] = [],
    rounds: ReadonlyMap<string, number> = new Map(),
    ends: ReadonlyMap<Entry, number> = new Map(),
  ) {
    for (const [entry, end] of ends) this.#ends.set(entry, end)
    for (const place of places) this.#places.add(setOf(place))
    for (const limit of limits) this.#limits.add(limit)
    for (const [key, round] of rounds) this.#rounds.set(key, round)
    for (const entry of entries) this.#put(entry)
  }

  #endOf(entry: Entry): number {
    return this.#ends.get(entry) ?? Infinity
  }

  /** The entries, whether the kernel has ended them by now or not. */
  entries(): Entry[] {
    return [...this.#listed.values()]
  }

  /** The entries that the kernel has not ended. @param now steady milliseconds */
  current(now: number): Entry[] {
    return this.entries().filter((entry) => this.#endOf(entry) > now)
  }

  /** The sets that there are. */
  places(): Place[] {
    return [...this.#places].flatMap((name) => placeOf(name) ?? [])
  }

  /**
   * The lines that put what packets meet where somebody has taken it away.
   * @param met set and door of each element that they met when it was last read
   * @param now steady milliseconds
   */
  repairs(met: ReadonlyMap<string, number>, now: number): string[] {
    const script = new Script()
    for (const [door, leases] of this.#doors)
      for (const [set, { end, limit }] of this.#metBy(door, leases, new Map()))
        if (!met.has(`${set} ${door}`)) script.add({ set, key: door }, end - now, dataOf(limit))
    return script.lines()
  }

  /**
   * Whether packets meet all of it.
   * @param met set and door of each element that they meet
   * @param now steady milliseconds: what ends in the next moments may be gone from one set and not from the other
   */
  isMet(met: ReadonlyMap<string, number>, now: number): boolean {
    return [...this.#doors].every(([door, leases]) =>
      [...this.#metBy(door, leases, new Map())].every(([set, { end }]) => met.has(`${set} ${door}`) || end < now + MOMENT),
    )
  }

  /**
   * The sets in which packets meet what none of our leases is for, as where somebody has taken away the lease and left this.
   * @param met set and door of each element that they meet, and for how many seconds still: what ends now is none
   */
  straySets(met: ReadonlyMap<string, number>): string[] {
    const ours = new Set<string>()
    for (const [door, leases] of this.#doors)
      for (const set of this.#metBy(door, leases, new Map()).keys()) ours.add(`${set} ${door}`)
    const strays = [...met].flatMap(([element, left]) =>
      left > 1 && !ours.has(element) ? element.slice(0, element.indexOf(' ')) : [],
    )
    return [...new Set(strays)]
  }

  /** Limits that no lease needs any more. */
  idleLimits(): string[] {
    const needed = new Set([...this.#listed.values()].flatMap((entry) => (isLease(entry) && entry.once ? limitOf(entry) : [])))
    return [...this.#limits].filter((limit) => !needed.has(limit))
  }

  /** Forgets a limit that has been deleted. */
  forgetLimit(limit: string): void {
    this.#limits.delete(limit)
  }

  /** What stands of this name. */
  #known(entry: Entry): Entry | undefined {
    const known = this.#listed.get(textOf(listed(entry)))
    return known && nameOf(known) === nameOf(entry) ? known : undefined
  }

  #put(entry: Entry): void {
    this.#listed.set(textOf(listed(entry)), entry)
    if (isLease(entry)) this.#doors.set(doorOf(entry), [...(this.#doors.get(doorOf(entry)) ?? []), entry])
  }

  #drop(entry: Entry): void {
    const element = textOf(listed(entry))
    if (this.#listed.get(element) === entry) this.#listed.delete(element)
    if (!isLease(entry)) return
    const left = (this.#doors.get(doorOf(entry)) ?? []).filter((other) => other !== entry)
    if (left.length > 0) this.#doors.set(doorOf(entry), left)
    else this.#doors.delete(doorOf(entry))
  }

  /**
   * The lines that bring a change about.
   * @param now steady milliseconds, as the kernel's own clock counts them
   * @param left how long an entry that is added may stand, in milliseconds; Infinity: until it is taken away
   * @throws {Refused} where there is no room for it
   */
  compose({ add, remove }: Batch, now: number, left: (entry: Entry) => number): Change {
    for (const entry of add) this.#ends.set(entry, now + left(entry))
    const removed = remove.flatMap(({ entry }) => this.#known(entry) ?? [])
    if (this.#listed.size - removed.length + add.length > ROOM) throw new Refused(`there is no room for more than ${ROOM} leases`)
    const script = new Script()
    this.#composeLists(script, removed, add, now)
    const gone = new Set(removed)
    /** What is added at each door that changes. */
    const doors = new Map<string, Lease[]>([...removed, ...add].filter(isLease).map((lease) => [doorOf(lease), []]))
    for (const lease of add) if (isLease(lease)) doors.get(doorOf(lease))?.push(lease)
    const rounds = new Map<string, number>()
    const places = new Map<string, Place>()
    const limits = new Set<string>()
    for (const [door, more] of doors) {
      const before = this.#doors.get(door) ?? []
      const after = [...before.filter((lease) => !gone.has(lease)), ...more]
      for (const [key, round] of this.#roundsOf(door, after)) rounds.set(key, round)
      const [met, meant] = [this.#metBy(door, before, rounds), this.#metBy(door, after, rounds)]
      for (const [set, one] of met) if (!isSame(one, meant.get(set))) script.remove({ set, key: door }, one.limit)
      for (const [set, one] of meant) {
        if (isSame(one, met.get(set))) continue
        if (!this.#places.has(set)) places.set(set, one.place)
        if (one.limit !== null && !this.#limits.has(one.limit)) limits.add(one.limit)
        script.add({ set, key: door }, one.end - now, dataOf(one.limit))
      }
    }
    const made = () => {
      for (const entry of removed) this.#drop(entry)
      for (const entry of add) this.#put(entry)
      for (const [key, round] of rounds) this.#rounds.set(key, round)
      for (const set of places.keys()) this.#places.add(set)
      for (const limit of limits) this.#limits.add(limit)
    }
    // One connection in a day: a lease for one lasts an hour at most.
    const needed = [...limits].map((limit) => `add limit ${TABLE} ${limit} { rate 1/day burst 1 packets; }`)
    return { lines: [...needed, ...script.lines()], places: [...places.values()], made }
  }

  /** What a change is in the lists. */
  #composeLists(script: Script, removed: readonly Entry[], add: readonly Entry[], now: number): void {
    const gone = new Set(removed)
    const elements = new Map<string, Element>([...removed, ...add].map((entry) => [textOf(listed(entry)), listed(entry)]))
    const wanted = new Map(add.map((entry) => [textOf(listed(entry)), entry]))
    for (const [text, element] of elements) {
      const before = this.#listed.get(text)
      const entry = wanted.get(text)
      if (before && (gone.has(before) || entry)) script.remove(element)
      if (entry) script.add(element, this.#endOf(entry) - now, ` comment "${commentOf(entry)}"`)
    }
  }

  /** The rounds of a door's leases for one connection: what has one keeps it. @throws {Refused} where there are too many */
  #roundsOf(door: string, leases: readonly Lease[]): Map<string, number> {
    const keys = new Set(leases.filter(({ once }) => once).map((lease) => roundKey(door, limitOf(lease))))
    const found = new Map<string, number>()
    for (const key of keys) {
      const round = this.#rounds.get(key)
      if (round !== undefined) found.set(key, round)
    }
    for (const key of keys) {
      if (found.has(key)) continue
      const taken = new Set(found.values())
      const round = Array.from({ length: MAX_ROUNDS }, (_, n) => n).find((n) => !taken.has(n))
      if (round === undefined)
        throw new Refused(`more than ${MAX_ROUNDS} leases for one connection each by the same address and port`)
      found.set(key, round)
    }
    return found
  }

  /** What packets meet of a door, by set. */
  #metBy(door: string, leases: readonly Lease[], rounds: ReadonlyMap<string, number>): Map<string, Met> {
    const met = new Map<string, Met>()
    for (const lease of leases) {
      const limit = lease.once ? limitOf(lease) : null
      const round = limit === null ? null : (rounds.get(roundKey(door, limit)) ?? this.#rounds.get(roundKey(door, limit)) ?? 0)
      const place = placeFor(lease, round)
      const other = met.get(setOf(place))
      const end = Math.max(other?.end ?? 0, this.#endOf(lease))
      met.set(setOf(place), { place, limit, end, until: other ? later(other.until, lease.until) : lease.until })
    }
    return met
  }
}

/** By which the round of a limit at a door is known. */
export const roundKey = (door: string, limit: string): string => `${door} ${limit}`

/** The place of a lease. @param round which of the maps for one connection; null: the set for any number of them */
export const placeFor = ({ address }: Lease, round: number | null): Place => ({
  version: versionOf(address),
  bits: networkOf(address).bits,
  round,
})

/** A lease's door, as the key of an element. */
export const doorOf = ({ address, protocol, port }: Lease): string => `${networkOf(address).first} . ${protocol} . ${port}`

const textOf = ({ set, key }: Element): string => `${set} ${key}`
const isSame = (one: Met, other: Met | undefined): boolean => other?.until === one.until && other.limit === one.limit
const later = (one: number | null, other: number | null) => (one === null || other === null ? null : Math.max(one, other))
