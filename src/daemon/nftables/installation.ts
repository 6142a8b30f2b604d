import { run } from '../../system/commands'
import type { Change, Installation, InstallationRequest, Rules, Section } from '../backends/backend'
import { whoIsCutOff } from '../sockets'
import { LISTS, TABLE } from './elements'
import { isAbsent, isWhole, readTable } from './listing'
import { listRuleset, load, scriptOf, TABLE_WORDS } from './nft'
import { type Place, placeLines } from './places'
import { GROWING, rulesetLines } from './ruleset'
import { checkVersion, tryTable } from './trial'

/** What makes all of the table but its leases, or brings it up to date, as lines for nft. @param places the sets that leases are in */
export function tableLines(rules: Rules, places: readonly Place[]): string[] {
  return [...rulesetLines(rules), ...GROWING.map((chain) => `flush chain ${TABLE} ${chain}`), ...places.flatMap(placeLines)]
}

/**
 * Finds what puts the table in place, and whom that would shut out. Leases in it stay.
 * @throws {Fault} where it would cut off a connection, or nft or the kernel can't have such a table
 */
export async function planTable(
  rules: Rules,
  { isPreview, isUnattended }: InstallationRequest,
  warn: (lines: readonly string[]) => void,
): Promise<Installation> {
  if (!isPreview) await checkVersion()
  const table = isPreview ? null : await readTable()
  if (table) {
    await tryTable(rules)
    // Where ours is in force already, connections have been known for as long as it was.
    const isTracked = isWhole(table) || (await tracksConnections())
    warn(await whoIsCutOff(rules.taps?.ranges ?? [], () => (isTracked ? null : TRACK), isUnattended))
  }
  return {
    changes: [changeOf(tableLines(rules, table?.places ?? []))],
    notes: [],
    outcome: `installed: table ${TABLE} (see "knockturn firewall show")`,
  }
}

/** Has the kernel keep track of connections: with the next packets of both ends it knows those that there are. */
const TRACK = `nft 'add table inet tracked; add chain inet tracked all; add rule inet tracked all ct state established'`

/** Whether the kernel keeps track of connections, as far as rules of nft tell. */
async function tracksConnections(): Promise<boolean> {
  return (await listRuleset()).includes('{"ct": {"key": "state"')
}

/** Finds what takes the table away, leases and all. */
export async function planTableRemoval(): Promise<Change[]> {
  const { handle } = await readTable()
  return handle !== null ? [changeOf([`delete table ${TABLE}`])] : []
}

const changeOf = (lines: readonly string[]): Change => {
  const script = scriptOf(lines)
  return { command: 'nft -f -', script, apply: () => load(script) }
}

/** Prints the rules, and what is in force: not each source that has ever been heard. */
export async function showTable(): Promise<Section[]> {
  if ((await readTable()).handle === null) return []
  const table = await run('nft', ['-t', 'list', 'table', ...TABLE_WORDS])
  const lists = await Promise.all(Object.keys(LISTS).map(showList))
  const elements = lists.filter((list) => list.includes('elements ='))
  return [{ name: 'nftables', lines: [table, ...elements].flatMap((text) => text.trimEnd().split('\n')) }]
}

/** A list as nft prints it; nothing where it is missing, as in a table of another's making. */
const showList = (name: string): Promise<string> =>
  run('nft', ['list', 'set', ...TABLE_WORDS, name]).catch((error) => {
    if (isAbsent(error)) return ''
    throw error
  })
