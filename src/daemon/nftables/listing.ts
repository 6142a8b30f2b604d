import type { Entry } from '../../gate/firewall'
import { CommandFault, run, stream } from '../../system/commands'
import { itemSplitter } from '../../system/json-items'
import type { Rules } from '../backends/backend'
import { areWhole } from '../marks'
import { LISTS, named, readListed } from './elements'
import { TABLE_WORDS } from './nft'
import { type Place, placeOf, setOf } from './places'
import { BASE, FAIL_OPEN, GROWING, rulesetMarks } from './ruleset'
import { roundKey } from './standing'

/* Reads our table as nft prints it in JSON, and judges it. */

/** Longest text of an element: some 300 characters, and a foreign comment may have 128 bytes, each of them escaped. */
const MAX_ELEMENT = 4_096
/** How long the elements of a set may take to read, in milliseconds: nft reads 100,000 in 5 s. */
const READING_TIME = 60_000
/** Elements of others that are kept, to be told of. */
const MAX_OTHERS = 100

/** All of the table but the elements of its sets. */
export interface OurTable {
  /** The kernel's number of the table, which a table that is loaded anew does not keep; null where there is none. */
  readonly handle: number | null
  readonly places: readonly Place[]
  readonly limits: readonly string[]
  /** The comments of the rules of each chain, in their order: by them a rule is known, however nft prints it. */
  readonly rules: ReadonlyMap<string, readonly string[]>
  /** How many packets the rules with each comment have counted. */
  readonly counted: ReadonlyMap<string, number>
  /** The hook of each chain that has one: `prerouting -110 accept`. */
  readonly hooks: ReadonlyMap<string, string>
}

/** The elements of our sets. */
export interface Elements {
  readonly entries: readonly Entry[]
  /** How long the kernel keeps an entry, in milliseconds: it cuts the seconds off. */
  readonly left: ReadonlyMap<Entry, number>
  /** Elements of our lists that are not of our making, as nft has them. */
  readonly others: readonly string[]
  /** In which of the maps for one connection each door and limit was found, by {@link roundKey}. */
  readonly rounds: ReadonlyMap<string, number>
  /** What packets meet: set and door of each element, and for how many seconds still. */
  readonly met: ReadonlyMap<string, number>
  /** By the same, how many packets have met an element that counts them. */
  readonly packets: ReadonlyMap<string, number>
}

/** An object of nft's JSON, as far as it matters here. */
interface Item {
  readonly name?: string
  readonly handle?: number
  readonly chain?: string
  readonly comment?: string
  readonly hook?: string
  readonly prio?: number
  readonly policy?: string
  readonly expr?: readonly { readonly counter?: { readonly packets?: number } | null }[]
}

/** Reads what `nft -j -t list table` prints. @throws {SyntaxError} where it is no JSON */
export function parseTable(json: string): OurTable {
  const { nftables } = JSON.parse(json) as { nftables: Record<string, Item>[] }
  const places: Place[] = []
  const limits: string[] = []
  const rules = new Map<string, string[]>()
  const counted = new Map<string, number>()
  const hooks = new Map<string, string>()
  let handle: number | null = null
  for (const { table, set, map, limit, chain, rule } of nftables) {
    if (table) handle = table.handle ?? null
    const place = placeOf((set ?? map)?.name ?? '')
    if (place) places.push(place)
    if (limit?.name) limits.push(limit.name)
    if (chain?.name) {
      rules.set(chain.name, rules.get(chain.name) ?? [])
      if (chain.hook) hooks.set(chain.name, `${chain.hook} ${chain.prio} ${chain.policy}`)
    }
    if (!rule?.chain) continue
    rules.set(rule.chain, [...(rules.get(rule.chain) ?? []), rule.comment ?? ''])
    for (const { counter } of rule.expr ?? []) if (counter?.packets) counted.set(rule.comment ?? '', counter.packets)
  }
  return { handle, places, limits, rules, counted, hooks }
}

/** The table without its elements, which takes 2 ms however many there are; nothing where there is no table. @throws where that can't be known */
export async function readTable(): Promise<OurTable> {
  try {
    return parseTable(await run('nft', ['-j', '-t', 'list', 'table', ...TABLE_WORDS]))
  } catch (error) {
    if (isAbsent(error)) return parseTable('{"nftables": []}')
    throw error
  }
}

/** How nft says that there is nothing of that name. */
export const isAbsent = (error: unknown): boolean =>
  error instanceof CommandFault && error.message.includes('No such file or directory')

/**
 * The elements of a table, set by set: never those that count sources, of which a flood makes a quarter of a million.
 * @param table what was just read of it
 * @throws where they can't be known
 */
export async function readElements({ places, rules }: OurTable): Promise<Elements> {
  const reader = new ElementReader()
  if (rules.size === 0) return reader
  for (const name of Object.keys(LISTS)) await eachElement('set', name, (text) => reader.takeListed(name, text))
  for (const place of places)
    await eachElement(place.round === null ? 'set' : 'map', setOf(place), (text) => reader.takeMet(place, text))
  return reader
}

/** The leases and locks of a table, without what packets meet: half as much to read. @param table what was just read of it @throws where they can't be known */
export async function readListedEntries({ rules }: OurTable): Promise<readonly Entry[]> {
  const reader = new ElementReader()
  if (rules.size === 0) return []
  for (const name of Object.keys(LISTS)) await eachElement('set', name, (text) => reader.takeListed(name, text))
  return reader.entries
}

async function eachElement(kind: 'set' | 'map', name: string, take: (text: string) => void): Promise<void> {
  // {"nftables": [{"set": {"elem": [
  const push = itemSplitter('elem', 4, take, MAX_ELEMENT)
  await stream('nft', ['-j', 'list', kind, ...TABLE_WORDS, name], push, READING_TIME)
}

/** An element with a timeout, a counter or a comment is wrapped. */
interface Elem {
  readonly elem?: {
    readonly val?: { readonly concat?: readonly unknown[] }
    readonly comment?: unknown
    readonly expires?: number
    readonly counter?: { readonly packets?: unknown }
  }
  readonly concat?: readonly unknown[]
}
const keyOf = ({ elem, concat }: Elem): readonly unknown[] => named(elem?.val?.concat ?? concat ?? [])

/** Collects elements, each as the text of its JSON. */
export class ElementReader implements Elements {
  readonly entries: Entry[] = []
  readonly left = new Map<Entry, number>()
  readonly others: string[] = []
  readonly rounds = new Map<string, number>()
  readonly met = new Map<string, number>()
  readonly packets = new Map<string, number>()

  takeListed(name: string, text: string): void {
    const one = JSON.parse(text) as Elem
    const entry = readListed(keyOf(one), one.elem?.comment)
    if (entry) {
      this.entries.push(entry)
      const { expires } = one.elem ?? {}
      if (expires !== undefined) this.left.set(entry, 1_000 * (expires + 1))
    } else if (this.others.length < MAX_OTHERS) this.others.push(`${name} ${text}`)
  }

  takeMet(place: Place, text: string): void {
    const one = JSON.parse(text) as Elem | readonly [Elem, unknown]
    const [element, limit] = isPair(one) ? one : [one, null]
    const door = keyOf(element).join(' . ')
    const { expires, counter } = element.elem ?? {}
    const met = `${setOf(place)} ${door}`
    this.met.set(met, typeof expires === 'number' ? expires : Infinity)
    if (typeof counter?.packets === 'number') this.packets.set(met, counter.packets)
    if (place.round !== null && typeof limit === 'string') this.rounds.set(roundKey(door, limit), place.round)
  }
}

const isPair = (one: Elem | readonly [Elem, unknown]): one is readonly [Elem, unknown] => Array.isArray(one)

/** Chains whose rules are not of the ruleset. */
const isOthers = (chain: string): boolean => GROWING.includes(chain) || chain === FAIL_OPEN

/** Whether all that makes leases work is there, of one ruleset: the chains, the hook, each rule once and in its place. */
export function isWhole({ hooks, rules, places }: OurTable): boolean {
  if (hooks.get(BASE.chain) !== BASE.hook) return false
  const isGrown = (chain: string, isOnce: boolean) => {
    const sets = places.filter(({ round }) => (round !== null) === isOnce).map(setOf)
    const found = rules.get(chain)
    return found?.length === sets.length && sets.every((set) => found.includes(set))
  }
  const fixed = [...rules].flatMap(([chain, comments]) => (isOthers(chain) ? [] : [comments]))
  return isGrown('open', false) && isGrown('once', true) && areWhole(fixed)
}

/** Whether the rules are those of now. */
export function isCurrent({ rules }: OurTable, wanted: Rules): boolean {
  return [...rulesetMarks(wanted)].every(([chain, marks]) => isOthers(chain) || rules.get(chain)?.join() === marks.join())
}
