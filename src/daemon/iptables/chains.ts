import { overlap } from '../../protocol/ports'
import type { TapRules } from '../tap-rules'
import { establishedRule } from './input'
import { logRules } from './log-rules'
import {
  ADMIT,
  AGAIN,
  AGAIN_JUMP,
  ALL_OURS,
  CHAINS,
  CHECK,
  type FilterTable,
  LEASES,
  MAIN,
  MAIN_JUMP,
  MARKED,
  readPorts,
  scriptOf,
  TAPS,
  targetOf,
} from './table'

/** Whether packets reach our chains, and each lease in them those that it is for. */
export function isConnected(table: FilterTable): boolean {
  const { chains, input, main, leases, admit, again } = table
  const jumps = (rules: readonly string[], chain: string) => rules.some((rule) => rule.endsWith(` -j ${chain}`))
  const established = establishedRule(table)
  // Behind the rule that accepts what it is to look at, it sees nothing.
  const isInFront = jumps(established ? input.slice(0, established) : input, AGAIN)
  const isGuarded = isInFront && jumps(again, LEASES) && jumps(again, 'DROP')
  return (
    CHAINS.every((chain) => chains.includes(chain)) &&
    jumps(input, MAIN) &&
    jumps(main, LEASES) &&
    jumps(main, TAPS) &&
    jumps(admit, 'ACCEPT') &&
    (isGuarded || !marks({ admit })) &&
    !main.some((rule) => leadsPast(rule, leases))
  )
}

/** Whether connections that a lease lets in are marked: only then can the next one by the same port be told from them. */
export function marks({ admit }: Pick<FilterTable, 'admit'>): boolean {
  return admit.some((rule) => rule.includes('-m connlabel'))
}

/** What becomes of a packet that a lease lets in. */
export function admitRules(isMarked: boolean): string[] {
  return [...(isMarked ? [`-A ${ADMIT} ${MARKED} --set`] : []), `-A ${ADMIT} -j ACCEPT`]
}

/** What lets connections live on that a lease has let in. */
export const ACCEPT_ESTABLISHED = `-A ${MAIN} -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT`

/** Whether the log rules are in place. */
export function isInstalled({ chains, input }: FilterTable): boolean {
  return chains.includes(MAIN) && chains.includes(TAPS) && input.some(isMainJump)
}

/**
 * What puts our chains in place, as input for iptables-restore --noflush: one step for the kernel, and the same result however
 * often.
 * @param taps the log rules; those that are there stay where it is null
 * @param isMarked whether connections that a lease lets in are marked, so that none is begun again by its port when the lease is over: conntrack
 *   takes a SYN for established that comes behind a RST and a stray ACK, and the administrator's own rule would accept it
 * @param leases the rules that the chain of leases is to have; those that are there stay where it is null
 * @param more rules to put back into our other chains
 */
export function installScript(
  table: FilterTable,
  taps: TapRules | null,
  isMarked: boolean,
  leases: readonly string[] | null = null,
  more: readonly string[] = [],
): string {
  const established = establishedRule(table)
  const logging = taps ? logRules(table.family, taps) : []
  const allLeases = leases?.map((line) => line.replace(/^\[.*?\] /, '')) ?? table.leases
  return scriptOf([
    `:${MAIN} - [0:0]`,
    ...(leases || !table.chains.includes(LEASES) ? [`:${LEASES} - [0:0]`] : []),
    ...(taps || !table.chains.includes(TAPS) ? [`:${TAPS} - [0:0]`] : []),
    `:${ADMIT} - [0:0]`,
    `:${AGAIN} - [0:0]`,
    ...admitRules(isMarked),
    ...(isMarked ? [`-A ${AGAIN} -j ${LEASES}`, `-A ${AGAIN} -j DROP`] : []),
    // Connections live on when their lease ends; where the administrator has no such rule, we bring our own.
    ...(established ? [] : [ACCEPT_ESTABLISHED]),
    ...shortcuts(taps ? logging : [...table.taps, ...more]).filter((shortcut) => !leadsPast(shortcut, allLeases)),
    `-A ${MAIN} -j ${LEASES}`,
    `-A ${MAIN} -j ${TAPS}`,
    ...logging,
    ...(table.input.some(isMainJump) ? [] : [MAIN_JUMP.replace('-A INPUT', `-I INPUT ${established + 1}`)]),
    ...table.input.filter(isAgainJump).map((rule) => rule.replace('-A', '-D')),
    // In front of what accepts established connections, wherever that is.
    ...(isMarked ? [AGAIN_JUMP.replace('-A INPUT', '-I INPUT 1')] : []),
    ...more,
    ...(leases ?? []),
    // What a trial that was killed has left. It may be gone by now.
    ...(table.chains.includes(CHECK) ? [`:${CHECK} - [0:0]`, `-X ${CHECK}`] : []),
  ])
}

/**
 * What has packets meet rules that are added to the chain of leases, as lines for iptables-restore; none where they do.
 * @param added rules of that chain
 * @returns those lines, and the table as they leave it
 */
export function reach(table: FilterTable, added: readonly string[]): { lines: readonly string[]; table: FilterTable } {
  const main = table.main.filter((rule) => !leadsPast(rule, added))
  if (main.length === table.main.length) return { lines: [], table }
  return { lines: [`:${MAIN} - [0:0]`, ...main], table: { ...table, main } }
}

/**
 * Shortcuts from MAIN to the log rules, past the leases, for what the log rules take whole. Without them a packet of a flood is compared
 * with each lease before it is logged, and with 4,096 of them a core took 7,000 a second in the place of 100,000. Where a lease is for such
 * a port there is none: it comes back with the next installation.
 * @param taps the log rules
 */
function shortcuts(taps: readonly string[]): string[] {
  return taps.flatMap((rule) => {
    const [, match] = /^-A \S+ ! -i lo (-p \w+ -m \w+ --dports? \S+) .*-j DROP$/.exec(rule) ?? []
    return match ? `-A ${MAIN} ${match} -g ${TAPS}` : []
  })
}

/** Whether a rule of MAIN is a shortcut past one of these leases. One that is none of ours may be for any port; one without a target is for none. */
function leadsPast(rule: string, leases: readonly string[]): boolean {
  const [, protocol, ports = ''] = SHORTCUT.exec(rule) ?? []
  if (!protocol) return false
  const ranges = ports.split(',').map(readPorts)
  return leases.some((lease) => {
    if (targetOf(lease) === null) return false
    const [, own, range] = LEASE_PORT.exec(lease) ?? []
    if (!own) return true
    return own === protocol && ranges.some((one) => overlap(one, readPorts(range)))
  })
}

const SHORTCUT = new RegExp(`^-A ${MAIN} -p (\\w+) -m \\w+ --dports? (\\S+) -g ${TAPS}$`)
/** The form of our own leases: with anything else in front it is another's rule. */
const LEASE_PORT = new RegExp(`^-A ${LEASES} (?:-s \\S+ )?-p (tcp|udp) -m \\1 --dport (\\S+) `)

/** What takes our chains away again, leases and all; null where there is nothing of ours. */
export function removeScript({ chains, input }: FilterTable): string | null {
  const ours = ALL_OURS.filter((chain) => chains.includes(chain))
  if (ours.length === 0) return null
  const jumps = input.filter(isOurJump).map((rule) => rule.replace('-A', '-D'))
  return scriptOf([...jumps, ...ours.map((chain) => `-F ${chain}`), ...ours.map((chain) => `-X ${chain}`)])
}

/** Our chains and our jumps, as iptables prints them. */
export function show({ chains, rules, input }: FilterTable): string[] {
  const ours = chains.filter((chain) => ALL_OURS.includes(chain))
  return [...ours.map((chain) => `-N ${chain}`), ...input.filter(isOurJump), ...ours.flatMap((chain) => rules.get(chain) ?? [])]
}

const isMainJump = (rule: string): boolean => rule === MAIN_JUMP
const isAgainJump = (rule: string): boolean => rule.startsWith('-A INPUT ') && rule.endsWith(` -j ${AGAIN}`)
const isOurJump = (rule: string): boolean => isMainJump(rule) || isAgainJump(rule)
