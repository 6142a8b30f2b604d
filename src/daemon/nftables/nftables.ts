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
import { CommandFault, feed } from '../../system/commands'
import type { Rules } from '../backends/backend'
import { TABLE } from './elements'
import { tableLines } from './installation'
import { isCurrent, isWhole, readRules, readTable } from './listing'
import { placeLines, Standing } from './standing'

/**
 * Leases as elements of sets in a table of our own.
 * @param rules what the table is to have beside them, as of now
 * @param warn told what an administrator should know
 */
export function nftablesFirewall(rules: () => Rules, warn: (message: string) => void, now: () => number = Date.now): Firewall {
  return [new NftTable(rules, warn, now)]
}

class NftTable implements Table {
  readonly name = 'nftables'
  /** One batch deletes any number of elements. */
  readonly maxRemoved = Infinity
  readonly #rules: () => Rules
  readonly #warn: (message: string) => void
  readonly #now: () => number
  #standing = new Standing()
  /** Which table was last read; undefined before the first time. */
  #handle: number | null | undefined
  #others: readonly string[] = []

  constructor(rules: () => Rules, warn: (message: string) => void, now: () => number) {
    this.#rules = rules
    this.#warn = warn
    this.#now = now
  }

  holds(): boolean {
    return true
  }

  endsByItself({ until }: Entry): boolean {
    return until !== null
  }

  /** The rules alone are read and put back first: with many leases, reading those takes seconds, in which whatever is guarded would be open. */
  async hold(): Promise<boolean> {
    const listing = await readRules()
    if (isWhole(listing)) return false
    await apply(tableLines(this.#rules(), listing.places))
    return true
  }

  async read(): Promise<Read> {
    const listing = await readTable()
    const { entries, others, places, limits, rounds } = listing
    // Somebody has put back a table that they had saved: what it says of limits is that none has been used.
    const isAnother = typeof this.#handle === 'number' && listing.handle !== this.#handle
    const armed = isAnother ? entries.filter((entry) => isLease(entry) && entry.once) : []
    this.#handle = listing.handle
    this.#standing = new Standing(entries, places, limits, rounds)
    for (const line of others) if (!this.#others.includes(line)) this.#warn(`ignoring a foreign element in ${TABLE}: ${line}`)
    this.#others = others
    await this.#sweep()
    const isMet = this.#standing.isMet(listing.met, this.#now())
    return {
      entries: this.#standing.entries().filter((entry) => !armed.includes(entry)),
      isWhole: isWhole(listing) && isMet && armed.length === 0,
      isOutdated: !isCurrent(listing, this.#rules()),
    }
  }

  async change(batch: Batch): Promise<void> {
    const { lines, places, made } = this.#standing.compose(batch, this.#now())
    await apply([...places.flatMap(placeLines), ...lines])
    made()
  }

  /** The rules first: what is guarded is shut in a few milliseconds, and 65,536 leases take a second. */
  async rewrite(entries: readonly Entry[]): Promise<void> {
    const wanted = new Set(entries.map(nameOf))
    const there = this.#standing.entries()
    const standing = new Set(there.map(nameOf))
    const remove = there.filter((entry) => !wanted.has(nameOf(entry))).map((entry) => ({ entry, why: 'stray' }))
    const add = entries.filter((entry) => !standing.has(nameOf(entry)))
    const { lines, places, made } = this.#standing.compose({ add, remove }, this.#now())
    await apply(tableLines(this.#rules(), [...this.#standing.places(), ...places]))
    await apply([...this.#standing.repairs(this.#now()), ...lines])
    made()
  }

  /** Limits that no lease needs are deleted one by one: the kernel may still hold one for an element that has ended. */
  async #sweep(): Promise<void> {
    for (const limit of this.#standing.idleLimits()) {
      const isGone = await feed('nft', ['-f', '-'], `delete limit ${TABLE} ${limit}\n`).then(
        () => true,
        () => false,
      )
      if (isGone) this.#standing.forgetLimit(limit)
    }
  }
}

/** One transaction: all of it or nothing, by nft's exit code. */
async function apply(lines: readonly string[]): Promise<void> {
  if (lines.length === 0) return
  try {
    await feed('nft', ['-f', '-'], `${lines.join('\n')}\n`)
  } catch (error) {
    throw error instanceof CommandFault && error.exitCode === 1 ? new Refused(error.message) : error
  }
}
