import { feed, run } from '../../system/commands'
import { Fault } from '../../system/fault'
import type { Change, Installation, InstallationRequest, Rules, Section } from '../backends/backend'
import { reasons } from '../iptables/installation'
import { connectionsAtRisk } from '../iptables/sockets'
import { LISTS, TABLE } from './elements'
import { isAbsent, isWhole, readRules } from './listing'
import { GROWING, rulesetLines } from './ruleset'
import { type Place, placeLines } from './standing'
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
  const listing = isPreview ? null : await readRules()
  if (listing) {
    await tryTable(rules)
    // Where ours is in force already, connections have been known for as long as it was.
    const isTracked = isWhole(listing) || (await tracksConnections())
    const risks = await connectionsAtRisk(rules.taps?.ranges ?? [], () => (isTracked ? null : TRACK)).catch(reasons)
    if (risks.length > 0 && !isUnattended) throw new Fault(risks[0] ?? '')
    warn(risks)
  }
  return {
    changes: [changeOf(tableLines(rules, listing?.places ?? []))],
    notes: [],
    outcome: `installed: table ${TABLE} (see "knockturn firewall show")`,
  }
}

/** Has the kernel keep track of connections: with the next packets of both ends it knows those that there are. */
const TRACK = `nft 'add table inet tracked; add chain inet tracked all; add rule inet tracked all ct state established'`

/** Whether the kernel keeps track of connections, as far as rules of nft tell. */
async function tracksConnections(): Promise<boolean> {
  return (await run('nft', ['-j', '-t', 'list', 'ruleset'])).includes('{"ct": {"key": "state"')
}

/** Finds what takes the table away, leases and all. */
export async function planTableRemoval(): Promise<Change[]> {
  const { handle } = await readRules()
  return handle !== null ? [changeOf([`delete table ${TABLE}`])] : []
}

const changeOf = (lines: readonly string[]): Change => {
  const script = `${lines.join('\n')}\n`
  return { command: 'nft -f -', script, apply: () => feed('nft', ['-f', '-'], script) }
}

/** Prints the rules, and what is in force: not each source that has ever been heard. */
export async function showTable(): Promise<Section[]> {
  if ((await readRules()).handle === null) return []
  const table = await run('nft', ['-t', 'list', 'table', ...TABLE.split(' ')])
  const lists = await Promise.all(Object.keys(LISTS).map(showList))
  const elements = lists.filter((list) => list.includes('elements ='))
  return [{ name: 'nftables', lines: [table, ...elements].flatMap((text) => text.trimEnd().split('\n')) }]
}

/** A list as nft prints it; nothing where it is missing, as in a table of another's making. */
const showList = (name: string): Promise<string> =>
  run('nft', ['list', 'set', ...TABLE.split(' '), name]).catch((error) => {
    if (isAbsent(error)) return ''
    throw error
  })
