import type { Why } from '../../gate/change'
import type { Now } from '../../gate/clock'
import { type Batch, type Entry, isLease, type Lease, leaseName, nameOf, type Table } from '../../gate/firewall'
import type { Leases } from '../../gate/leases'
import type { Outcome, Waiter } from './waiting'

/** What the kernel has ended by itself is swept up when nobody waits for a door, or when it has lain there for so many milliseconds. */
const LATEST_SWEEP = 10_000

/** An entry whose place in the firewall may have to change. */
export interface Due {
  readonly entry: Entry
  /** `stray`: it stands there, and we have not put it there; `lost`: another program has taken it away. */
  readonly why: Why | 'stray' | 'lost'
  /** When it became due, and when it may be tried: in steady milliseconds. */
  readonly since: number
  readonly notBefore: number
}

/** What an earlier run has left in force, and how long the kernel keeps it, in milliseconds, where it says so. */
export interface Adopted {
  readonly entries: readonly Entry[]
  readonly left: ReadonlyMap<Entry, number>
}

/** What stands in a table as far as we know, what of it is due to change, and so what to change next. */
export class Plan {
  readonly #table: Pick<Table, 'holds' | 'endsByItself' | 'clock'>
  readonly #leases: Leases
  /** Told of a lease that has come to stand there. */
  readonly #opened: (lease: Lease) => void
  /** Both by name. */
  #standing = new Map<string, Entry>()
  /** How often each lease stands there: twice while it is made longer. By {@link leaseName}. */
  #leasesThere = new Map<string, number>()
  readonly #due = new Map<string, Due>()

  constructor(table: Pick<Table, 'holds' | 'endsByItself' | 'clock'>, leases: Leases, opened: (lease: Lease) => void) {
    this.#table = table
    this.#leases = leases
    this.#opened = opened
  }

  // ---- what stands

  standing(): Iterable<Entry> {
    return this.#standing.values()
  }

  /** Whether a lease stands there, with this end or another. */
  standsAnyhow(lease: Lease): boolean {
    return this.#leasesThere.has(leaseName(lease))
  }

  stands(entry: Entry): boolean {
    return this.#standing.has(nameOf(entry))
  }

  /** All that should stand in the table. */
  wanted(): Entry[] {
    return this.#leases.all().filter(({ address }) => this.#table.holds(address))
  }

  /** What an entry has become, where it is still wanted. */
  heirOf(entry: Entry): Entry | undefined {
    const current = this.#leases.current(entry)
    return current?.id === entry.id ? current : undefined
  }

  /** Notes all that stands, as the objects that we know. @returns whether each stands there once */
  stand(entries: readonly Entry[]): boolean {
    const before = this.#standing
    this.#standing = new Map()
    this.#leasesThere = new Map()
    for (const entry of entries) this.#put(before.get(nameOf(entry)) ?? this.#due.get(nameOf(entry))?.entry ?? entry)
    this.strike()
    return this.#standing.size === entries.length
  }

  /** Notes that a change was made. */
  made({ add, remove }: Batch): void {
    for (const { entry } of remove) if (this.#standing.delete(nameOf(entry)) && isLease(entry)) this.#count(entry, -1)
    for (const entry of add) this.#put(entry)
    this.strike()
  }

  #put(entry: Entry): void {
    const name = nameOf(entry)
    if (isLease(entry) && !this.#standing.has(name)) this.#count(entry, 1)
    this.#standing.set(name, entry)
    this.#leases.stands(entry)
    if (isLease(entry) && this.#due.has(name)) this.#opened(entry)
  }

  #count(lease: Lease, change: number): void {
    const name = leaseName(lease)
    const count = (this.#leasesThere.get(name) ?? 0) + change
    if (count > 0) this.#leasesThere.set(name, count)
    else this.#leasesThere.delete(name)
  }

  // ---- what is due

  get isDone(): boolean {
    return this.#due.size === 0
  }

  due(): Iterable<Due> {
    return this.#due.values()
  }

  dueOf(entry: Entry): Due | undefined {
    return this.#due.get(nameOf(entry))
  }

  /** Notes that an entry is due as of now. */
  note(entry: Entry, why: Due['why'], { steady }: Now): void {
    this.#due.set(nameOf(entry), { entry, why, since: steady, notBefore: steady })
  }

  /** @param notBefore in steady milliseconds */
  putOff(due: Due, notBefore: number): void {
    this.#due.set(nameOf(due.entry), { ...due, notBefore })
  }

  /** Strikes an entry out, whatever stands. */
  giveUp(entry: Entry): void {
    this.#due.delete(nameOf(entry))
  }

  /** Strikes out what is as it should be: only where it is known what stands. */
  strike(): void {
    for (const [name, { entry }] of this.#due) if (this.#leases.wants(entry) === this.#standing.has(name)) this.#due.delete(name)
  }

  /**
   * Notes what stands there and should not, and what does not and should, as far as it is not on its way.
   * @returns each lease for one connection that is gone, which is not to be put back; and whether there is anything else
   */
  compare(now: Now): { gone: Lease[]; isOther: boolean } {
    const lost = this.wanted().filter((entry) => !this.stands(entry) && !this.dueOf(entry))
    // The kernel has forgotten who has had the one connection: another one would be one too many.
    const isOver = (entry: Entry): entry is Lease => isLease(entry) && entry.once && this.#leases.hasStood(entry)
    const gone = lost.filter(isOver)
    const missing = lost.filter((entry) => !isOver(entry))
    for (const entry of missing) this.note(entry, 'lost', now)
    const strays = [...this.#standing.values()].filter((entry) => !this.#leases.wants(entry) && !this.dueOf(entry))
    for (const entry of strays) this.note(entry, 'stray', now)
    return { gone, isOther: missing.length + strays.length > 0 }
  }

  // ---- what to change next

  /**
   * What is to be done now, in one step.
   * @param isMeant of what is due; everything, unless it is given
   */
  compose({ steady, wall }: Now, isMeant: (due: Due) => boolean = () => true): Batch {
    const add: Entry[] = []
    const ends: Due[] = []
    const sweeps: Due[] = []
    for (const due of this.#due.values()) {
      const { entry } = due
      const isWanted = this.#leases.wants(entry)
      if (!isMeant(due)) continue
      else if (isWanted) {
        if (due.notBefore <= steady) add.push(entry)
      } else if (this.#isSwept(entry, { steady, wall })) sweeps.push(due)
      else if (!this.#awaitsHeir(due, isMeant, steady)) ends.push(due)
    }
    // What could not be taken away waits for its next try, and goes with every change that is made anyway.
    const isDue = ({ notBefore }: Due) => notBefore <= steady
    const isIdle = add.length === 0 && !ends.some(isDue)
    const swept = sweeps.filter((due) => isDue(due) && (isIdle || steady - due.since >= LATEST_SWEEP))
    return { add, remove: [...(isIdle && swept.length === 0 ? [] : ends), ...swept] }
  }

  /** Whether the kernel has ended an entry, by the clock that it counts. */
  #isSwept(entry: Entry, now: Now): boolean {
    return this.#table.endsByItself(entry) && this.#leases.isOver(entry, now, this.#table.clock)
  }

  /** Whether an entry stays until the one that takes its place is in force, or goes with it in one step: not in one that leaves that out. */
  #awaitsHeir({ entry, why }: Due, isMeant: (due: Due) => boolean, steady: number): boolean {
    // One that was given up and stands there all the same is a stray.
    const heir = why === 'replaced' || why === 'stray' ? this.#leases.current(entry) : undefined
    if (!heir || this.stands(heir)) return false
    const due = this.dueOf(heir)
    return due === undefined || due.notBefore > steady || !isMeant(due)
  }

  /** What has become of what somebody waits for; null: that is still to come. */
  outcomeOf({ entry, for: what }: Waiter): Outcome | null {
    if (what === 'gone') return this.stands(entry) ? null : 'ended'
    const heir = this.heirOf(entry)
    // One that was closed while it was put in force has been in force.
    if (this.stands(heir ?? entry)) return 'in force'
    return heir ? null : 'ended'
  }
}
