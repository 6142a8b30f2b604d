import { CommandFault } from '../../system/commands'
import { Fault } from '../../system/fault'
import type { Rules } from '../backends/backend'
import { SAMPLES } from '../backends/samples'
import type { TapRules } from '../tap-rules'
import { ACCEPT_ESTABLISHED, admitRules } from './chains'
import { failOpenRules, guardRules } from './guard-rules'
import { logRules } from './log-rules'
import { ruleOf } from './rules'
import { ADMIT, AGAIN, AGAIN_JUMP, CHECK, type Family, isRefusal, LEASES, restore, scriptOf } from './table'

/* Tries our rules in a chain that nothing jumps to, which is taken away again: what a kernel lacks is known before the first knock. */

/** What a kernel and its iptables can do of what we can do without. */
export interface Abilities {
  /** Mark connections that a lease lets in (xt_connlabel). */
  readonly marks: boolean
  /** End a rule when its time comes (xt_time). */
  readonly ends: boolean
}

/** What follows where a kernel has no xt_time. */
export const NO_TIME =
  'the kernel cannot end leases (no match "time"): the daemon ends them, and all of them when it is stopped; if it is killed, open ports stay open ' +
  'until it runs again'

/** What follows where a kernel has no xt_connlabel. */
export const NO_CONNLABEL =
  'the kernel cannot mark connections (no match "connlabel"): whoever had a lease can reconnect from the same source port after it has ended'

/**
 * Tries what the kernel can do of what we can do without. Where it refuses all of our rules, that is for the real change to say.
 * @throws where that can't be known now: an iptables that is held up must cost neither the guard of ended leases nor their ends
 */
export function tryAbilities(family: Family): Promise<Abilities> {
  return cleanly(family, () => abilitiesOf(family))
}

async function abilitiesOf(family: Family): Promise<Abilities> {
  const [, plain] = samplesOf(family).leases
  const [timed, untimed] = [true, false].map((ends) => `-A ${LEASES} ${ruleOf(plain, ends)}`)
  const can = async (...rules: string[]) => {
    try {
      await put(family, rules)
      return true
    } catch (error) {
      if (isRefusal(error)) return false
      throw error
    }
  }
  if (await can(timed, ...admitRules(true))) return { marks: true, ends: true }
  // Where an end makes no difference, it is not what is refused.
  return { marks: await can(...admitRules(true)), ends: !(await can(untimed)) || (await can(timed)) }
}

/** What was found out by a trial. */
export interface Findings {
  readonly faults: readonly Fault[]
  /** What the daemon can do without. */
  readonly notes: readonly string[]
}

/**
 * Tries every rule that a daemon and its installation make, all at once, and where that fails piece by piece.
 * @param taps null where the log rules are nobody's business
 */
export async function tryRules(families: readonly Family[], taps: TapRules | null): Promise<Findings> {
  const faults: Fault[] = []
  /** What is missing, why, and in which families. */
  const missing = new Map<string, { why: string; families: Family[] }>()
  const tried = families.map((family) => cleanly(family, () => tryFamily(family, rulesOf(family, taps))))
  for (const [i, { whole, lacks }] of (await Promise.all(tried)).entries()) {
    const family = families[i]
    if (whole !== null && lacks.size === 0) faults.push(new Fault(`${family}: cannot create our rules: ${whole}`))
    for (const [name, why] of lacks) missing.set(name, { why, families: [...(missing.get(name)?.families ?? []), family] })
  }
  const notes: string[] = []
  for (const [name, { why, families }] of missing) {
    const where = families.join(' and ')
    if (SPARED[name]) notes.push(`${where}: ${SPARED[name]}`)
    else faults.push(new Fault(`${where}: cannot create rules with "${name}", which ours need: ${why}`, { hint: remedy(name) }))
  }
  return { faults, notes }
}

/**
 * Tries the rules of a guard, in a chain of the mangle table that nothing jumps to.
 * @returns why they can't be made
 */
export async function tryGuard(families: readonly Family[], rules: Rules): Promise<Fault[]> {
  const tries = families.map(async (family) => {
    const all = [...[...guardRules(family, rules).values()].flat(), ...failOpenRules(family, rules.guard)]
    const lines = all.map((rule) => rule.replace(/^-A \S+/, `-A ${CHECK}`))
    const plain = lines.map((rule) => rule.replace(/ -j KNOCKTURN\S*$/, ''))
    const put = (all: readonly string[]) => restore(family, scriptOf([`:${CHECK} - [0:0]`, ...all], 'mangle'))
    try {
      await put(plain)
      return []
    } catch (error) {
      if (!(error instanceof CommandFault)) throw error
      return [new Fault(`${family}: cannot create the rules of the guard: ${error.message}`)]
    } finally {
      await put([`-X ${CHECK}`]).catch(() => {})
    }
  })
  return (await Promise.all(tries)).flat()
}

/** Every rule with anything in it that another has not. */
function rulesOf(family: Family, taps: TapRules | null): string[] {
  const { leases, lock } = samplesOf(family)
  return [
    ...[...leases, lock].map((entry) => `-A ${LEASES} ${ruleOf(entry)}`),
    ...admitRules(true),
    AGAIN_JUMP,
    ACCEPT_ESTABLISHED,
    ...(taps ? logRules(family, taps) : []),
  ]
}

/** @returns why the rules can't be made, null where they can; and the matches and targets that can't be used, with the reason of each */
async function tryFamily(
  family: Family,
  rules: readonly string[],
): Promise<{ whole: string | null; lacks: Map<string, string> }> {
  const whole = await attempt(family, rules)
  const lacks = new Map<string, string>()
  // Where not even an empty chain can be made, no match is to blame.
  if (whole === null || (await attempt(family, [])) !== null) return { whole, lacks }
  for (const { name, rule } of pieces(rules)) {
    const failure = lacks.has(name) ? null : await attempt(family, [rule])
    // Behind the name of the program.
    if (failure) lacks.set(name, failure.replace(/^.*? \((nf_tables|legacy)\): /, ''))
  }
  return { whole, lacks }
}

/** What the daemon can do without, by the match that it is about. */
const SPARED: Readonly<Record<string, string>> = { time: NO_TIME, connlabel: NO_CONNLABEL }

/** The kernel's modules, where one is not called xt_ and its match or target. */
const MODULES: Readonly<Record<string, string>> = {
  tcp: 'xt_tcpudp',
  udp: 'xt_tcpudp',
  NFLOG: 'xt_NFLOG and nfnetlink_log',
  LOG: 'xt_LOG and nf_log_syslog',
}

/** What to do without a match or target. */
function remedy(name: string): string {
  const module = MODULES[name] ?? `xt_${name}`
  return `load the kernel's ${module} with "modprobe -a ${module.replace(' and ', ' ')}" (Red Hat: "dnf install kernel-modules-extra" first)`
}

const samplesOf = (family: Family) => SAMPLES[family === 'iptables' ? 4 : 6]

/**
 * Takes rules apart: each match, and each target that is none of our chains, by itself behind what the rule says without matches.
 * @returns the pieces with their names, each once
 */
function pieces(rules: readonly string[]): { name: string; rule: string }[] {
  const found = new Map<string, { name: string; rule: string }>()
  for (const rule of rules) {
    const words = withoutOurs(rule).match(/"(?:[^"\\]|\\.)*"|\S+/g) ?? []
    // What is negated begins a word earlier, within the match that it belongs to.
    const starts = words.flatMap((word, i) => (word === '-m' || word === '-j' ? i : []))
    const base = words.slice(0, starts[0])
    for (const [i, start] of starts.entries()) {
      const piece = [...base, ...words.slice(start, starts[i + 1])].join(' ')
      found.set(piece, { name: words[start + 1], rule: piece })
    }
  }
  return [...found.values()]
}

/** A rule without what leads to one of our chains, which may not be there. */
const withoutOurs = (rule: string): string => rule.replace(OURS, '')
const OURS = new RegExp(` -[jg] (${ADMIT}|${AGAIN})$`)

/** Makes rules in a chain of their own, in the place of what is in it. */
function put(family: Family, rules: readonly string[]): Promise<void> {
  return restore(family, script(rules.map((rule) => withoutOurs(rule).replace(/^-A \S+/, `-A ${CHECK}`))))
}

/** As {@link put}. @returns why they can't be made; null where they can */
async function attempt(family: Family, rules: readonly string[]): Promise<string | null> {
  try {
    await put(family, rules)
    return null
  } catch (error) {
    if (!(error instanceof CommandFault)) throw error
    return error.message
  }
}

/** Tries something, and takes the chain away again. */
async function cleanly<T>(family: Family, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } finally {
    // Where it can't be taken away, it is swept up by the next trial or installation.
    await restore(family, script([`-X ${CHECK}`])).catch(() => {})
  }
}

const script = (lines: readonly string[]): string => scriptOf([`:${CHECK} - [0:0]`, ...lines])
