import type { Cidr } from '../protocol/address'
import type { Key } from '../protocol/key'
import type { Request } from '../protocol/request'
import type { Service } from '../protocol/service'

/* What a key is to a server: what it may ask, and until when. */

/** What a key may ask: the table `[grant]` of its file. */
export interface GrantRules {
  readonly services: readonly Service[]
  /** Longest lifetime in seconds. */
  readonly max: number
  readonly addresses: readonly Cidr[]
  /** The address asked for must be the knock's source. */
  readonly bindSource: boolean
  /** The address must be named: no "as you see me". */
  readonly requireAddress: boolean
  readonly allowUntilClosed: boolean
  readonly lock: boolean
  /** Bits of the block around the address for which a lease opens, by IPv4 and by IPv6; 32 and 128, the address alone, where it is not said. */
  readonly openPrefix?: number
  readonly openPrefix6?: number
}

/** Fewest bits of such a block: 65,536 addresses of IPv4, and one site of IPv6. */
export const MIN_OPEN_PREFIX = 16
export const MIN_OPEN_PREFIX6 = 48

/** What a key's passcode opens: the table `[passcode]` of its file, within the key's grant. */
export interface PasscodeGrant {
  /** Secret: 0 to 4 digits. */
  readonly pin: string
  readonly services: readonly Service[]
  /** Lifetime in seconds. */
  readonly seconds: number
  readonly once: boolean
}

/** A key as the daemon knows it. */
export interface ServerKey {
  readonly id: string
  readonly key: Key
  /** hex */
  readonly fingerprint: string
  /** Unix milliseconds, or null: never */
  readonly expires: number | null
  readonly revoked: number | null
  readonly grant: GrantRules
  /** Absent where it has no passcode. */
  readonly passcode?: PasscodeGrant
}

/** Whether a key has been revoked or has expired. */
export function isOver(key: Pick<ServerKey, 'revoked' | 'expires'>, wall: number): boolean {
  // Revoked is revoked, also by somebody whose clock was ahead.
  return key.revoked !== null || (key.expires !== null && key.expires <= wall)
}

/** What has ended a key; null: nothing yet. @param wall Unix milliseconds */
export function endOf(key: Pick<ServerKey, 'revoked' | 'expires'>, wall: number): 'revoked' | 'expired' | null {
  if (!isOver(key, wall)) return null
  return key.revoked !== null ? 'revoked' : 'expired'
}

/** A key as its passcode has it: of the grant, only what the passcode opens. Null where it has no passcode. */
export function passcodeKey(key: ServerKey): ServerKey | null {
  return key.passcode ? { ...key, grant: { ...key.grant, services: key.passcode.services } } : null
}

/** Those of some services that a request to open asks for. */
export function askedOf(services: readonly Service[], asked: Pick<Request, 'port' | 'protocol'>): Service[] {
  return services.filter(
    ({ port, protocol }) =>
      (asked.port === 0 || asked.port === port) && (asked.protocol === 'any' || asked.protocol === protocol),
  )
}
