import { type Entry, nameOf, Refused } from '../../gate/firewall'
import type { OwnChanges } from '../nftables/monitor'
import { endsByItself, readRule, ruleOf } from './rules'
import { type Family, type FilterTable, isRefusal, LEASES, restore } from './table'
import { type Abilities, NO_TIME, tryAbilities } from './trial'

/** The leases and locks of a family as rules of one chain, whichever table that is in. */
export class LeaseRules {
  readonly #family: Family
  readonly #warn: (message: string) => void
  readonly #own: OwnChanges
  /** The lines of our rules as they were last read, by the names of their entries. */
  #lines = new Map<string, string>()
  /** What the kernel can do, when it has been tried. */
  #abilities: Abilities | null = null
  /** Rules in our chain that are not ours, which are told of once. */
  #others: readonly string[] = []

  /** @param own by which others know which changes of the family's table are ours */
  constructor(family: Family, warn: (message: string) => void, own: OwnChanges) {
    this.#family = family
    this.#warn = warn
    this.#own = own
  }

  /** What the kernel can do. @throws where that can't be known now */
  async abilities(): Promise<Abilities> {
    if (this.#abilities) return this.#abilities
    const found = await tryAbilities(this.#family)
    if (!found.ends) this.#warn(`${this.#family}: ${NO_TIME}`)
    this.#abilities = found
    return found
  }

  /** Reads the entries back, and tells of rules that are not ours. */
  read({ leases }: FilterTable): Entry[] {
    const rules = leases.map((line) => ({ line, entry: readRule(line) }))
    for (const { line, entry } of rules)
      if (!entry && !this.#others.includes(line)) this.#warn(`${this.#family}: ignoring a foreign rule in ${LEASES}: ${line}`)
    this.#others = rules.flatMap(({ line, entry }) => (entry ? [] : line))
    this.#lines = new Map(rules.flatMap(({ line, entry }) => (entry ? [[nameOf(entry), line]] : [])))
    return rules.flatMap(({ entry }) => entry ?? [])
  }

  /** By the line that was read: another version of ours may have made it. */
  lineOf(entry: Entry): string {
    return this.#lines.get(nameOf(entry)) ?? `-A ${LEASES} ${ruleOf(entry, this.#abilities?.ends)}`
  }

  /** What takes an entry's rule away. */
  removalOf(entry: Entry): string {
    return this.lineOf(entry).replace('-A', '-D')
  }

  /** Whether the kernel ends an entry when its time comes. */
  endsByItself(entry: Entry): boolean {
    return endsByItself(this.lineOf(entry))
  }

  /** The rules of a chain that is written anew: those that stand and are wanted or another's stay, with their counters, each once. */
  anew({ leases, counters }: FilterTable, entries: readonly Entry[]): string[] {
    const wanted = new Map(entries.map((entry) => [nameOf(entry), entry]))
    const kept = leases.flatMap((line, i) => {
      const entry = readRule(line)
      return !entry || wanted.delete(nameOf(entry)) ? `${counters[i]} ${line}` : []
    })
    return [...kept, ...[...wanted.values()].map((entry) => `[0:0] ${this.lineOf(entry)}`)]
  }

  /** Applies a script in one step. @throws {Refused} where nothing was changed */
  async apply(script: string): Promise<void> {
    try {
      await this.#own.make(() => restore(this.#family, script))
    } catch (error) {
      throw isRefusal(error) ? new Refused(error.message) : error
    }
  }
}
