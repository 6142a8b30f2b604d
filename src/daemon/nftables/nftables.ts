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
import { type Element, TABLE } from './elements'
import { tableLines } from './installation'
import { isCurrent, isWhole, readElements, readRules } from './listing'
import { placeLines, Standing } from './standing'

/**
 * Leases as elements of sets in a table of our own.
 * @param rules what the table is to have beside them, as of now
 * @param left how long an entry may stand from now on, in milliseconds; Infinity: until it is taken away
 * @param warn told what an administrator should know
 */
export function nftablesFirewall(rules: () => Rules, left: (entry: Entry) => number, warn: (message: string) => void): Firewall {
  return [new NftTable(rules, left, warn)]
}

/** The kernel's sets count by a monotonic clock, too. */
const steadyNow = (): number => performance.now()

class NftTable implements Table {
  readonly name = 'nftables'
  readonly clock = 'steady'
  /** One batch deletes any number of elements. */
  readonly maxRemoved = Infinity
  readonly #rules: () => Rules
  readonly #warn: (message: string) => void
  readonly #left: (entry: Entry) => number
  #standing = new Standing()
  #others: readonly string[] = []
  /** What packets met without a lease when it was last read. */
  #strays: readonly Element[] = []
  /** The kernel's number of the table; null before it was read, and where there was none. */
  #handle: number | null = null

  constructor(rules: () => Rules, left: (entry: Entry) => number, warn: (message: string) => void) {
    this.#rules = rules
    this.#left = left
    this.#warn = warn
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
    await this.#make(tableLines(this.#rules(), listing.places), listing.handle)
    return true
  }

  async read(): Promise<Read> {
    const ruleset = await readRules()
    const { entries, left, others, rounds, met } = await readElements(ruleset)
    const now = steadyNow()
    const ends = new Map([...left].map(([entry, ms]) => [entry, now + ms]))
    this.#standing = new Standing(entries, ruleset.places, ruleset.limits, rounds, ends)
    for (const line of others) if (!this.#others.includes(line)) this.#warn(`ignoring a foreign element in ${TABLE}: ${line}`)
    this.#others = others
    await this.#sweep()
    const isMet = this.#standing.isMet(met, now)
    this.#strays = this.#standing.strays(met)
    // Who has loaded the table anew has loaded limits that let another connection through: such leases count as taken away.
    const isAnew = this.#handle !== null && ruleset.handle !== null && ruleset.handle !== this.#handle
    this.#handle = ruleset.handle
    return {
      entries: this.#standing.entries().filter((entry) => !isAnew || !isLease(entry) || !entry.once),
      left,
      isWhole: isWhole(ruleset) && isMet && this.#strays.length === 0 && !isAnew,
      isOutdated: !isCurrent(ruleset, this.#rules()),
    }
  }

  async change(batch: Batch): Promise<void> {
    const { lines, places, made } = this.#standing.compose(batch, steadyNow(), this.#left)
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
    const { lines, places, made } = this.#standing.compose({ add, remove }, steadyNow(), this.#left)
    await this.#make(tableLines(this.#rules(), [...this.#standing.places(), ...places]), this.#handle)
    const ousted = this.#strays.map(({ set, key }) => `delete element ${TABLE} ${set} { ${key} }`)
    await apply([...ousted, ...this.#standing.repairs(steadyNow()), ...lines])
    this.#strays = []
    made()
  }

  /** Puts the table in place, and learns its number where there was none. */
  async #make(lines: readonly string[], handle: number | null): Promise<void> {
    await apply(lines)
    if (handle === null) this.#handle = (await readRules()).handle
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
