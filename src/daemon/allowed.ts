import type { GrantRule, Refused } from '../gate/policy'
import type { ServerKey } from '../gate/server-key'
import { type Cidr, formatCidr } from '../protocol/address'
import { formatService } from '../protocol/service'
import { listed } from '../system/fault'
import { formatDuration, isoTime } from '../system/time'

/** What a refusal's line says beyond its word. */
export interface RefusedBy {
  /** The rule that is not met. */
  readonly rule?: GrantRule
  /** What that rule allows, as its file has it; absent where nothing stands in a file. */
  readonly allowed?: string
  readonly reason?: string
}

/** Services or blocks of a grant that a line names: it may have 64 and 256 of them, and each refusal is a line. */
const NAMED = 16

/** What a line says of a request that policy refuses; nothing where its word says all. @param neverLock addresses that no lock may name */
export function ruledOut({ refusal, rule }: Refused, key: ServerKey, neverLock: readonly Cidr[]): RefusedBy {
  if (refusal !== 'not-granted') return {}
  const allowed = allowedBy(rule, key, neverLock)
  return allowed === null ? { rule } : { rule, allowed }
}

/**
 * What a rule allows, as a text like that of its file, and of bounded length.
 * @param neverLock addresses that no lock may name
 * @returns null for a rule that stands in no file, or does not stand there
 */
export function allowedBy(rule: GrantRule, { grant, expires, revoked }: ServerKey, neverLock: readonly Cidr[]): string | null {
  switch (rule) {
    case 'services':
      return listed(grant.services.map(formatService), NAMED)
    case 'addresses':
      return listed(grant.addresses.map(formatCidr), NAMED)
    case 'never_lock':
      return listed(neverLock.map(formatCidr), NAMED)
    case 'max':
      return formatDuration(grant.max)
    case 'open_prefix':
      return String(grant.openPrefix ?? 32)
    case 'open_prefix6':
      return String(grant.openPrefix6 ?? 128)
    case 'allow_until_closed':
      return String(grant.allowUntilClosed)
    case 'lock':
      return String(grant.lock)
    case 'require_address':
      return String(grant.requireAddress)
    case 'bind_source':
      return String(grant.bindSource)
    case 'expires':
      return expires === null ? null : isoTime(expires)
    case 'revoked':
      return revoked === null ? null : isoTime(revoked)
    default:
      return null
  }
}
