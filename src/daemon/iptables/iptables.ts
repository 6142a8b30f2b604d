import { type Batch, type Entry, type Firewall, nameOf, Refused, type Standing, type Table } from '../../gate/firewall'
import { OwnChanges } from '../nftables/monitor'
import { installScript, isConnected, marks, reach } from './chains'
import { endsByItself, readRule, ruleOf } from './rules'
import {
  type Family,
  type FilterTable,
  familyOf,
  isRefusal,
  LEASES,
  MAX_REMOVED,
  partlyRead,
  readTable,
  restore,
  scriptOf,
} from './table'
import { type Abilities, NO_TIME, tryAbilities } from './trial'

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
  readonly #own: OwnChanges
  /** The table as it was last read, and the lines of our rules in it, by the names of their entries. */
  #table: FilterTable
  #lines = new Map<string, string>()
  /** The log rules as they were when last seen. What is taken from among them is the administrator's doing; all of them at once is a flush. */
  #taps: readonly string[] = []
  /** Whether connections that a lease lets in are marked: as they were when our chains were put there, else where the kernel can. */
  #isMarked = false
  /** What the kernel can do, when it has been tried. */
  #abilities: Abilities | null = null
  /** Rules in our chain that are not ours, which are told of once. */
  #others: readonly string[] = []

  constructor(table: FilterTable, warn: (message: string) => void, own: OwnChanges) {
    this.name = table.family
    this.#table = table
    this.#warn = warn
    this.#own = own
  }

  holds(address: string): boolean {
    return familyOf(address) === this.name
  }

  endsByItself(entry: Entry): boolean {
    return endsByItself(this.#lineOf(entry))
  }

  async read(): Promise<Standing> {
    const wasWhole = this.#table.isWhole
    const table = await readTable(this.name)
    this.#table = table
    if (wasWhole && !table.isWhole) this.#warn(await partlyRead(table))
    this.#abilities ??= await this.#explore()
    if (table.taps.length > 0) this.#taps = table.taps
    const rules = table.leases.map((line) => ({ line, entry: readRule(line) }))
    for (const { line, entry } of rules)
      if (!entry && !this.#others.includes(line)) this.#warn(`${this.name}: ignoring a foreign rule in ${LEASES}: ${line}`)
    this.#others = rules.flatMap(({ line, entry }) => (entry ? [] : line))
    const entries = rules.flatMap(({ entry }) => entry ?? [])
    this.#lines = new Map(rules.flatMap(({ line, entry }) => (entry ? [[nameOf(entry), line]] : [])))
    this.#isMarked = table.admit.length > 0 ? marks(table) : this.#isMarked || this.#abilities.marks
    const isDeaf = table.taps.length === 0 && this.#taps.length > 0
    return { entries, isWhole: isConnected(table) && !isDeaf }
  }

  /** The new ones first: a lease that is made longer stays open in between. */
  async change({ add, remove }: Batch): Promise<void> {
    const added = add.map((entry) => this.#lineOf(entry))
    const { lines, table } = reach(this.#table, added)
    const removed = remove.map(({ entry }) => this.#lineOf(entry).replace('-A', '-D'))
    await this.#apply(scriptOf([...lines, ...added, ...removed]))
    this.#table = table
  }

  rewrite(entries: readonly Entry[]): Promise<void> {
    const wanted = new Map(entries.map((entry) => [nameOf(entry), entry]))
    const kept = keep(this.#table, wanted)
    const added = [...wanted.values()].map((entry) => `[0:0] ${this.#lineOf(entry)}`)
    const more = this.#table.taps.length === 0 ? this.#taps : []
    if (this.#table.taps.length + more.length === 0)
      this.#warn(`${this.name}: the log rules are missing, no knock is received: run "knockturn firewall install"`)
    return this.#apply(installScript(this.#table, null, this.#isMarked, [...kept, ...added], more))
  }

  async #apply(script: string): Promise<void> {
    try {
      await this.#own.make(() => restore(this.name, script))
    } catch (error) {
      throw isRefusal(error) ? new Refused(error.message) : error
    }
  }

  /** By the line that was read: another version of ours may have made it. */
  #lineOf(entry: Entry): string {
    return this.#lines.get(nameOf(entry)) ?? `-A ${LEASES} ${ruleOf(entry, this.#abilities?.ends)}`
  }

  async #explore(): Promise<Abilities> {
    const found = await tryAbilities(this.name)
    if (!found.ends) this.#warn(`${this.name}: ${NO_TIME}`)
    return found
  }
}

/** The rules that stay where they are, with their counters, each once: those that are wanted, which are taken out of `wanted`, and those of others. */
function keep(table: FilterTable, wanted: Map<string, Entry>): string[] {
  return table.leases.flatMap((line, i) => {
    const entry = readRule(line)
    return !entry || wanted.delete(nameOf(entry)) ? `${table.counters[i]} ${line}` : []
  })
}
