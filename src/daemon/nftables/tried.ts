import { CommandFault, feed, hasCommand, run, stream } from '../../system/commands'
import { itemSplitter } from '../../system/json-items'
import type { Guard } from '../guard'
import { ADDRESSES, named, VERSIONS } from './elements'
import { networkLines, portLines } from './ruleset'

/* A table that counts what a guard would drop, and drops nothing. */

export const TABLE = 'inet knockturn_try'
/** In front of both guards, so that what they drop is counted, too, and behind conntrack. */
const PRIORITY = -160
/** Ports and networks that are counted apart: the rest is not counted. */
const MAX_COUNTED = 65_536
/** The network of a source: what belongs to one household, or to one provider's customers. */
const NETWORK = { 4: { mask: '255.255.255.0', bits: 24 }, 6: { mask: 'ffff:ffff:ffff::', bits: 48 } } as const
/** Longest element of nft's listing, in characters: many times as long as one is. */
const MAX_ELEMENT = 4_096

/** Packets of one network to one port. */
export interface Tried {
  readonly protocol: string
  readonly port: number
  /** `198.51.100.0/24` */
  readonly network: string
  readonly packets: number
}

/** Begins to count, from nothing. @returns whether it does: not where another one counts. @throws {Fault} where the kernel can't have such a table */
export async function beginTry(guard: Guard): Promise<boolean> {
  const counting = VERSIONS.map((version) => {
    const { source, type } = ADDRESSES[version]
    return {
      set: `add set ${TABLE} tried${version} { type inet_proto . inet_service . ${type}; flags dynamic; size ${MAX_COUNTED}; }`,
      rule: `add rule ${TABLE} tried update @tried${version} { meta l4proto . th dport . ${source} & ${NETWORK[version].mask} counter }`,
    }
  })
  const lines = [
    // Fails where it is there.
    `create table ${TABLE}`,
    ...counting.map(({ set }) => set),
    `add chain ${TABLE} tried`,
    ...counting.map(({ rule }) => rule),
    `add chain ${TABLE} guard { type filter hook prerouting priority ${PRIORITY}; policy accept; }`,
    `add rule ${TABLE} guard iifname "lo" accept`,
    ...[...networkLines(guard, 'jump tried'), ...portLines(guard, 'jump tried')].map((line) => `add rule ${TABLE} guard ${line}`),
  ]
  try {
    await feed('nft', ['-f', '-'], `${lines.join('\n')}\n`)
    return true
  } catch (error) {
    if (error instanceof CommandFault && error.message.includes('File exists')) return false
    throw error
  }
}

/** What has been counted so far. @throws {Fault} where that can't be known */
export async function readTried(): Promise<Tried[]> {
  const found: Tried[] = []
  for (const version of VERSIONS) {
    const push = itemSplitter('elem', 4, (text) => found.push(...(readElement(text, NETWORK[version].bits) ?? [])), MAX_ELEMENT)
    await stream('nft', ['-j', 'list', 'set', ...TABLE.split(' '), `tried${version}`], push)
  }
  return found
}

/** Reads an element of a counting set; nothing where it is none. */
export function readElement(text: string, bits: number): [Tried] | null {
  const { elem } = JSON.parse(text) as { elem?: { val?: { concat?: unknown[] }; counter?: { packets?: unknown } } }
  const [protocol, port, network] = elem?.val?.concat ?? []
  const packets = elem?.counter?.packets
  if (typeof port !== 'number' || typeof network !== 'string' || typeof packets !== 'number') return null
  return [{ protocol: String(named([protocol, port])[0]), port, network: `${network}/${bits}`, packets }]
}

/** What takes away the counting that was killed, as a script of nft; null where there is none, or no nft. @throws {Fault} where that can't be known */
export async function triedLeft(): Promise<string | null> {
  if (!(await hasCommand('nft'))) return null
  const tables = (await run('nft', ['list', 'tables'])).split('\n')
  return tables.includes(`table ${TABLE}`) ? END : null
}

/** Takes the table away, there or not. */
const END = `add table ${TABLE}\ndelete table ${TABLE}\n`

/** Ends the counting; nothing happens where there is none. */
export async function endTry(): Promise<void> {
  await feed('nft', ['-f', '-'], END)
}
