import type { Batch, Entry, Firewall, Standing, Table } from '../../gate/firewall'
import { OwnChanges } from '../nftables/monitor'
import { installScript, isConnected, marks, reach } from './chains'
import { LeaseRules } from './lease-rules'
import { type Family, type FilterTable, familyOf, MAX_REMOVED, partlyRead, readTable, scriptOf } from './table'

/**
 * Leases as rules of iptables and ip6tables.
 * @param tables those that this machine has, as they were read; leases of other families can't be opened
 * @param warn told what an administrator should know
 * @param own by which others know which changes of a family's table are ours
 */
export function iptablesFirewall(
  tables: readonly FilterTable[],
  warn: (message: string) => void,
  own: ReadonlyMap<Family, OwnChanges> = new Map(),
): Firewall {
  return tables.map((table) => new IptablesTable(table, warn, own.get(table.family) ?? new OwnChanges()))
}

/** The filter table of one family. */
class IptablesTable implements Table {
  readonly name: Family
  readonly clock = 'wall'
  readonly maxRemoved = MAX_REMOVED
  readonly #warn: (message: string) => void
  readonly #rules: LeaseRules
  /** The table as it was last read. */
  #table: FilterTable
  /** The log rules as they were when last seen. What is taken from among them is the administrator's doing; all of them at once is a flush. */
  #taps: readonly string[] = []
  /** Whether connections that a lease lets in are marked: as they were when our chains were put there, else where the kernel can. */
  #isMarked = false

  constructor(table: FilterTable, warn: (message: string) => void, own: OwnChanges) {
    this.name = table.family
    this.#table = table
    this.#warn = warn
    this.#rules = new LeaseRules(table.family, warn, own)
  }

  holds(address: string): boolean {
    return familyOf(address) === this.name
  }

  endsByItself(entry: Entry): boolean {
    return this.#rules.endsByItself(entry)
  }

  async read(): Promise<Standing> {
    const wasWhole = this.#table.isWhole
    const table = await readTable(this.name)
    this.#table = table
    if (wasWhole && !table.isWhole) this.#warn(await partlyRead(table))
    const abilities = await this.#rules.abilities()
    if (table.taps.length > 0) this.#taps = table.taps
    const entries = this.#rules.read(table)
    this.#isMarked = table.admit.length > 0 ? marks(table) : this.#isMarked || abilities.marks
    const isDeaf = table.taps.length === 0 && this.#taps.length > 0
    return { entries, isWhole: isConnected(table) && !isDeaf }
  }

  /** The new ones first: a lease that is made longer stays open in between. */
  async change({ add, remove }: Batch): Promise<void> {
    const added = add.map((entry) => this.#rules.lineOf(entry))
    const { lines, table } = reach(this.#table, added)
    const removed = remove.map(({ entry }) => this.#rules.removalOf(entry))
    await this.#rules.apply(scriptOf([...lines, ...added, ...removed]))
    this.#table = table
  }

  rewrite(entries: readonly Entry[]): Promise<void> {
    const rules = this.#rules.anew(this.#table, entries)
    const more = this.#table.taps.length === 0 ? this.#taps : []
    if (this.#table.taps.length + more.length === 0)
      this.#warn(`${this.name}: the log rules are missing, no knock is received: run "knockturn firewall install"`)
    return this.#rules.apply(installScript(this.#table, null, this.#isMarked, rules, more))
  }
}
