import {
  blockAround,
  type Cidr,
  canonicalAddress,
  formatCidr,
  inCidr,
  isZeroAddress,
  overlap,
  parseCidr,
} from '../protocol/address'
import type { Request } from '../protocol/request'
import type { Service } from '../protocol/service'
import { type Entry, isLease, type Lease } from './firewall'
import { askedOf, endOf, type GrantRules, type ServerKey } from './server-key'

/** Why a knock that was understood opened nothing (docs/protocol.md, "Refusals": a closed list). */
export const REFUSALS = [
  'replayed',
  'stale',
  'future',
  'not-granted',
  'address-mismatch',
  'locked',
  'revoked',
  'ledger-unavailable',
] as const
export type Refusal = (typeof REFUSALS)[number]

/**
 * A rule that a request is judged by, under the name of its entry in the key file or the config where it has one. `nobody`: no packet comes from the
 * address; `loopback` and `server_address`: it is this machine's own, and knocks not for itself; `passcode`: the key has none (any more).
 */
export type GrantRule =
  | 'revoked'
  | 'expires'
  | 'bind_source'
  | 'require_address'
  | 'addresses'
  | 'nobody'
  | 'loopback'
  | 'server_address'
  | 'services'
  | 'open_prefix'
  | 'open_prefix6'
  | 'max'
  | 'allow_until_closed'
  | 'lock'
  | 'never_lock'
  | 'passcode'

/** What policy refuses, and the rule that says so. */
export interface Refused {
  readonly refusal: Refusal
  readonly rule: GrantRule
}

/** A rule as it was applied to a request. */
export interface Ruling {
  readonly rule: GrantRule
  readonly isMet: boolean
}

/** What policy allows of a request. */
export interface Grant {
  readonly action: Request['action']
  /** The address that it is for; of an opening grant it may be a block, such as `198.51.100.0/24`. */
  readonly address: string
  /** The services to open, or those whose leases are to be closed; none for a lock. */
  readonly services: readonly Service[]
  readonly once: boolean
  /** Unix seconds, or null: until closed */
  readonly until: number | null
}

/** The leases that an opening grant comes to, one for each service: told apart by a suffix of their id where there are more. */
export function leasesOf({ services, address, once, until }: Grant, whose: Pick<Lease, 'id' | 'key' | 'fingerprint'>): Lease[] {
  const id = (i: number) => (services.length === 1 ? whose.id : `${whose.id}.${i}`)
  return services.map(({ port, protocol }, i) => ({ ...whose, id: id(i), address, protocol, port, once, until }))
}

/** hashlimit forgets after a day, so that a `once` rule must not live that long: it lasts an hour at most, in seconds. */
const MAX_ONCE = 3_600

/**
 * The address that a request is about, before anything is claimed (docs/protocol.md, "Receiving" 6: a quicker listener's copy
 * must not burn the user's knock).
 * @returns `null` where the key is bound to its source and another address is named
 */
export function boundAddress(request: Request, source: string, grant: GrantRules): string | null {
  if (isZeroAddress(request.address)) return source
  const address = canonicalAddress(request.address) as string
  return grant.bindSource && address !== source ? null : address
}

/**
 * What of a request is granted: pure policy, after the ledger.
 * @param address what {@link boundAddress} returned
 * @param destination the address that was knocked at: never one to open for, unless it knocks itself
 * @param neverLock addresses that no lock may name
 * @param wall Unix milliseconds
 * @returns what is granted; or the first rule that is not met, in the order of {@link rulings}
 */
export function decide(
  request: Request,
  address: string,
  source: string,
  destination: string,
  key: ServerKey,
  neverLock: readonly Cidr[],
  wall: number,
): Grant | Refused {
  const broken = rulings(request, address, source, destination, key, neverLock, wall).find(({ isMet }) => !isMet)
  if (broken) return { refusal: refusalBy(broken.rule), rule: broken.rule }
  switch (request.action) {
    case 'open':
      return opening(request, openBlock(address, destination, key.grant) ?? address, key, wall)
    case 'close':
      // Closing takes nothing from anybody but this key's own leases, so any port may be named, also one no longer granted.
      return { action: 'close', address, services: closed(request), once: false, until: null }
    case 'lock': {
      const until = Math.ceil(wall / 1000) + (request.seconds || key.grant.max)
      return { action: 'lock', address, services: [], once: false, until }
    }
  }
}

/** How a rule of {@link rulings} refuses: a key that is over is told from a grant that has not enough. */
export const refusalBy = (rule: GrantRule): Refusal => (rule === 'revoked' || rule === 'expires' ? 'revoked' : 'not-granted')

/** Every rule that a request is judged by, in order, and whether it is met; parameters as of {@link decide}. */
export function rulings(
  request: Request,
  address: string,
  source: string,
  destination: string,
  key: ServerKey,
  neverLock: readonly Cidr[],
  wall: number,
): Ruling[] {
  const { grant } = key
  const isOther = address !== source
  const end = endOf(key, wall)
  return [
    { rule: 'revoked', isMet: end !== 'revoked' },
    { rule: 'expires', isMet: end !== 'expired' },
    { rule: 'require_address', isMet: !grant.requireAddress || !isZeroAddress(request.address) },
    { rule: 'addresses', isMet: isAllowed(address, grant) },
    { rule: 'nobody', isMet: !NOBODY.some((block) => inCidr(block, address)) },
    { rule: 'server_address', isMet: !isOther || address !== destination },
    { rule: 'loopback', isMet: !isOther || !LOOPBACK.some((block) => inCidr(block, address)) },
    ...(request.action === 'open' ? openRulings(request, address, destination, grant) : []),
    ...(request.action === 'lock' ? lockRulings(request, address, grant, neverLock) : []),
  ]
}

function openRulings(request: Request, address: string, destination: string, grant: GrantRules): Ruling[] {
  const { seconds } = request
  return [
    { rule: 'services', isMet: askedOf(grant.services, request).length > 0 },
    // Of an address outside the grant, that has been said above.
    { rule: prefixRule(address), isMet: !isAllowed(address, grant) || openBlock(address, destination, grant) !== null },
    { rule: 'max', isMet: seconds <= grant.max },
    { rule: 'allow_until_closed', isMet: seconds > 0 || grant.allowUntilClosed },
  ]
}

function lockRulings({ seconds }: Request, address: string, grant: GrantRules, neverLock: readonly Cidr[]): Ruling[] {
  return [
    { rule: 'lock', isMet: grant.lock },
    { rule: 'max', isMet: seconds <= grant.max },
    { rule: 'never_lock', isMet: !neverLock.some((block) => inCidr(block, address)) },
  ]
}

/**
 * What keeps a gateway from taking over what another one has opened or locked: the keyrings of both may differ.
 * @param seconds that it was for when that was told; null: until closed
 * @param wall Unix milliseconds
 * @returns the first rule that is not met; null: it may stand here, too
 */
export function sharedRuling(
  entry: Entry,
  seconds: number | null,
  key: ServerKey,
  neverLock: readonly Cidr[],
  wall: number,
): GrantRule | null {
  const { grant } = key
  const end = endOf(key, wall)
  const block = parseCidr(entry.address)
  const isWithin = block !== null && grant.addresses.some((allowed) => allowed.bits <= block.bits && overlap(allowed, block))
  const meets = (blocks: readonly Cidr[]) => block === null || blocks.some((other) => overlap(other, block))
  const rulings: Ruling[] = [
    { rule: 'revoked', isMet: end !== 'revoked' },
    { rule: 'expires', isMet: end !== 'expired' },
    { rule: 'addresses', isMet: isWithin },
    { rule: 'nobody', isMet: !meets(NOBODY) },
    // Of which machine it is said, no other can tell.
    { rule: 'loopback', isMet: !meets(LOOPBACK) },
    // A time that began within a second is written as a whole one.
    { rule: 'max', isMet: (seconds ?? 0) <= grant.max + 1 },
    ...(isLease(entry)
      ? [
          { rule: 'services' as const, isMet: askedOf(grant.services, entry).length > 0 },
          { rule: prefixRule(entry.address), isMet: (block?.bits ?? 0) >= prefixOf(entry.address, grant) },
          { rule: 'allow_until_closed' as const, isMet: seconds !== null || grant.allowUntilClosed },
        ]
      : [
          { rule: 'lock' as const, isMet: grant.lock },
          { rule: 'never_lock' as const, isMet: !meets(neverLock) },
        ]),
  ]
  return rulings.find(({ isMet }) => !isMet)?.rule ?? null
}

const isAllowed = (address: string, { addresses }: GrantRules): boolean => addresses.some((block) => inCidr(block, address))
const prefixRule = (address: string): GrantRule => (address.includes(':') ? 'open_prefix6' : 'open_prefix')

const prefixOf = (address: string, { openPrefix, openPrefix6 }: GrantRules): number =>
  address.includes(':') ? (openPrefix6 ?? 128) : (openPrefix ?? 32)

function opening(request: Request, address: string, key: ServerKey, wall: number): Grant {
  const { seconds, once } = request
  const lifetime = once ? Math.min(seconds || MAX_ONCE, MAX_ONCE) : seconds
  const until = lifetime === 0 ? Infinity : Math.ceil(wall / 1000) + lifetime
  // No lease outlives its key.
  const end = Math.min(until, key.expires === null ? Infinity : Math.floor(key.expires / 1000))
  const services = askedOf(key.grant.services, request)
  return { action: 'open', address, services, once, until: Number.isFinite(end) ? end : null }
}

/**
 * What a lease opens for: the address, or the block around it that the grant says (carrier-grade NAT sends a client's connections from
 * several addresses of one). A block that would hold what no lease may name is left at the address.
 * @returns null where the block goes beyond the grant's addresses
 */
function openBlock(address: string, destination: string, grant: GrantRules): string | null {
  const { addresses } = grant
  const bits = prefixOf(address, grant)
  const block = blockAround(address, bits)
  if (!block) return null
  if (!addresses.some((allowed) => allowed.bits <= bits && overlap(allowed, block))) return null
  const isTooWide = [...NOBODY, ...LOOPBACK].some((other) => overlap(other, block)) || inCidr(block, destination)
  return isTooWide ? address : formatCidr(block)
}

/** The services that a close names: both protocols of a port for "any", and none for port 0, which closes all. */
function closed({ port, protocol }: Request): Service[] {
  if (port === 0) return []
  return protocol === 'any'
    ? [
        { port, protocol: 'tcp' },
        { port, protocol: 'udp' },
      ]
    : [{ port, protocol }]
}

/** Addresses that no packet comes from: nothing to open for. */
const NOBODY = ['0.0.0.0/8', '224.0.0.0/4', '255.255.255.255/32', '::/128', 'ff00::/8'].map((text) => parseCidr(text) as Cidr)
const LOOPBACK = ['127.0.0.0/8', '::1/128'].map((text) => parseCidr(text) as Cidr)
