import type { Service } from '../../protocol/service'
import type { Family } from '../iptables/table'

/* Tables that other programs keep by nft, beside those of iptables. An accept there opens nothing that INPUT drops; a drop may shut. */

/** The ruleset as `nft -j -t list ruleset` prints it, as far as it concerns packets to this machine. */
export interface Ruleset {
  readonly chains: readonly Chain[]
  /** The expressions of the rules of each chain, by {@link nameOf}. */
  readonly rules: ReadonlyMap<string, readonly (readonly unknown[])[]>
}

interface Chain {
  readonly family: string
  readonly table: string
  readonly name: string
  readonly hook?: string
  readonly policy?: string
}

/** Hooks that a packet to this machine passes. */
const HOOKS = ['ingress', 'prerouting', 'input']
/** Tables of iptables' own, which it reads itself. */
const OWN = ['filter', 'nat', 'mangle', 'raw', 'security']
const PROTOCOL: Record<Family, string> = { iptables: 'ip', ip6tables: 'ip6' }

/** Reads what nft prints. @throws {SyntaxError} where it is no JSON */
export function readRuleset(text: string): Ruleset {
  const items = part(JSON.parse(text), 'nftables')
  const chains: Chain[] = []
  const rules = new Map<string, (readonly unknown[])[]>()
  for (const item of listOf(items)) {
    const chain = part(item, 'chain') as Chain | undefined
    if (chain) chains.push(chain)
    const rule = part(item, 'rule') as { family: string; table: string; chain: string; expr?: unknown } | undefined
    if (!rule) continue
    const name = nameOf(rule.family, rule.table, rule.chain)
    const own = rules.get(name)
    if (own) own.push(listOf(rule.expr))
    else rules.set(name, [listOf(rule.expr)])
  }
  return { chains, rules }
}

const nameOf = (family: string, table: string, chain: string): string => `${family} ${table} ${chain}`

/**
 * Names the tables that may keep strangers from a service, and those that may send them elsewhere. A rule that goes by addresses alone, as a list
 * of banned ones, does neither.
 * @param isNft whether iptables keeps its own tables by nft, too: these are left out
 */
export function tablesThatMay(
  { chains, rules }: Ruleset,
  service: Service,
  family: Family,
  isNft: boolean,
): { shut: string[]; forward: string[] } {
  const [shut, forward] = [new Set<string>(), new Set<string>()]
  const isOwn = (chain: Chain) => isNft && Object.values(PROTOCOL).includes(chain.family) && OWN.includes(chain.table)
  const isMet = (chain: Chain) => [PROTOCOL[family], 'inet', 'netdev'].includes(chain.family)
  for (const base of chains) {
    if (!HOOKS.includes(base.hook ?? '') || isOwn(base) || !isMet(base)) continue
    const seen = new Set<string>()
    const ahead = [base.name]
    for (let name = ahead.pop(); name !== undefined; name = ahead.pop()) {
      if (seen.has(name)) continue
      seen.add(name)
      for (const expressions of rules.get(nameOf(base.family, base.table, name)) ?? []) {
        const { mayShut, mayForward, leadsTo } = readExpressions(expressions, service, family)
        if (mayShut) shut.add(`${base.family} ${base.table}`)
        // What is forwarded is so before INPUT.
        if (mayForward && base.hook !== 'input') forward.add(`${base.family} ${base.table}`)
        ahead.push(...leadsTo)
      }
    }
    if (base.policy === 'drop') shut.add(`${base.family} ${base.table}`)
  }
  return { shut: [...shut], forward: [...forward] }
}

interface Effects {
  readonly mayShut: boolean
  readonly mayForward: boolean
  readonly leadsTo: readonly string[]
}

const NOTHING: Effects = { mayShut: false, mayForward: false, leadsTo: [] }

/** What a rule may do to a stranger's packet: nothing where it can't match one. */
function readExpressions(expressions: readonly unknown[], service: Service, family: Family): Effects {
  let [mayShut, mayForward] = [false, false]
  const leadsTo: string[] = []
  for (const expression of expressions) {
    const match = part(expression, 'match')
    if (match && !mayMatch(match, service, family)) return NOTHING
    // Who is above a limit was not before.
    if (part(expression, 'limit') && part(part(expression, 'limit'), 'inv') === true) return NOTHING
    const verdicts = verdictsOf(expression, service, family)
    for (const verdict of verdicts) {
      const chain = part(part(verdict, 'jump') ?? part(verdict, 'goto'), 'target')
      if (typeof chain === 'string') leadsTo.push(chain)
      mayShut ||= verdict === 'any' || ['drop', 'reject', 'queue', 'xt', 'synproxy'].some((name) => has(verdict, name))
      mayForward ||= verdict === 'any' || ['dnat', 'redirect', 'tproxy', 'fwd'].some((name) => has(verdict, name))
    }
  }
  return { mayShut, mayForward, leadsTo }
}

/** What an expression decides; `any` where the map behind it was not printed. */
function verdictsOf(expression: unknown, service: Service, family: Family): unknown[] {
  const map = part(expression, 'vmap')
  if (!map) return [expression]
  const key = part(map, 'key')
  if (isSource(key)) return []
  const pairs = part(part(map, 'data'), 'set')
  if (!Array.isArray(pairs)) return ['any']
  return pairs.flatMap((pair) => {
    const [value, verdict] = listOf(pair)
    return mayMatch({ op: '==', left: key, right: value }, service, family) ? [verdict] : []
  })
}

/** Whether a match may hold for a stranger's first packet to a service: what is not understood may. */
function mayMatch(match: unknown, { port, protocol }: Service, family: Family): boolean {
  const [op, left, right] = [part(match, 'op'), part(match, 'left'), part(match, 'right')]
  const isNot = op === '!='
  if (isSource(left)) return isNot
  const field = part(part(left, 'payload'), 'field')
  const header = part(part(left, 'payload'), 'protocol')
  if ((header === 'tcp' || header === 'udp') && header !== protocol) return false
  if ((header === 'ip' || header === 'ip6') && header !== PROTOCOL[family]) return false
  const meta = part(part(left, 'meta'), 'key')
  const isAsked = (value: unknown): boolean | null => {
    if (field === 'dport') return holdsPort(value, port)
    if (meta === 'l4proto' || (field === 'protocol' && header === 'ip'))
      return typeof value === 'string' ? value === protocol : null
    if (meta === 'nfproto') return value === (family === 'iptables' ? 'ipv4' : 'ipv6')
    // Strangers come by another interface than lo: whether by this one is not looked at.
    if (meta === 'iifname' || meta === 'iif') return value === 'lo' ? false : null
    if (part(part(left, 'ct'), 'key') === 'state') return value === 'new'
    return null
  }
  if (!['==', '!=', 'in'].includes(String(op))) return true
  const answers = valuesOf(right).map(isAsked)
  if (answers.includes(null)) return true
  return answers.includes(true) !== isNot
}

/** An address that a packet comes from: who is named by it is no stranger. */
function isSource(left: unknown): boolean {
  const fields = listOf(part(left, 'concat') ?? left).map((one) => part(part(one, 'payload'), 'field'))
  return fields.includes('saddr')
}

function holdsPort(value: unknown, port: number): boolean | null {
  const range = part(value, 'range')
  if (Array.isArray(range)) return port >= Number(range[0]) && port <= Number(range[1])
  return typeof value === 'number' ? value === port : null
}

function valuesOf(right: unknown): unknown[] {
  return listOf(part(right, 'set') ?? right)
}

const has = (item: unknown, name: string): boolean => item !== null && typeof item === 'object' && Object.hasOwn(item, name)
/** A part of what was read from JSON; undefined where there is none. */
const part = (item: unknown, name: string): unknown => (has(item, name) ? (item as Record<string, unknown>)[name] : undefined)
const listOf = (item: unknown): unknown[] => (item === undefined ? [] : Array.isArray(item) ? item : [item])
