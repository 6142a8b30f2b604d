import { type Batch, type Entry, type Firewall, nameOf, Refused, type Standing, type Table } from '../../gate/firewall'
import type { Rules } from '../backends/backend'
import { areWhole } from '../marks'
import { OwnChanges } from '../nftables/monitor'
import type { Place } from './follow'
import { commentOf, FIXED, GUARD_JUMP, guardRules, markedRules } from './guard-rules'
import { endsByItself, readRule, ruleOf } from './rules'
import {
  type Family,
  type FilterTable,
  familyOf,
  iptables,
  isRefusal,
  LEASES,
  MAX_REMOVED,
  parseTable,
  restore,
  scriptOf,
} from './table'
import { type Abilities, NO_TIME, tryAbilities } from './trial'

/**
 * Guarded ports and leases as rules of iptables and ip6tables, in mangle PREROUTING.
 * @param families those that this machine has
 * @param rules what there is to be beside leases, as of now
 * @param warn told what an administrator should know
 * @param own by which others know which changes of a family's table are ours
 */
export function guardFirewall(
  families: readonly Family[],
  rules: () => Rules,
  warn: (message: string) => void,
  own: ReadonlyMap<Family, OwnChanges>,
): Firewall {
  return families.map((family) => new GuardTable(family, rules, warn, own.get(family) ?? new OwnChanges()))
}

/** Where the rules of a guard are. */
export const MANGLE: Place = { table: 'mangle', chains: ['PREROUTING', ...FIXED, LEASES], jump: GUARD_JUMP }

/** Our jumps to the guard: one, unless somebody else has made more. */
const jumpsIn = ({ rules }: FilterTable): string[] => (rules.get('PREROUTING') ?? []).filter((rule) => rule === GUARD_JUMP)

/** The mangle table of a family. @throws {Fault} where it can't be read */
export async function readMangle(family: Family): Promise<FilterTable> {
  return parseTable(family, await iptables(family, ['-t', 'mangle', '-v', '-S']))
}

class GuardTable implements Table {
  readonly name: Family
  readonly clock = 'wall'
  readonly maxRemoved = MAX_REMOVED
  readonly #rules: () => Rules
  readonly #warn: (message: string) => void
  readonly #own: OwnChanges
  #table: FilterTable
  #lines = new Map<string, string>()
  #abilities: Abilities | null = null
  #others: readonly string[] = []

  constructor(family: Family, rules: () => Rules, warn: (message: string) => void, own: OwnChanges) {
    this.name = family
    this.#table = parseTable(family, '')
    this.#rules = rules
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
    const table = await readMangle(this.name)
    this.#table = table
    this.#abilities ??= await this.#explore()
    const rules = table.leases.map((line) => ({ line, entry: readRule(line) }))
    for (const { line, entry } of rules)
      if (!entry && !this.#others.includes(line)) this.#warn(`${this.name}: ignoring a foreign rule in ${LEASES}: ${line}`)
    this.#others = rules.flatMap(({ line, entry }) => (entry ? [] : line))
    this.#lines = new Map(rules.flatMap(({ line, entry }) => (entry ? [[nameOf(entry), line]] : [])))
    return {
      entries: rules.flatMap(({ entry }) => entry ?? []),
      isWhole: isGuarding(table),
      isOutdated: !isCurrent(table, this.#rules()),
    }
  }

  /** The new ones first: a lease that is made longer stays open in between. */
  async change({ add, remove }: Batch): Promise<void> {
    const added = add.map((entry) => this.#lineOf(entry))
    const removed = remove.map(({ entry }) => toRemove(this.#lineOf(entry)))
    await this.#apply([...added, ...removed])
  }

  rewrite(entries: readonly Entry[]): Promise<void> {
    const wanted = new Map(entries.map((entry) => [nameOf(entry), entry]))
    const { leases, counters } = this.#table
    const kept = leases.flatMap((line, i) => {
      const entry = readRule(line)
      return !entry || wanted.delete(nameOf(entry)) ? `${counters[i]} ${line}` : []
    })
    const added = [...wanted.values()].map((entry) => `[0:0] ${this.#lineOf(entry)}`)
    return this.#apply(guardScript(this.#table, this.#rules(), [...kept, ...added]))
  }

  /** By the line that was read: another version of ours may have made it. */
  #lineOf(entry: Entry): string {
    return this.#lines.get(nameOf(entry)) ?? `-A ${LEASES} ${ruleOf(entry, this.#abilities?.ends)}`
  }

  /** One step for the kernel. */
  #apply(lines: readonly string[]): Promise<void> {
    return this.#own.make(() => apply(this.name, lines))
  }

  async #explore(): Promise<Abilities> {
    const found = await tryAbilities(this.name)
    if (!found.ends) this.#warn(`${this.name}: ${NO_TIME}`)
    return found
  }
}

const toRemove = (line: string): string => line.replace('-A', '-D')

/** The comments of our rules, by chain. */
const commentsIn = ({ rules }: FilterTable): string[][] => FIXED.map((chain) => (rules.get(chain) ?? []).map(commentOf))

/** Whether every packet comes to our guard first, and finds all of it. */
export function isGuarding(table: FilterTable): boolean {
  const { rules, chains } = table
  return chains.includes(LEASES) && rules.get('PREROUTING')?.[0] === GUARD_JUMP && areWhole(commentsIn(table))
}

/** Whether the guard in place is the one of these rules. */
export function isCurrent(table: FilterTable, rules: Rules): boolean {
  return commentsIn(table).flat().join() === markedRules(guardRules(table.family, rules)).map(commentOf).join()
}

/**
 * What puts the guard in place, as lines for the mangle table: one step for the kernel, and the same result however often.
 * @param leases the rules of the leases; those that are there stay where it is null
 */
export function guardScript(table: FilterTable, rules: Rules, leases: readonly string[] | null): string[] {
  return [
    ...(leases || !table.chains.includes(LEASES) ? [`:${LEASES} - [0:0]`] : []),
    ...FIXED.map((chain) => `:${chain} - [0:0]`),
    ...markedRules(guardRules(table.family, rules)),
    ...(leases ?? []),
    ...jumpsIn(table).map(toRemove),
    GUARD_JUMP.replace('-A PREROUTING', '-I PREROUTING 1'),
  ]
}

/**
 * What puts the guard in place where the chain of leases and the jump to {@link MAIN} are there, in one step, which leaves the leases alone.
 * bin/knockturn-guard makes sure of both.
 */
export function reloadScript(family: Family, rules: Rules): string[] {
  return guardScript(parseTable(family, `-N ${LEASES}\n${GUARD_JUMP}`), rules, null)
}

/** What takes the guard away, leases and all, as lines for the mangle table; none where there is nothing of it. */
export function guardRemoval(table: FilterTable): string[] {
  const ours = [...FIXED, LEASES].filter((chain) => table.chains.includes(chain))
  return [...jumpsIn(table).map(toRemove), ...ours.map((chain) => `-F ${chain}`), ...ours.map((chain) => `-X ${chain}`)]
}

/** Applies lines to the mangle table in one step. */
async function apply(family: Family, lines: readonly string[]): Promise<void> {
  try {
    await restore(family, scriptOf(lines, 'mangle'))
  } catch (error) {
    throw isRefusal(error) ? new Refused(error.message) : error
  }
}

/** Our chains and our jump, as iptables prints them. */
export function showGuard(table: FilterTable): string[] {
  const ours = table.chains.filter((chain) => [...FIXED, LEASES].includes(chain))
  return [...ours.map((chain) => `-N ${chain}`), ...jumpsIn(table), ...ours.flatMap((chain) => table.rules.get(chain) ?? [])]
}
