import { inOneLine } from '../../system/fault'
import type { Change, InstallationRequest } from '../backends/backend'
import { whoIsCutOff } from '../sockets'
import type { TapRules } from '../tap-rules'
import { installScript, isConnected, removeScript } from './chains'
import { acceptedInPool, tracksConnections } from './input'
import { type Family, type FilterTable, familyOf, parseTable, readReached, readTables, restore } from './table'
import { tryAbilities } from './trial'

/**
 * Finds what puts our chains, the log rules and the jumps from INPUT in place, and whom that would shut out.
 * @returns the changes, and whether connections that a lease lets in are marked; of a preview that is taken for granted
 * @throws {Fault} where it would cut off a connection, or the firewall can't be read
 */
export async function planChains(
  taps: TapRules,
  { isPreview, isUnattended }: InstallationRequest,
  warn: (lines: readonly string[]) => void,
): Promise<{ changes: Change[]; isMarked: boolean }> {
  const warnOnce = (message: string) => warn([message])
  const tables = await readTables(warnOnce, isPreview ? emptyTable(warnOnce) : undefined)
  if (!isPreview) warn(await whoIsCutOff(taps.ranges, (peer) => remedyFor(tables, isConnected, peer), isUnattended))
  warn(await shutByPool(tables, taps))
  const marked = await Promise.all(tables.map(async ({ family }) => isPreview || (await tryAbilities(family)).marks))
  const changes = tables.map((table, i) => changeOf(table.family, installScript(table, taps, marked[i] ?? false)))
  return { changes, isMarked: !marked.includes(false) }
}

/** What a preview takes for a table that can't be read. */
export const emptyTable =
  (warn: (message: string) => void) =>
  (family: Family, error: unknown): FilterTable => {
    warn(`printing the rules for an empty table: ${inOneLine(error)}`)
    return parseTable(family, '')
  }

/** Finds what takes away all that is ours. @throws {Fault} where a table can't be read */
export async function planRemoval(warn: (message: string) => void): Promise<Change[]> {
  return (await readTables(warn)).flatMap((table) => {
    const script = removeScript(table)
    return script === null ? [] : changeOf(table.family, script)
  })
}

const changeOf = (family: Family, script: string): Change => ({
  command: `${family}-restore --noflush`,
  script,
  apply: () => restore(family, script),
})

/**
 * The command by which the kernel comes to know the connections of a peer; null where it knows them.
 * @param isInForce whether our rules in a table are: then connections have been known for as long
 */
export function remedyFor(
  tables: readonly FilterTable[],
  isInForce: (table: FilterTable) => boolean,
  peer: string,
): string | null {
  const table = tables.find(({ family }) => family === familyOf(peer))
  if (!table || tracksConnections(table) || isInForce(table)) return null
  return `${table.family} -I INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT`
}

/** Finds which rules of the administrator's the pool takes out of force. @returns lines for a warning */
async function shutByPool(tables: readonly FilterTable[], taps: TapRules): Promise<string[]> {
  const reached = await Promise.all(tables.map(readReached))
  return reached.flatMap((table) =>
    acceptedInPool(table, taps).map(
      (rule) =>
        `${table.family}: the rule "${rule}" accepts ports of the pool, but no new connection from outside will reach them: make keys with another pool, or move the service`,
    ),
  )
}
