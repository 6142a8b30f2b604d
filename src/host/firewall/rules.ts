import type { Lease, Lock } from '../../gate/leases'
import { formatCidr, parseCidr } from '../../protocol/address'
import { KEY_ID } from '../key-file'
import { isoTime } from '../time'

/* Leases and locks as rules and back. The rules are the list of leases: what a rule can't say, nobody remembers. */

/** A lease's rule, without its chain: it ends by the kernel's own clock, daemon or no daemon. */
export function leaseRule(lease: Lease): string[] {
  const { id, address, protocol, port, once, until } = lease
  return [
    ...['-s', address, '-p', protocol, '-m', protocol, '--dport', String(port)],
    ...stop(until),
    // Not -m limit: any other change of the table re-arms it. The table is the rule's own, named by the lease, and is asked last.
    ...(once ? ['-m', 'conntrack', '--ctstate', 'NEW', ...ONCE, ...oneOf(address), '--hashlimit-name', `kt${id}`] : []),
    ...comment('lease', lease),
    ...['-j', 'ACCEPT'],
  ]
}

/** A lock's rule: it has no target and so no effect; it is there to be read back after a restart. */
export function lockRule(lock: Lock): string[] {
  return ['-s', lock.address, ...stop(lock.until), ...comment('lock', lock)]
}

/** What tells one of our rules from the others in the table, from its words: its comment, and its end, since an extended lease keeps its id. */
export function ruleName(words: readonly string[]): string {
  const after = (option: string) => (words.includes(option) ? words[words.indexOf(option) + 1] : '')
  return `${after('--comment')} ${after('--datestop')}`
}

/**
 * Reads a line of `iptables -S` that one of our own rules made.
 * @returns null for any other line
 */
export function readRule(line: string): { lease: Lease; lock?: undefined } | { lock: Lock; lease?: undefined } | null {
  const words = line.split(' ')
  // Just the form that our rules have: `! -s` would be everybody else.
  if (words[0] !== '-A' || words[2] !== '-s') return null
  const after = (option: string) => words[words.indexOf(option) + 1]
  const has = (option: string) => words.includes(option)
  const [program, kind, id, key, fingerprint] = (after('--comment') ?? '').replaceAll('"', '').split(':')
  const block = parseCidr(after('-s') ?? '')
  const address = block && formatCidr(block)
  const until = has('--datestop') ? 1 + Date.parse(`${after('--datestop')}Z`) / 1000 : null
  if (program !== 'knockturn' || !ID.test(id) || !KEY_ID.test(key) || !FINGERPRINT.test(fingerprint) || !address) return null
  if (Number.isNaN(until)) return null
  const whose = { id, key, fingerprint, address }
  // Who is locked out is one address.
  if (kind === 'lock' && address.includes('/')) return null
  if (kind === 'lock') return { lock: { ...whose, until: until ?? MAX_DATESTOP } }
  const [protocol, port] = [after('-p'), Number(after('--dport'))]
  if (kind !== 'lease' || (protocol !== 'tcp' && protocol !== 'udp') || !Number.isInteger(port) || port < 1 || port > 65535)
    return null
  return { lease: { ...whose, protocol, port, once: has('--hashlimit-name'), until } }
}

const ID = /^[0-9a-f]{8}(\.\d{1,2})?$/
const FINGERPRINT = /^[0-9a-f]{32}$/

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

/** Latest stop that iptables takes, in Unix seconds; what ends later is ended by the daemon alone. */
const MAX_DATESTOP = 2 ** 31 - 1

/** The kernel's stop is the last second that still matches. */
function stop(until: number | null): string[] {
  return until === null || until > MAX_DATESTOP ? [] : ['-m', 'time', '--datestop', isoTime((until - 1) * 1000).slice(0, 19)]
}

function comment(kind: 'lease' | 'lock', { id, key, fingerprint }: Lease | Lock): string[] {
  return ['-m', 'comment', '--comment', `knockturn:${kind}:${id}:${key}:${fingerprint}`]
}
