import {
  type Batch,
  type Entry,
  type Firewall,
  isLease,
  nameOf,
  type Standing as Read,
  Refused,
  type Table,
} from '../../gate/firewall'
import { CommandFault } from '../../system/commands'
import { steadyNow } from '../../system/time'
import type { Rules } from '../backends/backend'
import { limitOf, TABLE } from './elements'
import { tableLines } from './installation'
import { isCurrent, isWhole, type OurTable, readElements, readTable } from './listing'
import type { OwnChanges } from './monitor'
import { load, scriptOf } from './nft'
import { emptyLine, placeLines } from './places'
import { Standing } from './standing'

/**
 * Leases as elements of sets in a table of our own.
 * @param rules what the table is to have beside them, as of now
 * @param left how long an entry may stand from now on, in milliseconds; Infinity: until it is taken away
 * @param warn told what an administrator should know
 * @param own by which others know which changes of the table are ours
 */
export function nftablesFirewall(
  rules: () => Rules,
  left: (entry: Entry) => number,
  warn: (message: string) => void,
  own: OwnChanges,
): Firewall {
  return [new NftTable(rules, left, warn, own)]
}

/** Milliseconds after which all of it is read again, though nobody has said that anything has changed. */
const RELIED_ON = 60_000

/** The kernel's sets count by a monotonic clock, too. */
class NftTable implements Table {
  readonly name = 'nftables'
  readonly clock = 'steady'
  /** One batch deletes any number of elements. */
  readonly maxRemoved = Infinity
  readonly #rules: () => Rules
  readonly #warn: (message: string) => void
  readonly #left: (entry: Entry) => number
  readonly #own: OwnChanges
  #standing = new Standing()
  /** What packets met when it was last read; null: all that they should. */
  #met: ReadonlyMap<string, number> | null = new Map()
  /** Sets in which they met then what no lease is for. */
  #strays: readonly string[] = []
  #others: readonly string[] = []
  /** When all of it was last read, in steady milliseconds, if nothing can have changed since but by ourselves. */
  #known: number | null = null
  /** How often it was said that another program may have changed it. */
  #alarms = 0
  /** The kernel's number of the table; null before it was read, and where there was none. */
  #handle: number | null = null

  constructor(rules: () => Rules, left: (entry: Entry) => number, warn: (message: string) => void, own: OwnChanges) {
    this.#rules = rules
    this.#left = left
    this.#warn = warn
    this.#own = own
  }

  holds(): boolean {
    return true
  }

  endsByItself({ until }: Entry): boolean {
    return until !== null
  }

  /** The rules alone are read and put back first: with many leases, reading those takes seconds, in which whatever is guarded would be open. */
  async hold(): Promise<boolean> {
    this.#alarms++
    this.#known = null
    const table = await readTable()
    if (isWhole(table)) return false
    await this.#make(tableLines(this.#rules(), table.places), table.handle)
    return true
  }

  async read(): Promise<Read> {
    const alarms = this.#alarms
    const table = await readTable()
    const isSame = this.#own.isWatched && table.handle === this.#handle
    if (isSame && this.#known !== null && steadyNow() - this.#known < RELIED_ON) return this.#remembered(table)
    const { entries, left, others, rounds, met } = await readElements(table)
    const now = steadyNow()
    const ends = new Map([...left].map(([entry, ms]) => [entry, now + ms]))
    // One whose limit is gone is gone with it: nobody knows whether its connection was used.
    const limits = new Set(table.limits)
    const armed = entries.filter((entry) => !isLease(entry) || !entry.once || limits.has(limitOf(entry)))
    this.#standing = new Standing(armed, table.places, table.limits, rounds, ends)
    this.#strays = this.#standing.straySets(met)
    for (const line of others) if (!this.#others.includes(line)) this.#warn(`ignoring a foreign element in ${TABLE}: ${line}`)
    this.#others = others
    await this.#sweep()
    const isMet = this.#standing.isMet(met, now) && this.#strays.length === 0
    // With many leases this takes much memory.
    this.#met = isMet ? null : met
    this.#known = isMet && this.#own.isWatched && alarms === this.#alarms ? now : null
    // Who has loaded the table anew has loaded limits that let another connection through: such leases count as taken away.
    const isAnew = this.#handle !== null && table.handle !== null && table.handle !== this.#handle
    this.#handle = table.handle
    return {
      entries: this.#standing.entries().filter((entry) => !isAnew || !isLease(entry) || !entry.once),
      left,
      isWhole: isWhole(table) && isMet && !isAnew,
      isOutdated: !isCurrent(table, this.#rules()),
    }
  }

  /** What stands where nobody else has changed anything: to read all elements takes seconds, with many of them. */
  async #remembered(table: OurTable): Promise<Read> {
    await this.#sweep()
    return {
      entries: this.#standing.current(steadyNow()),
      isWhole: isWhole(table),
      isOutdated: !isCurrent(table, this.#rules()),
    }
  }

  async change(batch: Batch): Promise<void> {
    const { lines, places, made } = this.#standing.compose(batch, steadyNow(), this.#left)
    await this.#apply([...places.flatMap(placeLines), ...lines])
    made()
  }

  /** The rules first: what is guarded is shut in a few milliseconds, and 65,536 leases take a second. */
  async rewrite(entries: readonly Entry[]): Promise<void> {
    const wanted = new Set(entries.map(nameOf))
    const there = this.#standing.entries()
    const standing = new Set(there.map(nameOf))
    const remove = there.filter((entry) => !wanted.has(nameOf(entry))).map((entry) => ({ entry, why: 'stray' }))
    const add = entries.filter((entry) => !standing.has(nameOf(entry)))
    const { lines, places, made } = this.#standing.compose({ add, remove }, steadyNow(), this.#left)
    await this.#make(tableLines(this.#rules(), [...this.#standing.places(), ...places]), this.#handle)
    const isEmptied = (element: string) => this.#strays.some((set) => element.startsWith(`${set} `))
    const met = this.#met && new Map([...this.#met].filter(([element]) => !isEmptied(element)))
    const repairs = met ? this.#standing.repairs(met, steadyNow()) : []
    await this.#apply([...this.#strays.map(emptyLine), ...repairs, ...lines])
    made()
  }

  /** Puts the table in place, and learns its number where there was none. */
  async #make(lines: readonly string[], handle: number | null): Promise<void> {
    await this.#apply(lines)
    if (handle === null) this.#handle = (await readTable()).handle
  }

  /** Limits that no lease needs are deleted: one by one where that fails, since the kernel may still hold one for an element that has ended. */
  async #sweep(): Promise<void> {
    const idle = this.#standing.idleLimits()
    if (await this.#deletes(idle)) return
    for (const limit of idle) await this.#deletes([limit])
  }

  /** @returns whether they are gone */
  async #deletes(limits: readonly string[]): Promise<boolean> {
    try {
      await this.#apply(limits.map((limit) => `delete limit ${TABLE} ${limit}`))
    } catch {
      return false
    }
    for (const limit of limits) this.#standing.forgetLimit(limit)
    return true
  }

  /** One transaction: all of it or nothing, by nft's exit code. */
  async #apply(lines: readonly string[]): Promise<void> {
    if (lines.length === 0) return
    try {
      await this.#own.make(() => load(scriptOf(lines)))
    } catch (error) {
      this.#known = null
      throw error instanceof CommandFault && error.exitCode === 1 ? new Refused(error.message) : error
    }
  }
}
