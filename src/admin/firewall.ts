import { installScript, removeScript, show } from '../daemon/firewall/chains'
import { acceptedInPool } from '../daemon/firewall/input'
import type { TapRules } from '../daemon/firewall/log-rules'
import { connectionsAtRisk, servicesInPool } from '../daemon/firewall/sockets'
import { type Family, type FilterTable, parseTable, readReached, readTables, restore } from '../daemon/firewall/table'
import { tryAbilities } from '../daemon/firewall/trial'
import { Fault, inOneLine } from '../system/fault'
import { tapRules } from './tap-rules'

/** What is to be done to the filter table of a family, as input for its iptables-restore. */
export interface Change {
  readonly family: Family
  readonly script: string
}

/** How an installation is asked for. */
interface InstallationRequest {
  /** The daemon's config, which names the keyring. */
  readonly config: string
  /** Whether its changes are only looked at: then nobody is cut off, and the kernel is not tried. */
  readonly isPreview: boolean
  /** Whether nobody can answer, as at boot: what would be cut off is warned of then. */
  readonly isUnattended: boolean
}

/** What an installation comes to. */
interface Installation {
  readonly changes: readonly Change[]
  /** Whether connections that a lease lets in are marked; of a preview it is taken for granted. */
  readonly isMarked: boolean
}

/**
 * Finds what puts our chains, the log rules and the jumps from INPUT in place, and whom that would shut out.
 * @param warn told of warnings as they arise, those of one kind at once
 * @throws {Fault} where it would cut off a connection, or config, keyring or firewall can't be read
 */
export async function planInstallation(
  { config, isPreview, isUnattended }: InstallationRequest,
  warn: (lines: readonly string[]) => void,
): Promise<Installation> {
  const warnOnce = (message: string) => warn([message])
  const emptyTable = (family: Family, error: unknown) => {
    warnOnce(`printing the rules for an empty table: ${inOneLine(error)}`)
    return parseTable(family, '')
  }
  const taps = await tapRules(config, warnOnce)
  const tables = await readTables(warnOnce, isPreview ? emptyTable : undefined)
  if (!isPreview) warn(await cutOff(tables, taps, isUnattended))
  warn(await servicesInPool(taps).catch(reasons))
  warn(await shutByPool(tables, taps))
  const marked = await Promise.all(tables.map(async ({ family }) => isPreview || (await tryAbilities(family)).marks))
  const changes = tables.map((table, i) => ({ family: table.family, script: installScript(table, taps, marked[i] ?? false) }))
  return { changes, isMarked: !marked.includes(false) }
}

/**
 * Finds what takes away all that is ours, leases too: no change of a table that has nothing of it.
 * @param warn told of a family that this machine has not, and of what can't be read of a table
 * @throws {Fault} where a table can't be read
 */
export async function planRemoval(warn: (message: string) => void): Promise<Change[]> {
  return (await readTables(warn)).flatMap((table) => {
    const script = removeScript(table)
    return script === null ? [] : { family: table.family, script }
  })
}

/** Feeds changes to the kernel, one after the other. @throws {Fault} where it refuses one: those before are made */
export async function applyChanges(changes: readonly Change[]): Promise<void> {
  for (const { family, script } of changes) await restore(family, script)
}

/** What is ours in the table of a family, leases in it: lines as iptables prints them, none where there is nothing. */
interface OurChains {
  readonly family: Family
  readonly lines: readonly string[]
}

/** Reads what is ours in each table, with {@link planRemoval}'s warnings. @throws {Fault} where a table can't be read */
export async function readOurChains(warn: (message: string) => void): Promise<OurChains[]> {
  return (await readTables(warn)).map((table) => ({ family: table.family, lines: show(table) }))
}

/**
 * Looks whom an installation would cut off. Where nobody can answer it is warned of: a daemon that does not start shuts everybody out.
 * @returns lines for a warning
 * @throws {Fault}
 */
async function cutOff(tables: readonly FilterTable[], taps: TapRules, isUnattended: boolean): Promise<string[]> {
  const risks = await connectionsAtRisk(tables, taps).catch(reasons)
  if (risks.length > 0 && !isUnattended) throw new Fault(risks[0])
  return risks
}

/** What can't be looked at is said in the place of what it would have shown. */
function reasons(error: unknown): string[] {
  if (error instanceof Fault) return [inOneLine(error)]
  throw error
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
