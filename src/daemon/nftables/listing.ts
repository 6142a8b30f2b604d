import type { Entry } from '../../gate/firewall'
import { CommandFault, run } from '../../system/commands'
import type { Rules } from '../backends/backend'
import { LISTS, readListed, TABLE } from './elements'
import { areWhole, BASE, GROWING, marksOf } from './ruleset'
import { type Place, placeOf, roundKey, setOf } from './standing'

/* Reads what `nft -j list table` prints of our table, and judges it. */

/** Bytes of a listing: 65,536 leases, each in a list and in a set that packets meet, of some 400 bytes together. */
const MAX_LISTING = 64 * 1024 * 1024
/** How long a listing may take, in milliseconds: nft reads 20,000 leases in 3 s. */
const LISTING_TIME = 60_000

/** What stands in our table. */
export interface Listing {
  /** Which table it is: one that is made anew has another number. Null where there is none. */
  readonly handle: number | null
  readonly entries: readonly Entry[]
  /** Elements of our lists that are not of our making, as nft has them. */
  readonly others: readonly string[]
  readonly places: readonly Place[]
  readonly limits: readonly string[]
  readonly rounds: ReadonlyMap<string, number>
  /** What packets meet: set and door of each element. */
  readonly met: ReadonlySet<string>
  /** The comments of the rules of each chain, in their order: by them a rule is known, however nft prints it. */
  readonly rules: ReadonlyMap<string, readonly string[]>
  /** The hook of each chain that has one: `prerouting -110 accept`. */
  readonly hooks: ReadonlyMap<string, string>
}

interface Elem {
  readonly val?: { readonly concat?: readonly unknown[] }
  readonly comment?: unknown
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
  readonly elem?: readonly unknown[]
}

/** @throws {SyntaxError} where it is no JSON */
export function readListing(json: string): Listing {
  const { nftables } = JSON.parse(json) as { nftables: Record<string, Item>[] }
  let handle: number | null = null
  const entries: Entry[] = []
  const others: string[] = []
  const places: Place[] = []
  const limits: string[] = []
  const rounds = new Map<string, number>()
  const met = new Set<string>()
  const rules = new Map<string, string[]>()
  const hooks = new Map<string, string>()
  for (const { table, set, map, limit, chain, rule } of nftables) {
    handle = table?.handle ?? handle
    const name = (set ?? map)?.name ?? ''
    const place = placeOf(name)
    if (place) places.push(place)
    if (set && LISTS[name] !== undefined) {
      for (const one of set.elem ?? []) {
        const { val, comment } = elemOf(one)
        const entry = readListed(val?.concat ?? [], comment)
        if (entry) entries.push(entry)
        else others.push(`${name} ${JSON.stringify(one)}`)
      }
    }
    if (set && place) for (const one of set.elem ?? []) met.add(`${name} ${elemOf(one).val?.concat?.join(' . ')}`)
    if (map && place?.round !== null && place !== null) {
      for (const one of map.elem ?? []) {
        if (!Array.isArray(one)) continue
        const [key, object] = one
        const door = elemOf(key).val?.concat
        if (!door || typeof object !== 'string') continue
        met.add(`${name} ${door.join(' . ')}`)
        rounds.set(roundKey(door.join(' . '), object), place.round)
      }
    }
    if (limit?.name) limits.push(limit.name)
    if (chain?.name) {
      rules.set(chain.name, rules.get(chain.name) ?? [])
      if (chain.hook) hooks.set(chain.name, `${chain.hook} ${chain.prio} ${chain.policy}`)
    }
    if (rule?.chain) rules.set(rule.chain, [...(rules.get(rule.chain) ?? []), rule.comment ?? ''])
  }
  return { handle, entries, others, places, limits, rounds, met, rules, hooks }
}

/** An element with a timeout, a counter or a comment is wrapped. */
function elemOf(one: unknown): Elem {
  const { elem, concat } = one as { elem?: Elem; concat?: readonly unknown[] }
  return elem ?? { val: { concat: concat ?? [] } }
}

const NOTHING: Listing = readListing('{"nftables": []}')

/** Our table as it stands; nothing where there is none. @throws where that can't be known */
export function readTable(): Promise<Listing> {
  return list(['-j'])
}

/** The same without elements, which takes 2 ms however many there are. */
export function readRules(): Promise<Listing> {
  return list(['-j', '-t'])
}

async function list(options: readonly string[]): Promise<Listing> {
  try {
    const args = [...options, 'list', 'table', ...TABLE.split(' ')]
    return readListing(await run('nft', args, { maxOutput: MAX_LISTING, timeLimit: LISTING_TIME }))
  } catch (error) {
    if (error instanceof CommandFault && error.message.includes('No such file or directory')) return NOTHING
    throw error
  }
}

/** Whether all that makes leases work is there, of one ruleset: the chains, the hook, each rule once and in its place. */
export function isWhole({ hooks, rules, places }: Listing): boolean {
  if (hooks.get(BASE.chain) !== BASE.hook) return false
  const isGrown = (chain: string, isOnce: boolean) => {
    const sets = places.filter(({ round }) => (round !== null) === isOnce).map(setOf)
    const found = rules.get(chain)
    return found?.length === sets.length && sets.every((set) => found.includes(set))
  }
  const fixed = [...rules].flatMap(([chain, comments]) => (GROWING.includes(chain) ? [] : [comments]))
  return isGrown('open', false) && isGrown('once', true) && areWhole(fixed)
}

/** Whether the rules are those of now. */
export function isCurrent({ rules }: Listing, wanted: Rules): boolean {
  return [...marksOf(wanted)].every(([chain, marks]) => GROWING.includes(chain) || rules.get(chain)?.join() === marks.join())
}
