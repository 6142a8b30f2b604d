import { formatService, type Service } from '../../protocol/service'
import { Fault } from '../../system/fault'
import { cannotRead, type Family, IP_NAMES } from '../iptables/table'
import type { Judgment, Why } from './judge'

/** What was found out about services that are to open by a knock only, in words for people: each names one and what it depends on. */
export interface Exposure {
  /** Services that are open to everyone, with what closes them. */
  readonly open: readonly Fault[]
  /** Services that no lease opens, with what lets it. */
  readonly shut: readonly Fault[]
  /** What nobody can know. */
  readonly unknown: readonly string[]
}

/** That all is well. */
export const NOTHING: Exposure = { open: [], shut: [], unknown: [] }

/** A service's judgment in one family. */
export interface Finding {
  readonly service: Service
  readonly family: Family
  readonly judgment: Judgment
  /** Whether connections that stand are accepted before anything that is added behind: else a drop would cut them off, too. */
  readonly isSafe: boolean
}

/** Says what was found: one line for a service, or one for each family where they differ. What is shut is not said. */
export function inWords(findings: readonly Finding[], isFirewallWhole: boolean): Exposure {
  const lines = { open: new Map<string, Finding[]>(), unknown: new Map<string, Finding[]>() }
  for (const finding of findings) {
    const { service, judgment, isSafe } = finding
    if (judgment.state === 'shut') continue
    const name = JSON.stringify([formatService(service), judgment.why, isSafe])
    const same = lines[judgment.state].get(name) ?? []
    lines[judgment.state].set(name, [...same, finding])
  }
  return {
    open: [...lines.open.values()].map((same) => openLine(same, isFirewallWhole)),
    shut: [],
    unknown: [...lines.unknown.values()].map(unknownLine),
  }
}

const overFamilies = (same: readonly Finding[]): string => overNamed(same.map(({ family }) => family))
/** Names families: `over IPv4 and IPv6`. */
export const overNamed = (families: readonly Family[]): string =>
  `over ${families.map((family) => IP_NAMES[family]).join(' and ')}`

function openLine(same: readonly Finding[], isFirewallWhole: boolean): Fault {
  const [{ service, judgment, isSafe }] = same
  const families = same.map(({ family }) => family)
  const { why } = judgment
  const told = isFirewallWhole ? '' : ' (as far as iptables shows)'
  const what = `${formatService(service)} is open to everyone ${overFamilies(same)}${told}`
  const first = isSafe ? '' : 'run "knockturn firewall install" first, which keeps existing connections, then '
  if (why.kind === 'rule')
    return new Fault(`${what}: this rule lets everyone in: ${why.line}`, { hint: remedy(why.line, service, families, first) })
  const hint = `${first}run ${commands(families, `-A INPUT ${closing(service)}`)}`
  return new Fault(`${what}: INPUT's policy is ACCEPT, and no rule blocks it`, { hint })
}

const closing = ({ port, protocol }: Service): string => `! -i lo -p ${protocol} --dport ${port} -j DROP`
/** The same for each family, as commands to run. */
export const commands = (families: readonly Family[], args: string): string =>
  families.map((family) => `"${family} ${args}"`).join(' and ')

/** What to do about a rule: only one that is for just this port can be deleted without a second thought. */
function remedy(line: string, service: Service, families: readonly Family[], first: string): string {
  if (!line.startsWith('-A INPUT ')) return 'remove the rule with the program that made it'
  if (line.includes(` --dport ${service.port} `)) return `${first}run ${commands(families, line.replace('-A', '-D'))}`
  return `${first}replace the rule by one that leaves out port ${service.port}`
}

function unknownLine(same: readonly Finding[]): string {
  const [{ service, family, judgment }] = same
  const { why } = judgment
  return `cannot tell whether ${formatService(service)} is open to everyone ${overFamilies(same)}: ${reasonOf(why, family)}`
}

/** Why nobody can know. */
export function reasonOf(why: Why, family: Family): string {
  switch (why.kind) {
    case 'beside':
      return why.text
    case 'bound':
      return 'the firewall has too many rules to compare'
    case 'forwarded':
      return `this rule of table ${why.stage.split(' ')[0]} forwards it before INPUT decides: ${why.line}`
    case 'unread':
      return why.stage === 'filter INPUT'
        ? cannotRead(family, why.chain)
        : `iptables cannot read chain ${why.chain} of table ${why.stage.split(' ')[0]}`
    case 'policy':
      return `packets may pass all rules of ${why.stage}, and its policy accepts them`
    case 'rule':
      return `it depends on this rule: ${why.line}`
  }
}
