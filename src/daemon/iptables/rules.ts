import { type Entry, isLease, type Lease, type Lock, readEntry } from '../../gate/firewall'
import { isoTime } from '../../system/time'
import { ADMIT } from './table'

/* Leases and locks as rules and back. The rules are the list of leases: what a rule can't say, nobody remembers. */

/**
 * An entry's rule, without its chain. A lease ends by the kernel's own clock, daemon or no daemon.
 * @param ends whether the kernel has that clock to offer (xt_time): else the rule only says when it ends, and the daemon sees to it
 */
export function ruleOf(entry: Entry, ends = true): string {
  return (isLease(entry) ? leaseRule(entry, ends) : lockRule(entry, ends)).join(' ')
}

function leaseRule(lease: Lease, ends: boolean): string[] {
  const { id, address, protocol, port, once } = lease
  // Not -m limit: any other change of the table re-arms it. The kernel's table is that of one knock, all its services together, and is
  // asked last.
  const name = `kt${id.split('.')[0]}`
  return [
    ...['-s', address, '-p', protocol, '-m', protocol, '--dport', String(port)],
    ...stop(lease, ends),
    ...(once ? ['-m', 'conntrack', '--ctstate', 'NEW', ...ONCE, ...oneOf(address), '--hashlimit-name', name] : []),
    ...comment('lease', lease, ends),
    ...['-j', ADMIT],
  ]
}

/** A lock's rule has no target and so no effect; it is there to be read back after a restart. */
function lockRule(lock: Lock, ends: boolean): string[] {
  return ['-s', lock.address, ...stop(lock, ends), ...comment('lock', lock, ends)]
}

/** Whether the kernel ends a rule when its time comes; else the daemon does. */
export function endsByItself(rule: string): boolean {
  return rule.includes(' -m time --datestop ')
}

/**
 * Reads a line of `iptables -S` that one of our own rules made.
 * @returns null for any other line
 */
export function readRule(line: string): Entry | null {
  const words = line.split(' ')
  // Just the form that our rules have: `! -s` would be everybody else.
  if (words[0] !== '-A' || words[2] !== '-s') return null
  const after = (option: string) => words[words.indexOf(option) + 1]
  const has = (option: string) => words.includes(option)
  const [program, kind, id, key, fingerprint, end] = (after('--comment') ?? '').replaceAll('"', '').split(':')
  if (program !== 'knockturn') return null
  const stopped = has('--datestop') ? 1 + Date.parse(`${after('--datestop')}Z`) / 1000 : null
  return readEntry({
    ...{ kind, id, key, fingerprint },
    address: after('-s') ?? '',
    protocol: after('-p'),
    port: Number(after('--dport')),
    once: has('--hashlimit-name'),
    until: end === undefined ? stopped : Number(end),
  })
}

/** hashlimit admits one packet a day from an address: the NEW one of the one connection. A `once` lease lasts an hour at most. */
const ONCE = [
  ...['-m', 'hashlimit', '--hashlimit-upto', '1/day', '--hashlimit-burst', '1', '--hashlimit-mode', 'srcip'],
  ...['--hashlimit-htable-expire', '86400000'],
]

/** Of a block, one packet from all of its addresses together. */
function oneOf(address: string): string[] {
  const bits = address.split('/')[1]
  return bits === undefined ? [] : ['--hashlimit-srcmask', bits]
}

/** Latest stop that iptables takes, in Unix seconds, in January 2038; what ends later is ended by the daemon alone. */
const MAX_DATESTOP = 2 ** 31 - 1

/** The kernel's stop is the last second that still matches. */
function stop({ until }: Entry, ends: boolean): string[] {
  return until === null || !ends || until > MAX_DATESTOP
    ? []
    : ['-m', 'time', '--datestop', isoTime((until - 1) * 1000).slice(0, 19)]
}

/** Whose it is, and its end where the kernel can't have that: it must not be read back as "until closed". */
function comment(kind: 'lease' | 'lock', entry: Entry, ends: boolean): string[] {
  const { id, key, fingerprint, until } = entry
  const end = until === null || stop(entry, ends).length > 0 ? '' : `:${until}`
  return ['-m', 'comment', '--comment', `knockturn:${kind}:${id}:${key}:${fingerprint}${end}`]
}
