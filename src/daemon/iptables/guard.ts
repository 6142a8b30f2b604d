import type { Batch, Entry, Firewall, Standing, Table } from '../../gate/firewall'
import type { Rules } from '../backends/backend'
import { minutesLine } from '../fail-open'
import { areWhole } from '../marks'
import { OwnChanges } from '../nftables/monitor'
import type { Place } from './follow'
import { commentOf, FAIL_OPEN, FIXED, failOpenRules, GUARD_JUMP, guardRules, markedRules } from './guard-rules'
import { LeaseRules } from './lease-rules'
import { type Family, type FilterTable, familyOf, iptables, LEASES, MAX_REMOVED, parseTable, restore, scriptOf } from './table'

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
export const MANGLE: Place = { table: 'mangle', chains: ['PREROUTING', ...FIXED, LEASES, FAIL_OPEN], jump: GUARD_JUMP }

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
  readonly #wanted: () => Rules
  readonly #rules: LeaseRules
  #table: FilterTable

  constructor(family: Family, wanted: () => Rules, warn: (message: string) => void, own: OwnChanges) {
    this.name = family
    this.#table = parseTable(family, '')
    this.#wanted = wanted
    this.#rules = new LeaseRules(family, warn, own)
  }

  holds(address: string): boolean {
    return familyOf(address) === this.name
  }

  endsByItself(entry: Entry): boolean {
    return this.#rules.endsByItself(entry)
  }

  async read(): Promise<Standing> {
    const table = await readMangle(this.name)
    this.#table = table
    await this.#rules.abilities()
    return {
      entries: this.#rules.read(table),
      isWhole: isGuarding(table),
      isOutdated: !isCurrent(table, this.#wanted()),
    }
  }

  /** The new ones first: a lease that is made longer stays open in between. */
  async change({ add, remove }: Batch): Promise<void> {
    const added = add.map((entry) => this.#rules.lineOf(entry))
    const removed = remove.map(({ entry }) => this.#rules.removalOf(entry))
    await this.#apply([...added, ...removed])
  }

  rewrite(entries: readonly Entry[]): Promise<void> {
    return this.#apply(guardScript(this.#table, this.#wanted(), this.#rules.anew(this.#table, entries)))
  }

  #apply(lines: readonly string[]): Promise<void> {
    return this.#rules.apply(scriptOf(lines, 'mangle'))
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
    ...(rules.guard.failOpen && !table.chains.includes(FAIL_OPEN) ? [`:${FAIL_OPEN} - [0:0]`] : []),
    ...FIXED.map((chain) => `:${chain} - [0:0]`),
    ...markedRules(guardRules(table.family, rules)),
    ...(leases ?? []),
    ...jumpsIn(table).map(toRemove),
    GUARD_JUMP.replace('-A PREROUTING', '-I PREROUTING 1'),
  ]
}

/**
 * What puts the guard in place where the chains of leases and of fail_open_to and the jump to {@link MAIN} are there, in one step, which leaves
 * what is in both alone. bin/knockturn-guard makes sure of them.
 */
export function reloadScript(family: Family, rules: Rules): string[] {
  return guardScript(parseTable(family, `-N ${LEASES}\n-N ${FAIL_OPEN}\n${GUARD_JUMP}`), rules, null)
}

/** What takes the guard away, leases and all, as lines for the mangle table; none where there is nothing of it. */
export function guardRemoval(table: FilterTable): string[] {
  const ours = [...FIXED, LEASES, FAIL_OPEN].filter((chain) => table.chains.includes(chain))
  return [...jumpsIn(table).map(toRemove), ...ours.map((chain) => `-F ${chain}`), ...ours.map((chain) => `-X ${chain}`)]
}

/** Our chains and our jump, as iptables prints them. */
export function showGuard(table: FilterTable): string[] {
  const ours = table.chains.filter((chain) => [...FIXED, LEASES, FAIL_OPEN].includes(chain))
  return [...ours.map((chain) => `-N ${chain}`), ...jumpsIn(table), ...ours.flatMap((chain) => table.rules.get(chain) ?? [])]
}

/** What opens the guarded ports to the blocks of fail_open_to, as a file for iptables-restore; null where a family has none of them. */
export function failOpenScript(family: Family, { guard }: Rules): string | null {
  const rules = failOpenRules(family, guard)
  if (!guard.failOpen || rules.length === 0) return null
  return `${minutesLine(guard.failOpen)}\n${scriptOf([`:${FAIL_OPEN} - [0:0]`, ...rules], 'mangle')}`
}

/** Empties the chain of fail_open_to. @returns whether anything was in it */
export async function closeFailOpen(family: Family): Promise<boolean> {
  if (!(await readMangle(family)).rules.has(FAIL_OPEN)) return false
  await restore(family, scriptOf([`-F ${FAIL_OPEN}`], 'mangle'))
  return true
}
