import type { Service } from '../../protocol/service'
import { apart, fitsInterface, isIn, sourcesApart, toNumber } from './matches'
import { matched, type Rule, readStrangersRule } from './rule'
import { ALL, least, most, NONE, type Share, UNKNOWN } from './share'
import { FORWARDED, MARKED, type Range, type Stranger, type Surroundings, UNTRACKED } from './stranger'

/* Whether strangers reach a service, as far as the rules of iptables tell. Nothing here looks at the machine. */

/** A built-in chain that each packet to this machine passes, with the chains of its table. */
export interface Stage {
  readonly table: string
  readonly base: string
  /** What becomes of packets that no rule decides on; null where it can't be read. */
  readonly policy: string | null
  /** The rules of each chain as `iptables -S` prints them; null for one that can't be read. */
  readonly chains: ReadonlyMap<string, readonly string[] | null>
}

/** By what a judgment stands. */
export type Why =
  | { readonly kind: 'policy'; readonly stage: string }
  | { readonly kind: 'rule'; readonly stage: string; readonly line: string }
  /** The rule sends packets elsewhere than to the service's port. */
  | { readonly kind: 'forwarded'; readonly stage: string; readonly line: string }
  | { readonly kind: 'unread'; readonly stage: string; readonly chain: string }
  | { readonly kind: 'bound' }
  /** What there is beside the rules of iptables. */
  | { readonly kind: 'beside'; readonly text: string }

/** Whether strangers reach a service, and why: what lets them in, what keeps the last of them out, or what nobody can judge. */
export interface Judgment {
  readonly state: 'open' | 'shut' | 'unknown'
  readonly why: Why
}

/** Strangers that are tried with each service: more than rules of any use tell apart, and each is a walk. */
const MAX_STRANGERS = 256
/** Blocks, addresses or interfaces that rules may tell apart: the strangers between them are looked for by pairs. */
const MAX_APART = 128
/** Rules that are made ready, but for those that are for one address: a fifth of a second in which nothing else goes on. */
const MAX_RULES = 20_000
/** Rules that are compared for one service: all of these with ten strangers, and a tenth of a second. */
const MAX_STEPS = 200_000

/**
 * Makes the rules of a machine ready.
 * @param byOtherPorts whether strangers may also come by other ports, from which rules lead to a service
 * @returns judges a service of those in `around`
 */
export function judgeFor(stages: readonly Stage[], around: Surroundings, byOtherPorts = true): (service: Service) => Judgment {
  const unjudged = (): Judgment => ({ state: 'unknown', why: { kind: 'bound' } })
  const left = { rules: MAX_RULES }
  const ready = stages.map((stage) => readStage(stage, around, left))
  if (left.rules < 0) return unjudged
  const tells = ready.flatMap(({ chains }) => [...chains.values()].flatMap((rules) => (rules ?? []).map((rule) => rule.tells)))
  const sources = distinct(tells.flatMap((one) => one.sources))
  const destinations = distinct(tells.flatMap((one) => one.destinations))
  const patterns = [...new Set(tells.flatMap((one) => one.interfaces))]
  if ([sources, destinations, patterns].some(({ length }) => length > MAX_APART)) return unjudged
  const froms = sourcesApart(sources, around.family)
  const tos = orUnknown(apart(around.addresses, destinations, isIn))
  const bys = orUnknown(apart(around.interfaces, patterns, fitsInterface))
  if (froms.length * tos.length * bys.length > MAX_STRANGERS) return unjudged
  return (service) => {
    const steps = { left: MAX_STEPS }
    const strangers = bys.flatMap((by) => tos.flatMap((to) => froms.map((from) => ({ ...service, by, from, to }))))
    let judgment: Judgment | undefined
    for (const stranger of strangers) {
      const one = new Walk(ready, stranger, steps).judge()
      if (one.state === 'open') return one
      if (judgment === undefined || judgment.state === 'shut') judgment = one
    }
    if (judgment === undefined) return unjudged()
    const nat = byOtherPorts ? stages.findIndex(({ table }) => table === 'nat') : -1
    const line = judgment.state === 'shut' && nat >= 0 ? ruleThatSendsTo(service, stages[nat], around) : undefined
    if (line === undefined) return judgment
    const because: Why = { kind: 'rule', stage: ready[nat].name, line }
    // Whether strangers come to that rule is not looked at, nor what rules before it do to the other port's packets.
    const come: Passage = { out: UNKNOWN, hasLost: false, past: MARKED | FORWARDED }
    const judgments = strangers.map((stranger) => new Walk(ready.slice(nat + 1), stranger, steps, because).judge(come))
    return judgments.find(({ state }) => state !== 'shut') ?? judgment
  }
}

/** A rule by which another port of ours leads to a service. */
function ruleThatSendsTo({ port, protocol }: Service, { chains }: Stage, { addresses }: Surroundings): string | undefined {
  const lines = [...chains.values()].flatMap((own) => own ?? [])
  return lines.find((line) => {
    const [, of, address = '', low, high = low] = SENDS.exec(line) ?? []
    if (of !== protocol || port < Number(low) || port > Number(high)) return false
    const to = toNumber(address.replace(/[[\]]/g, ''))
    return to === null || addresses.length === 0 || addresses.includes(to) || address.startsWith('127.')
  })
}

/** A rule that sends packets to a port, of an address or of this machine. */
const SENDS = / -p (\w+) .*-j (?:REDIRECT --to-ports |DNAT --to-destination (\S*):)(\d+)(?:-(\d+))?/

const distinct = (ranges: readonly Range[]): Range[] => [
  ...new Map(ranges.map((range) => [`${range.low}-${range.high}`, range])).values(),
]
const orUnknown = <T>(all: readonly T[]): readonly (T | null)[] => (all.length > 0 ? all : [null])

interface ReadyStage extends Omit<Stage, 'chains'> {
  readonly name: string
  readonly chains: ReadonlyMap<string, readonly Rule[] | null>
}

function readStage({ table, base, policy, chains }: Stage, around: Surroundings, left: { rules: number }): ReadyStage {
  const read = (line: string): Rule | readonly [] => {
    const rule = left.rules < 0 ? null : readStrangersRule(line, around)
    if (rule) left.rules--
    return rule ?? []
  }
  const ready = [...chains].map(([name, lines]) => [name, lines?.flatMap(read) ?? null] as const)
  return { name: `${table} ${base}`, table, base, policy, chains: new Map(ready) }
}

/** What came of a chain: how many leave it by its end, whether some don't, and what may have been done to them. */
interface Passage {
  readonly out: Share
  readonly hasLost: boolean
  readonly past: number
}

/** The way of one stranger's packet through all stages, which shares of many strangers may go. */
class Walk {
  readonly #seen = new Map<string, Passage>()
  #stage: ReadyStage
  /** How many have been accepted in this stage. */
  #accepted: Share = NONE
  /** The rule by which it is not known any more who is left. */
  #because: Why | null = null
  #open: Why | null = null
  /** What has kept out the last of them. */
  #shut: Why | null = null
  #doubt: Why | null = null

  constructor(
    readonly stages: readonly ReadyStage[],
    readonly packet: Stranger,
    readonly steps: { left: number },
    because: Why | null = null,
  ) {
    this.#stage = stages[0]
    this.#because = because
  }

  /** @param come how many begin this way, and what may have been done to them */
  judge(come: Passage = { out: ALL, hasLost: false, past: 0 }): Judgment {
    let passage = come
    for (const stage of this.stages) {
      this.#stage = stage
      this.#accepted = NONE
      if (stage.policy === null) this.#missed(stage.base)
      const before = stage.policy === null ? least(passage.out, UNKNOWN) : passage.out
      const done = stage.policy === null ? passage.past | MARKED | UNTRACKED : passage.past
      const { out, hasLost, past } = this.#pass(stage.base, before, done)
      const left = stage.policy === null ? least(out, UNKNOWN) : out
      const policy: Why = { kind: 'policy', stage: stage.name }
      if (stage.policy === 'ACCEPT' || stage.policy === null) this.#accept(left, policy, ALL)
      else if (left > NONE) this.#shut = policy
      passage = { out: hasLost || stage.policy !== 'ACCEPT' ? this.#accepted : before, hasLost, past }
    }
    if (this.#open) return { state: 'open', why: this.#open }
    if (this.#doubt) return { state: 'unknown', why: this.#doubt }
    return { state: 'shut', why: this.#shut ?? { kind: 'policy', stage: this.#stage.name } }
  }

  /** @param hit for how many of those who have come so far the accepting rule holds */
  #accept(share: Share, why: Why, hit: Share): void {
    this.#accepted = most(this.#accepted, share)
    if (this.#stage !== this.stages.at(-1)) return
    if (share > UNKNOWN) this.#open ??= why
    else if (share === UNKNOWN) this.#doubt ??= hit === UNKNOWN ? why : (this.#because ?? why)
  }

  /** Something can't be read. In front of INPUT it can only keep strangers out: that forwards packets is asked elsewhere. */
  #missed(chain: string): void {
    const why: Why = { kind: 'unread', stage: this.#stage.name, chain }
    this.#because ??= why
    if (this.#stage === this.stages.at(-1)) this.#doubt ??= why
  }

  /** Sends packets through a chain. Each is walked once for the same packets, however many rules lead to it. */
  #pass(chain: string, flow: Share, past: number): Passage {
    const { name, chains } = this.#stage
    const key = `${name} ${chain} ${flow} ${past}`
    const seen = this.#seen.get(key)
    if (seen) return seen
    const rules = chains.get(chain)
    const passage = rules ? this.#walk(rules, flow, past) : this.#passUnread(chain, flow, past)
    this.#seen.set(key, passage)
    return passage
  }

  #passUnread(chain: string, flow: Share, past: number): Passage {
    this.#missed(chain)
    return { out: least(flow, UNKNOWN), hasLost: true, past: past | MARKED | UNTRACKED }
  }

  #walk(rules: readonly Rule[], inflow: Share, before: number): Passage {
    let [flow, out, past, hasLost]: [Share, Share, number, boolean] = [inflow, NONE, before, false]
    for (const rule of rules) {
      if (flow === NONE) break
      if (this.steps.left-- <= 0) {
        this.#doubt ??= { kind: 'bound' }
        return { out: UNKNOWN, hasLost: true, past }
      }
      const { hit, miss } = matched(rule, this.packet, past)
      const into = least(flow, hit)
      if (into === NONE) continue
      const stays = least(flow, miss)
      const why: Why = { kind: 'rule', stage: this.#stage.name, line: rule.line }
      const { target } = rule
      if (target === null) continue
      const isDoubtful = hit === UNKNOWN && (target === 'RETURN' || this.#stage.chains.has(target))
      if (isDoubtful) this.#because = why
      const lose = (left: Share) => {
        if (left === UNKNOWN && flow > UNKNOWN && !this.#stage.chains.has(target)) this.#because = why
        flow = left
        hasLost = true
      }
      if (target === 'ACCEPT') {
        this.#accept(into, why, hit)
        lose(stays)
      } else if (target === 'DROP' || target === 'REJECT') {
        this.#shut = why
        lose(stays)
      } else if (target === 'RETURN') {
        out = most(out, into)
        flow = stays
      } else if (Object.hasOwn(GOES_ON, target)) past |= GOES_ON[target](rule.options)
      else if (FORWARDS.includes(target)) {
        this.#doubt ??= { kind: 'forwarded', stage: this.#stage.name, line: rule.line }
        lose(stays)
      } else if (this.#stage.chains.has(target)) {
        const inner = this.#pass(target, into, past)
        past |= inner.past
        if (rule.isGoto) [out, flow] = [most(out, inner.out), stays]
        else if (inner.hasLost) lose(most(stays, inner.out))
        hasLost ||= inner.hasLost
      } else {
        this.#doubt ??= why
        lose(most(stays, UNKNOWN))
      }
    }
    return { out: most(out, flow), hasLost, past }
  }
}

const nothing = (): number => 0
const mark = (): number => MARKED

/** Targets behind which a packet goes on to the next rule, and what they do to it. */
const GOES_ON: Readonly<Record<string, (options: readonly string[]) => number>> = {
  ...Object.fromEntries(
    (
      'LOG NFLOG ULOG TRACE AUDIT ACCOUNT LED RATEEST IDLETIMER TEE CHECKSUM CLASSIFY DSCP TOS ECN TTL HL TCPMSS TCPOPTSTRIP ' +
      'SECMARK CONNSECMARK'
    )
      .split(' ')
      .map((name) => [name, nothing]),
  ),
  MARK: mark,
  CONNMARK: mark,
  HMARK: mark,
  SET: mark,
  NOTRACK: () => UNTRACKED,
  CT: (options) => (options.includes('--notrack') ? UNTRACKED : MARKED),
}

/** Targets that send a packet elsewhere: it never comes to INPUT as one to this port. */
const FORWARDS = ['DNAT', 'REDIRECT', 'NETMAP', 'TPROXY']
