import { allowedBy } from '../../daemon/allowed'
import { baseFloor } from '../../daemon/fleet/rows'
import type { State } from '../../daemon/state/state'
import { MAX_KEY_LOCKS, MAX_LOCKS } from '../../gate/leases'
import { boundAddress, decide, type GrantRule, type Refusal, refusalBy, rulings } from '../../gate/policy'
import { blockAround, canonicalAddress, inCidr } from '../../protocol/address'
import { AS_SEEN, type Request } from '../../protocol/request'
import { formatService } from '../../protocol/service'
import { isoTime } from '../../system/time'
import { RULES } from '../log/sentence'
import type { Case, Explanation, Row } from './case'

/* Whether a knock would do what it asks. Pure: the daemon's own rules decide, over what has been looked up before. */

/** How long a knock opens that says nothing, in seconds: as knockclient asks. */
const USUAL = 300

/** Weighs a knock by every rule, in the daemon's order. */
export function weigh(one: Case): Explanation {
  const request = requestOf(one)
  const address = boundAddress(request, one.asked.source, one.key.grant)
  const named = canonicalAddress(request.address) ?? one.asked.source
  const destination = ownAddress(one, address ?? named)
  const all = [request, address ?? named, one.asked.source, destination, one.key, one.neverLock, one.wall] as const
  const [judged, decided] = [rulings(...all), decide(...all)]
  const granted = 'refusal' in decided || address === null ? null : decided
  const rows = [
    ...daemonRows(one),
    ...fleetRows(one),
    floorRow(one),
    ruleRow(one, 'bind_source', address !== null, named, 'address-mismatch'),
    ...judged.map(({ rule, isMet }) => ruleRow(one, rule, isMet, address ?? named, refusalBy(rule))),
    ...(request.once ? [onceRow(one)] : []),
    ...roomRows(one, granted),
  ]
  return {
    would: wouldOf(rows),
    seconds: request.seconds,
    grant: rows.some(({ verdict }) => verdict === 'refuses') ? null : granted,
    rows,
  }
}

/** What rows come to. @returns null where nothing refuses and something is not known */
export function wouldOf(rows: readonly Row[]): boolean | null {
  if (rows.some(({ verdict }) => verdict === 'refuses')) return false
  return rows.some(({ verdict }) => verdict === 'unknown') ? null : true
}

/** The request as a knock would carry it. */
export function requestOf({ asked, key }: Pick<Case, 'asked' | 'key'>): Request {
  const { address, action, port, protocol, once } = asked
  const seconds = asked.seconds ?? Math.min(USUAL, key.grant.max)
  return { action, protocol, once, salt: 0, port, seconds, address: address ?? AS_SEEN }
}

/** The address of ours that a lease must not be for, or not hold; else the first, at which somebody may knock. */
function ownAddress({ own, key }: Case, address: string): string {
  const { openPrefix = 32, openPrefix6 = 128 } = key.grant
  const block = blockAround(address, address.includes(':') ? openPrefix6 : openPrefix)
  return own.find((one) => one === address) ?? own.find((one) => block && inCidr(block, one)) ?? own[0] ?? ''
}

const isKnown = (daemon: Case['daemon']): daemon is State => 'hearing' in daemon

function row(rule: string, isMet: boolean, where: string | null, says: string, refusal: Refusal | null): Row {
  return { rule, verdict: isMet ? 'met' : 'refuses', where, says, refusal: isMet ? null : refusal }
}

const unknownRow = (rule: string, where: string | null, says: string): Row => ({
  ...{ rule, where, says },
  verdict: 'unknown',
  refusal: null,
})

/** Whether a daemon hears, has the key, and hears its source. */
function daemonRows({ daemon, key, asked }: Case): Row[] {
  if ('dead' in daemon) return [row('daemon', false, null, daemon.dead, null)]
  if ('unknown' in daemon) return [unknownRow('daemon', null, daemon.unknown)]
  const has = daemon.keys.some(({ fingerprint }) => fingerprint === key.fingerprint)
  const lock = daemon.locks.find(({ address }) => address === asked.source)
  const { hearing } = daemon
  const hears = hearing !== 'deaf' && hearing !== 'waiting'
  return [
    row('daemon', hears, null, HEARING[hearing], null),
    row('key', has, null, has ? 'the daemon has this key' : 'the daemon does not have this key: is it of another config?', null),
    row(
      'ban',
      !lock,
      null,
      lock ? `${lock.key} has banned ${asked.source} until ${lock.until}` : `${asked.source} is not banned`,
      'locked',
    ),
  ]
}

const HEARING: Readonly<Record<State['hearing'], string>> = {
  well: 'it runs, and hears',
  alone: 'it runs; whether it hears is not known, as nobody sends probes',
  unknown: 'it runs; whether it hears is not known, as no probe is sent or has come yet',
  deaf: 'it runs, and hears nothing',
  waiting: 'it runs, and has not begun to hear',
}

/** Whether the daemon's fleet has it accept knocks, and by this key. */
function fleetRows({ daemon, key, wall }: Case): Row[] {
  if (!isKnown(daemon) || !daemon.fleet) return []
  const { link, gateway, base, revoked } = daemon.fleet
  if (link !== null) return [row('fleet', false, null, `gateway "${gateway}" accepts none: ${link}`, 'ledger-unavailable')]
  const { period } = key.key
  const opens = base === null ? 0 : baseFloor(base, period) * period * 1000
  if (opens > wall)
    return [row('fleet', false, null, `the fleet's base is ahead of the clock: nothing opens before ${isoTime(opens)}`, 'stale')]
  const isRevoked = revoked.includes(key.fingerprint)
  const says = isRevoked ? 'another gateway has revoked this key' : `gateway "${gateway}" accepts knocks`
  return [row('fleet', !isRevoked, null, says, 'revoked')]
}

function floorRow({ floor, places }: Case): Row {
  if (floor !== null && typeof floor === 'object') return unknownRow('floor', places.ledger, floor.unknown)
  return row('floor', floor === null, places.ledger, floor ?? 'the ledger has nothing in its way', 'stale')
}

function ruleRow({ key, neverLock, places }: Case, rule: GrantRule, isMet: boolean, address: string, refusal: Refusal): Row {
  const allowed = allowedBy(rule, key, neverLock)
  const says = isMet ? (allowed ?? MET[rule] ?? '-') : RULES[rule](allowed ?? '?', address)
  return row(rule, isMet, places.of(rule), says, refusal)
}

/** What is said of a rule that has no value, or none in this key, and is met. */
const MET: Readonly<Partial<Record<GrantRule, string>>> = {
  revoked: 'no',
  expires: 'never',
  nobody: 'packets may come from that address',
  server_address: "it is not the server's own address, or knocks for itself",
  loopback: 'it is no loopback address, or knocks for itself',
}

function onceRow({ countsConnections, onceRefused }: Case): Row {
  const why = countsConnections ? onceRefused : 'the backend cannot count connections: knock without --once'
  return row('once', why === null, null, why ?? 'the backend counts connections', 'not-granted')
}

/** Whether there is room for what would be added. */
function roomRows({ asked, key, daemon, most, places }: Case, granted: Explanation['grant']): Row[] {
  if (asked.action === 'close') return []
  const name = asked.action === 'open' ? 'leases_per_key' : 'bans'
  const where = asked.action === 'open' ? places.of('leases_per_key') : null
  if (!isKnown(daemon)) return [unknownRow(name, where, 'how many there are is not known')]
  const isOwn = ({ fingerprint }: { fingerprint: string }) => fingerprint === key.fingerprint
  const room = (entries: readonly { fingerprint: string }[], added: number, ofAll: number, ofKey: number, at: string | null) => {
    const own = entries.filter(isOwn).length
    const isRoom = own + added <= ofKey && entries.length + added <= ofAll
    return row(name, isRoom, at, `${own} of ${ofKey} of this key, ${entries.length} of ${ofAll} of all keys`, 'not-granted')
  }
  if (asked.action === 'lock') {
    const isNew = !daemon.locks.some((lock) => isOwn(lock) && lock.address === granted?.address)
    return [room(daemon.locks, isNew ? 1 : 0, MAX_LOCKS, MAX_KEY_LOCKS, null)]
  }
  const isThere = (service: string) =>
    daemon.leases.some((lease) => isOwn(lease) && lease.address === granted?.address && lease.service === service)
  const added = (granted?.services ?? []).filter((service) => !isThere(formatService(service))).length
  return [room(daemon.leases, added, most.all, most.key, where)]
}
