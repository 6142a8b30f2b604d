import { conditionOf, type FirstPacket, isEqual, isSource, listOf, type MetPacket, part } from './nft-matches'
import { ALL, ALWAYS, both, DOUBTFUL, LISTED, least, most, NONE, type Share, type Split, UNKNOWN, whether } from './share'

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
  readonly prio?: number
  /** The interface of one at ingress, or several; none as nft 1.0.6 prints it. */
  readonly dev?: string | readonly string[]
}

/** Hooks that a packet to this machine passes. */
const HOOKS = ['ingress', 'prerouting', 'input']
/** Tables of iptables' own, which it reads itself, and how it names its chains. */
const OWN = ['filter', 'nat', 'mangle', 'raw', 'security']
const OWN_CHAIN = /^[A-Z]+$/
const FAMILIES = { iptables: 'ip', ip6tables: 'ip6' } as const
/** Most rules that one packet is compared with, those of chains that are led to several times counted each time. */
const MAX_STEPS = 100_000
/** The priority at which conntrack sees packets. */
const CONNTRACK = -200
/** How deep the kernel lets chains lead to each other. */
const MAX_DEPTH = 16

/** Reads what nft prints. @throws {SyntaxError} where it is no JSON */
export function readRuleset(text: string): Ruleset {
  const chains: Chain[] = []
  const rules = new Map<string, (readonly unknown[])[]>()
  const dormant = new Set<string>()
  for (const item of listOf(part(JSON.parse(text), 'nftables'))) {
    const table = part(item, 'table') as { family: string; name: string; flags?: unknown } | undefined
    if (table && listOf(table.flags).includes('dormant')) dormant.add(`${table.family} ${table.name}`)
    const chain = part(item, 'chain') as Chain | undefined
    if (chain) chains.push(chain)
    const rule = part(item, 'rule') as { family: string; table: string; chain: string; expr?: unknown } | undefined
    if (!rule) continue
    const name = nameOf(rule.family, rule.table, rule.chain)
    const own = rules.get(name)
    if (own) own.push(listOf(rule.expr))
    else rules.set(name, [listOf(rule.expr)])
  }
  return { chains: chains.filter(({ family, table }) => !dormant.has(`${family} ${table}`)), rules }
}

const nameOf = (family: string, table: string, chain: string): string => `${family} ${table} ${chain}`

/** What a chain at a hook does to strangers that begin at a service. */
export interface Effect {
  /** Family and name, such as `inet filter`. */
  readonly table: string
  readonly chain: string
  /** Whether it drops all of them, or nobody knows whether it does; null where it lets them pass. */
  readonly drops: 'all' | 'perhaps' | null
  /** Whether it may send them to another port or address. */
  readonly forwards: boolean
}

/**
 * What the chains of other programs do to strangers that begin at a service. A rule that goes by addresses alone, as a list of banned ones, does
 * nothing to them.
 * @param isNft whether iptables keeps its own tables by nft, too: these are left out
 * @returns those that do anything
 */
export function effectsOf(ruleset: Ruleset, packet: FirstPacket, isNft: boolean): Effect[] {
  const { family, interfaces } = packet
  const isOwn = ({ family, table, name }: Chain) =>
    isNft && Object.values<string>(FAMILIES).includes(family) && OWN.includes(table) && OWN_CHAIN.test(name)
  const isMet = (chain: Chain) => {
    const devices = listOf(chain.dev)
    const isElsewhere = devices.length > 0 && interfaces.length > 0 && !interfaces.some((name) => devices.includes(name))
    return HOOKS.includes(chain.hook ?? '') && [FAMILIES[family], 'inet', 'netdev'].includes(chain.family) && !isElsewhere
  }
  return ruleset.chains
    .filter((chain) => isMet(chain) && !isOwn(chain))
    .map((chain) => new Walk(ruleset, chain, packet).effect())
    .filter(({ drops, forwards }) => drops !== null || forwards)
}

/** Names the tables that may keep strangers from a service, and those that may send them elsewhere. */
export function tablesThatMay(ruleset: Ruleset, packet: FirstPacket, isNft: boolean): { shut: string[]; forward: string[] } {
  const effects = effectsOf(ruleset, packet, isNft)
  const named = (some: readonly Effect[]) => [...new Set(some.map(({ table }) => table))]
  return {
    shut: named(effects.filter(({ drops }) => drops !== null)),
    forward: named(effects.filter(({ forwards }) => forwards)),
  }
}

/** The way of such strangers' packets through a chain at a hook. */
class Walk {
  #accepted: Share = NONE
  #forwards = false
  #steps = MAX_STEPS

  readonly #packet: MetPacket

  constructor(
    readonly ruleset: Ruleset,
    readonly base: Chain,
    packet: FirstPacket,
  ) {
    const { hook, prio = 0 } = base
    this.#packet = { ...packet, isTracked: hook === 'input' || (hook === 'prerouting' && prio > CONNTRACK) }
  }

  effect(): Effect {
    const { family, table, name, hook, policy } = this.base
    // By which interface packets come to it may not be known.
    if (hook === 'ingress' && this.base.dev === undefined) this.#accept(UNKNOWN)
    const left = this.#pass(name, ALL, 0)
    if (policy !== 'drop') this.#accept(left)
    const drops = this.#accepted === NONE ? 'all' : this.#accepted === UNKNOWN ? 'perhaps' : null
    // What is forwarded is so before INPUT.
    return { table: `${family} ${table}`, chain: name, drops, forwards: this.#forwards && hook !== 'input' }
  }

  #accept(share: Share): void {
    this.#accepted = most(this.#accepted, share)
  }

  /** Sends packets through a chain. @returns how many leave it by its end, or by a rule that returns */
  #pass(chain: string, inflow: Share, depth: number): Share {
    let [flow, out]: [Share, Share] = [inflow, NONE]
    for (const expressions of this.ruleset.rules.get(nameOf(this.base.family, this.base.table, chain)) ?? []) {
      if (flow === NONE) break
      if (this.#steps-- <= 0 || depth > MAX_DEPTH) return least(inflow, UNKNOWN)
      let split = ALWAYS
      for (const expression of expressions) {
        const condition = conditionOf(expression, this.#packet)
        if (condition) split = both(split, condition)
        if (split.hit === NONE) break
        if (condition) continue
        for (const { verdict, when } of verdictsOf(expression, this.#packet)) {
          const holds = both(split, when)
          if (holds.hit === NONE) continue
          const done = this.#decide(verdict, least(flow, holds.hit), depth)
          if (done === null) continue
          out = most(out, done.out)
          flow = most(least(flow, holds.miss), done.stays)
        }
      }
    }
    return most(out, flow)
  }

  /**
   * What becomes of those for whom a verdict holds.
   * @returns how many of them go on to the next rule, and how many leave the chain; null where all go on
   */
  #decide(verdict: unknown, into: Share, depth: number): { stays: Share; out: Share } | null {
    const [[kind, detail] = []] = verdict === null || typeof verdict !== 'object' ? [] : Object.entries(verdict)
    switch (kind) {
      case 'continue':
        return null
      case 'drop':
      case 'reject':
        return { stays: NONE, out: NONE }
      case 'return':
        return { stays: NONE, out: into }
      case 'jump':
        return { stays: this.#pass(String(part(detail, 'target')), into, depth + 1), out: NONE }
      case 'goto':
        return { stays: NONE, out: this.#pass(String(part(detail, 'target')), into, depth + 1) }
      case 'dnat':
      case 'redirect':
      case 'tproxy':
      case 'fwd':
        this.#forwards = true
        this.#accept(into)
        return { stays: NONE, out: NONE }
      case 'accept':
      case 'snat':
      case 'masquerade':
        this.#accept(into)
        return { stays: NONE, out: NONE }
      default:
        // A program decides, or rules of iptables that nft does not print, or a map that was not printed.
        if (kind === undefined) this.#forwards = true
        this.#accept(least(into, UNKNOWN))
        return { stays: least(into, UNKNOWN), out: NONE }
    }
  }
}

/** Whom a reject is for: nft leaves out the match of protocol or family that its answer says already. */
function rejects(reject: unknown, { family, service }: MetPacket): Split {
  const type = part(reject, 'type')
  if (type === 'tcp reset') return whether(service.protocol === 'tcp')
  if (type === 'icmp' || type === 'icmpv6') return whether(family === (type === 'icmp' ? 'iptables' : 'ip6tables'))
  return ALWAYS
}

/** What an expression decides, and for whom; a verdict that is no object where the map behind it was not printed. */
function verdictsOf(expression: unknown, packet: MetPacket): { readonly verdict: unknown; readonly when: Split }[] {
  const map = part(expression, 'vmap')
  if (!map) return [{ verdict: expression, when: rejects(part(expression, 'reject'), packet) }]
  const key = part(map, 'key')
  const pairs = part(part(map, 'data'), 'set')
  if (!Array.isArray(pairs)) return [isSource(key) ? { verdict: { xt: null }, when: LISTED } : { verdict: null, when: DOUBTFUL }]
  return pairs.map((pair) => {
    const [value, verdict] = listOf(pair)
    return { verdict, when: isEqual(key, value, packet) }
  })
}
