import { type Entry, type Firewall, nameOf, Refused, type Table } from '../../gate/firewall'
import { installScript, isConnected, marks, reach } from './chains'
import { endsByItself, readRule, ruleOf } from './rules'
import { type Family, type FilterTable, familyOf, isRefusal, LEASES, partlyRead, readTable, restore, scriptOf } from './table'
import { type Abilities, NO_TIME, tryAbilities } from './trial'

/**
 * Leases as rules of iptables and ip6tables.
 * @param tables those that this machine has, as they were read; leases of other families can't be opened
 * @param warn told what an administrator should know
 */
export function iptablesFirewall(tables: readonly FilterTable[], warn: (message: string) => void): Firewall {
  return tables.map((table) => iptablesTable(table, warn))
}

function iptablesTable(first: FilterTable, warn: (message: string) => void): Table {
  const { family } = first
  /** The table as it was last read, and the lines of our rules in it, by the names of their entries. */
  let table = first
  let lines = new Map<string, string>()
  /** The log rules as they were when last seen. What is taken from among them is the administrator's doing; all of them at once is a flush. */
  let taps: readonly string[] = []
  /** Whether connections that a lease lets in are marked: as they were when our chains were put there, else where the kernel can. */
  let isMarked = false
  /** What the kernel can do, when it has been tried. */
  let abilities: Abilities | null = null
  /** Rules in our chain that are not ours, which are told of once. */
  let others: readonly string[] = []

  // By the line that was read: another version of ours may have made it.
  const lineOf = (entry: Entry) => lines.get(nameOf(entry)) ?? `-A ${LEASES} ${ruleOf(entry, abilities?.ends)}`

  const explore = async () => {
    const found = await tryAbilities(family)
    if (!found.ends) warn(`${family}: ${NO_TIME}`)
    return found
  }

  return {
    name: family,
    holds: (address) => familyOf(address) === family,
    endsByItself: (entry) => endsByItself(lineOf(entry)),

    async read() {
      const wasWhole = table.isWhole
      table = await readTable(family)
      if (wasWhole && !table.isWhole) warn(await partlyRead(table))
      abilities ??= await explore()
      if (table.taps.length > 0) taps = table.taps
      const rules = table.leases.map((line) => ({ line, entry: readRule(line) }))
      for (const { line, entry } of rules)
        if (!entry && !others.includes(line)) warn(`${family}: a rule in ${LEASES} is none of ours and is left alone: ${line}`)
      others = rules.flatMap(({ line, entry }) => (entry ? [] : line))
      const entries = rules.flatMap(({ entry }) => entry ?? [])
      lines = new Map(rules.flatMap(({ line, entry }) => (entry ? [[nameOf(entry), line]] : [])))
      isMarked = table.admit.length > 0 ? marks(table) : isMarked || abilities.marks
      const isDeaf = table.taps.length === 0 && taps.length > 0
      return { entries, isWhole: isConnected(table) && !isDeaf }
    },

    // The new ones first: a lease that is made longer stays open in between.
    async change({ add, remove }) {
      const added = add.map(lineOf)
      const reached = reach(table, added)
      const removed = remove.map(({ entry }) => lineOf(entry).replace('-A', '-D'))
      await apply(family, scriptOf([...reached.lines, ...added, ...removed]))
      table = reached.table
    },

    rewrite(entries) {
      const wanted = new Map(entries.map((entry) => [nameOf(entry), entry]))
      const kept = keep(table, wanted)
      const added = [...wanted.values()].map((entry) => `[0:0] ${lineOf(entry)}`)
      const more = table.taps.length === 0 ? taps : []
      if (table.taps.length + more.length === 0)
        warn(`${family}: the log rules are missing, and no knock is heard: run "knockturn firewall install"`)
      return apply(family, installScript(table, null, isMarked, [...kept, ...added], more))
    },
  }
}

/** The rules that stay where they are, with their counters, each once: those that are wanted, which are taken out of `wanted`, and those of others. */
function keep(table: FilterTable, wanted: Map<string, Entry>): string[] {
  return table.leases.flatMap((line, i) => {
    const entry = readRule(line)
    return !entry || wanted.delete(nameOf(entry)) ? `${table.counters[i]} ${line}` : []
  })
}

async function apply(family: Family, script: string): Promise<void> {
  try {
    await restore(family, script)
  } catch (error) {
    throw isRefusal(error) ? new Refused(error.message) : error
  }
}
