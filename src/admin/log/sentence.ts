import type { GrantRule, Refusal } from '../../gate/policy'
import { listed } from '../../system/fault'
import { formatDuration } from '../../system/time'
import type { AuditLine } from './line'

/* The lines of the daemon's log as sentences. What a line says comes from a file or a journal: nothing about its fields is taken for granted. */

type Fields = AuditLine['fields']
/** Leases that a sentence names: a grant has 64 services at most, and each is one. */
const NAMED = 8

/**
 * The sentence of a line. One whose message has no sentence of its own is one already: behind it stands what else the line says.
 * @returns one line of text, which may hold anything that the line held: it is still to be made safe to show
 */
export function sentenceOf({ msg, fields }: Pick<AuditLine, 'msg' | 'fields'>): string {
  const own = Object.hasOwn(SENTENCES, msg) ? SENTENCES[msg](fields) : null
  return own ?? withRest(msg, fields)
}

/** The sentences of messages that are a word or two. Null where a line lacks what its sentence needs. */
export const SENTENCES: Readonly<Record<string, (fields: Fields) => string | null>> = {
  accepted,
  refused,
  expired: (f) => `the lease ${text(f.lease)} of ${text(f.key)} for ${servicesOf(f.service)} at ${text(f.address)} has expired`,
  closed: (f) =>
    `the lease ${text(f.lease)} of ${text(f.key)} for ${servicesOf(f.service)} at ${text(f.address)} was closed${because(f.reason)}`,
  'opened for the fleet': (f) => `${doorOf(f)} was opened for ${text(f.key)} here too: it knocked at ${text(f.gateway)}`,
  'banned for the fleet': (f) =>
    `${text(f.address)} is banned here too ${untilOf(f.until)}: ${text(f.key)} banned it at ${text(f.gateway)}`,
  'closed for the fleet': (f) =>
    `the lease ${text(f.lease)} of ${text(f.key)} for ${servicesOf(f.service)} at ${text(f.address)} was closed at another gateway`,
  'ban lifted for the fleet': (f) => `the ban of ${text(f.address)} by ${text(f.key)} was lifted at another gateway`,
  'closed before it was open': (f) => `${whoOf(f)} was granted ${doorOf(f)}, and it was closed again before it was open`,
  ready: (f) => `the daemon is ready: server ${text(f.server)}, ${count(f.keys, 'key')}, taps by ${text(f.source)}`,
  restored: (f) => `the daemon found leases of an earlier run: it has kept ${text(f.kept)} and removed ${text(f.swept)}`,
  reloaded: (f) => `keys and config were read again: ${count(f.keys, 'key')}`,
  'carried out an order': (f) =>
    f.order === 'unlock'
      ? `by order of root, lifted ${count(f.ended, 'ban')} of ${text(f.address)}`
      : `by order of root, closed ${count(f.ended, 'lease')}${leasesMeant(f)}`,
  ended: (f) =>
    `the daemon ended: ${count(f.seen, 'packet or line', 'packets or lines')} seen, ${text(f.ignored)} of them no taps, ${text(f.unreadable)} unreadable, ${f.dropped === null ? 'unknown how many' : text(f.dropped)} dropped by the kernel, ${count(f.retransmits, 'knock')} sent again by their own source`,
}

/** Which leases root has named: all that fit each of these. */
function leasesMeant({ id, key, address }: Fields): string {
  const meant = Object.entries({ lease: id, key, address }).filter(([, value]) => value !== undefined)
  return meant.length > 0 ? ` (${meant.map(([name, value]) => `${name} ${text(value)}`).join(', ')})` : ''
}

function accepted(f: Fields): string | null {
  const leases = Array.isArray(f.leases) ? f.leases.map(text) : []
  const named = leases.length > 0 ? ` (${leases.length > 1 ? 'leases' : 'lease'} ${listed(leases, NAMED)})` : ''
  switch (f.action) {
    case 'open':
      return `${whoOf(f)} opened ${doorOf(f)}${f.once === true ? ', for one connection' : ''}${named}`
    case 'close': {
      if (leases.length > 0) return `${whoOf(f)} closed ${servicesOf(f.service)} for ${text(f.address)}${named}`
      const elsewhere = typeof f.elsewhere === 'number' && f.elsewhere > 0 ? `; it has ${f.elsewhere} for other addresses` : ''
      return `${whoOf(f)} closed nothing: it has no lease of ${servicesOf(f.service)} for ${text(f.address)}${elsewhere}`
    }
    case 'lock':
      return `${whoOf(f)} banned ${text(f.address)} ${untilOf(f.until)}${leases.length > 0 ? `, and closed what it had opened${named}` : ''}`
    default:
      return null
  }
}

function refused(f: Fields): string | null {
  const why = whyRefused(f)
  if (why === null) return null
  // A tap from a banned address was opened by nobody: what it asked is not known.
  if (f.action === undefined) return `refused ${text(f.source)}: ${why}`
  return `refused ${text(f.key)} from ${text(f.source)}${f.by === undefined ? '' : ` by ${text(f.by)}`}, who asked to ${askedOf(f)}: ${why}`
}

/** What a refused knock asked. */
function askedOf(f: Fields): string {
  const { seconds } = f
  const time = typeof seconds === 'number' && Number.isSafeInteger(seconds) && seconds > 0 ? formatDuration(seconds) : null
  const address = f.address === f.source ? '' : ` for ${text(f.address)}`
  switch (f.action) {
    case 'open':
      return `open ${servicesOf(f.service)}${address} ${time === null ? 'until closed' : `for ${time}`}`
    case 'close':
      return `close ${servicesOf(f.service)}${address}`
    case 'lock':
      return `ban ${text(f.address)} for ${time ?? 'as long as the key allows'}`
    default:
      return text(f.action)
  }
}

/** Why a knock was refused; null for a word that this version does not know. */
function whyRefused(f: Fields): string | null {
  const { refusal } = f
  return typeof refusal === 'string' && Object.hasOwn(REFUSALS, refusal) ? REFUSALS[refusal as Refusal](f) : null
}

/** What is known of the sender's clock. */
const clockOf = ({ clock }: Fields): string => (clock === undefined ? '' : `: ${text(clock)}`)

/** The reason of each refusal; what the line itself says of it goes first. */
const REFUSALS: Readonly<Record<Refusal, (f: Fields) => string>> = {
  replayed: ({ first }) => `it was sent before, ${typeof first === 'string' ? `by ${first}` : 'by whom is forgotten'}`,
  stale: (f) => (f.reason === undefined ? `it comes too late${clockOf(f)}` : text(f.reason)),
  future: (f) => (f.reason === undefined ? `it comes too early${clockOf(f)}` : text(f.reason)),
  'not-granted': (f) => (f.reason === undefined ? ruleSays(f) : text(f.reason)),
  'address-mismatch': () => 'it names another address than its source, and the key is bound to its source (bind_source)',
  locked: (f) => (f.until ? `${text(f.key)} has banned it ${untilOf(f.until)}` : `${text(f.source)} is banned`),
  revoked: () => 'the key is revoked or has expired',
  'ledger-unavailable': ({ reason }) => `the ledger cannot be written${because(reason)}`,
}

/** What refuses a knock that is not granted; older daemons do not tell. */
function ruleSays({ rule, allowed, address }: Fields): string {
  const says = allowed === undefined ? '?' : text(allowed)
  const isKnown = typeof rule === 'string' && Object.hasOwn(RULES, rule)
  return isKnown ? RULES[rule as GrantRule](says, text(address)) : 'the grant does not allow it'
}

/** What each rule says to a knock that it refuses: by what the rule allows, and for the address that is asked for. */
export const RULES: Readonly<Record<GrantRule, (says: string, address: string) => string>> = {
  revoked: (says) => `the key was revoked at ${says}`,
  expires: (says) => `the key expired at ${says}`,
  bind_source: () => 'the key is bound to its source (bind_source)',
  require_address: () => 'the grant requires a knock that names its address (require_address)',
  addresses: (says) => `the grant is for ${says} only (addresses)`,
  nobody: (_, address) => `no packet comes from ${address}`,
  loopback: (_, address) => `${address} is the server itself`,
  server_address: (_, address) => `${address} is the server itself`,
  services: (says) => `the grant opens only ${says} (services)`,
  open_prefix: (says) => `the block of /${says} around it goes beyond the grant (open_prefix, addresses)`,
  open_prefix6: (says) => `the block of /${says} around it goes beyond the grant (open_prefix6, addresses)`,
  max: (says) => `the grant allows ${says} at most (max)`,
  allow_until_closed: () => 'the grant allows no lease until closed (allow_until_closed)',
  lock: () => 'the grant allows no ban (lock)',
  never_lock: (_, address) => `the config spares ${address} (never_lock)`,
  passcode: () => 'the key has no passcode any more',
}

const whoOf = (f: Fields): string => {
  const from = f.source === f.address || f.source === undefined ? '' : ` from ${text(f.source)}`
  return `${text(f.key)}${from}${f.by === undefined ? '' : ` by ${text(f.by)}`}`
}
const doorOf = (f: Fields): string => `${servicesOf(f.service)} for ${text(f.address)} ${untilOf(f.until)}`
const untilOf = (until: unknown): string => (until === null ? 'until closed' : `until ${text(until)}`)
const because = (reason: unknown): string => (reason === undefined ? '' : `: ${text(reason)}`)

/** Services as a line has them: `22/tcp,53/udp`; `all`; or as a knock asked for them, port 0 for all and `any` for both protocols. */
function servicesOf(service: unknown): string {
  const said = text(service)
  if (said === 'all' || said === '0/any') return 'all ports'
  if (said.startsWith('0/')) return `all ports of ${said.slice(2)}`
  return said.endsWith('/any') ? `port ${said.slice(0, -4)}` : said.replaceAll(',', ', ')
}

function count(value: unknown, one: string, many = `${one}s`): string {
  return `${text(value)} ${value === 1 ? one : many}`
}

/** A message, its reason and remedy, and all other fields: nothing that a line says is left out. */
function withRest(msg: string, { reason, hint, ...rest }: Fields): string {
  const about = Object.entries(rest).map(([name, value]) => `${name} ${text(value)}`)
  const behind = about.length > 0 ? ` (${about.join(', ')})` : ''
  return `${msg}${behind}${because(reason)}${hint === undefined ? '' : `; hint: ${text(hint)}`}`
}

/** Any value as text; "?" for one that is not there, or is so deep that it can be read and not be written. */
function text(value: unknown): string {
  if (typeof value === 'string') return value
  try {
    return value === undefined ? '?' : JSON.stringify(value)
  } catch {
    return '?'
  }
}
