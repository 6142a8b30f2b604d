import { readFile } from 'node:fs/promises'
import { isOver } from '../../gate/server-key'
import { formatService, type Service } from '../../protocol/service'
import { CommandFault, run } from '../../system/commands'
import { errorCode, Fault, inOneLine, reason } from '../../system/fault'
import { isConnected } from '../iptables/chains'
import { GUARD_JUMP } from '../iptables/guard-rules'
import { establishedRule } from '../iptables/input'
import {
  FAMILIES,
  type Family,
  type FilterTable,
  IP_NAMES,
  iptables,
  keepsByNft,
  parseTable,
  readReached,
  readTable,
} from '../iptables/table'
import { listRuleset } from '../nftables/nft'
import { type Judgment, judgeFor, type Stage } from './judge'
import type { FirstPacket } from './nft-matches'
import { type Ruleset, readRuleset, tablesThatMay } from './nft-tables'
import { outerInterfaces, reachableAddresses } from './outer'
import type { Surroundings } from './stranger'
import { type Exposure, type Finding, inWords, NOTHING } from './text'

/** Services that are judged: more than anybody grants, and each is compared with the rules of both families. */
export const MAX_SERVICES = 1_024

/** What of a key says which services it opens, and whether it still does. */
export interface Granting {
  readonly revoked: number | null
  readonly expires: number | null
  /** Null in a client's copy. */
  readonly grant: { readonly services: readonly Service[] } | null
}

/** The services that keys may open which are neither revoked nor expired, each once. @param wall Unix milliseconds */
export function grantedServices(keys: readonly Granting[], wall: number): Service[] {
  const services = keys.flatMap((key) => (isOver(key, wall) ? [] : (key.grant?.services ?? [])))
  const distinct = new Map(services.map((service) => [formatService(service), service]))
  return [...distinct.values()].sort((a, b) => a.port - b.port || (a.protocol < b.protocol ? -1 : 1))
}

/** Looks whether strangers reach services that are to open by a knock only. What can't be looked at is said as unknown. */
export async function lookForStrangers(services: readonly Service[]): Promise<Exposure> {
  if (services.length === 0) return NOTHING
  const judged = services.slice(0, MAX_SERVICES)
  const others = await readOthers()
  const looks = await Promise.all(FAMILIES.map((family) => lookAt(family, judged, others)))
  const said = inWords(
    looks.flatMap(({ findings }) => findings),
    others.ruleset !== null,
  )
  const failures = new Set(looks.flatMap(({ failure }) => failure ?? []))
  return { ...said, unknown: [...failures, ...said.unknown, ...leftUnjudged(services)] }
}

/** Says how many services are not judged. */
export function leftUnjudged(services: readonly Service[]): string[] {
  const rest = services.length - MAX_SERVICES
  return rest > 0 ? [`${rest} more services are not checked: keys grant more than ${MAX_SERVICES}`] : []
}

/** What there is beside the tables that iptables shows. */
interface Others {
  /** Whether iptables keeps its tables by nft. */
  readonly isNft: boolean
  /** Null where nft is not installed or can't be asked. */
  readonly ruleset: Ruleset | null
}

async function readOthers(): Promise<Others> {
  const ruleset = await readAll().catch(() => null)
  return { isNft: await keepsByNft('iptables'), ruleset }
}

/** Reads what nft has. @throws {Fault | SyntaxError} where it can't be read */
export async function readAll(): Promise<Ruleset> {
  return readRuleset(await listRuleset())
}

async function lookAt(
  family: Family,
  services: readonly Service[],
  others: Others,
): Promise<{ findings: Finding[]; failure: string | null }> {
  const addresses = reachableAddresses(family)
  if (addresses === null) return { findings: [], failure: null }
  try {
    const around = { family, interfaces: await outerInterfaces(), addresses, services }
    const { judge, filter, unread, legacy } = await readJudge(around, others.isNft)
    const isSafe = establishedRule(filter) > 0 || isConnected(filter)
    const findings: Finding[] = []
    for (const service of services) {
      // Between two services others get their turn: a daemon must not be held up.
      await new Promise(setImmediate)
      const judgment = besides(judge(service), { ...around, service }, others, unread, legacy)
      findings.push({ service, family, judgment, isSafe })
    }
    return { findings, failure: null }
  } catch (error) {
    if (!(error instanceof Fault)) throw error
    return { findings: [], failure: failureOf(error, family, 'whether the services are open to everyone') }
  }
}

/** How a family's rules of iptables judge services. */
export interface Read {
  readonly judge: (service: Service) => Judgment
  readonly filter: FilterTable
  /** What of the tables in front can't be read and may forward packets. */
  readonly unread: string | null
  /** Tables of iptables-legacy beside those of iptables-nft that may drop packets. */
  readonly legacy: readonly string[]
}

/**
 * Reads a family's rules of iptables.
 * @param isNft whether iptables keeps them by nft
 * @param byOtherPorts see {@link judgeFor}
 * @throws {Fault} where they can't be read
 */
export async function readJudge(around: Surroundings, isNft: boolean, byOtherPorts = true): Promise<Read> {
  const { family } = around
  const there = await legacyTables(family)
  // To look at a table of iptables-legacy would make it.
  const isEmpty = !isNft && !byOtherPorts && there !== null && !there.includes('filter')
  const filter = isEmpty ? parseTable(family, '-P INPUT ACCEPT') : await readReached(await readTable(family))
  const { stages, unread } = await readBefore(family, isNft ? null : there)
  const judge = judgeFor([...stages, stageOf('filter', 'INPUT', filter)], around, byOtherPorts)
  return { judge, filter, unread, legacy: isNft ? await legacyThatMayShut(family, there ?? []) : [] }
}

/** Says that nothing could be found out over a family; null: at all. @param what is not known */
export function failureOf(error: unknown, family: Family | null, what: string): string {
  if (DENIED.test(reason(error))) return `not checked ${what}: reading the firewall requires CAP_NET_ADMIN`
  return `cannot tell ${what}${family ? ` over ${IP_NAMES[family]}` : ''}: ${inOneLine(error)}`
}

/** How the versions of iptables say that we lack the rights. */
const DENIED = /permission denied|operation not permitted|must be root/i

/** A judgment by the rules of iptables, in the light of what else there is. */
function besides(
  judgment: Judgment,
  packet: FirstPacket,
  { ruleset, isNft }: Others,
  unread: string | null,
  legacy: readonly string[],
): Judgment {
  const unknown = (text: string): Judgment => ({ state: 'unknown', why: { kind: 'beside', text } })
  const { shut, forward } = ruleset ? tablesThatMay(ruleset, packet, isNft) : { shut: [], forward: [] }
  if (judgment.state === 'open' && shut.length > 0) return unknown(`${named(shut)} of nft may close it`)
  if (judgment.state === 'open' && legacy.length > 0) return unknown(`${named(legacy)} of iptables-legacy may close it`)
  if (judgment.state === 'shut' && unread !== null) return unknown(unread)
  if (judgment.state === 'shut' && forward.length > 0) return unknown(`${named(forward)} of nft may forward it`)
  return judgment
}

const named = (tables: readonly string[]): string => `table ${tables.join(' and ')}`

/** The names of the tables that iptables-legacy has made; null where they can't be read. */
export async function legacyTables(family: Family): Promise<string[] | null> {
  const path = `/proc/self/net/${family === 'iptables' ? 'ip' : 'ip6'}_tables_names`
  const text = await readFile(path, 'latin1').catch((error) => (errorCode(error) === 'ENOENT' ? '' : null))
  return text === null ? null : text.split('\n').filter((name) => name !== '')
}

/** Those of the tables of iptables-legacy that may drop packets: an empty one is left where anybody has only looked. */
async function legacyThatMayShut(family: Family, tables: readonly string[]): Promise<string[]> {
  const dropping = tables.map(async (table) => {
    const text = await run(`${family}-legacy`, ['-w', '5', '-t', table, '-S']).catch(() => null)
    return text === null || /^-P (PREROUTING|INPUT) DROP|^-A /m.test(text) ? [table] : []
  })
  return (await Promise.all(dropping)).flat()
}

/** What a packet meets before the filter table. */
const BEFORE = [
  { table: 'raw', base: 'PREROUTING' },
  { table: 'mangle', base: 'PREROUTING' },
  { table: 'nat', base: 'PREROUTING' },
  { table: 'mangle', base: 'INPUT' },
]

/**
 * Reads the tables in front of the filter table.
 * @param there those that there are: a table of iptables-legacy would be made by looking at it; null where that is not to be feared or not known
 * @returns the chains, and what may be hidden: that a table can't be read which may forward packets
 */
async function readBefore(family: Family, there: readonly string[] | null): Promise<{ stages: Stage[]; unread: string | null }> {
  const names = [...new Set(BEFORE.map(({ table }) => table))].filter((name) => there === null || there.includes(name))
  const texts = new Map<string, string>()
  let unread: string | null = null
  for (const table of names) {
    const text = await iptables(family, ['-t', table, '-S']).catch((error) => {
      // A kernel without such tables.
      if (error instanceof CommandFault && error.message.includes('does not exist')) return null
      // What is not known of the others can only be that they shut, too.
      if (table === 'nat') unread = `it may be forwarded: ${reason(error)}`
      return undefined
    })
    if (text !== null) texts.set(table, text ?? '')
  }
  const stages = BEFORE.flatMap(({ table, base }) => {
    const text = texts.get(table)
    if (text === undefined || (text === '' && table === 'nat')) return []
    return stageOf(table, base, parseTable(family, text))
  })
  return { stages, unread }
}

function stageOf(table: string, base: string, { policies, chains, rules, isWhole }: FilterTable): Stage {
  // What our guard drops is not shut for good: whoever has a lease passes it.
  const rulesOf = (chain: string) => rules.get(chain)?.filter((rule) => rule !== GUARD_JUMP)
  const own = [base, ...chains].map((chain) => [chain, rulesOf(chain) ?? (isWhole || chain === base ? [] : null)] as const)
  return { table, base, policy: policies.get(base) ?? null, chains: new Map(own) }
}
