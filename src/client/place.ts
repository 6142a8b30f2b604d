import { isIP } from 'node:net'
import type { KeyFile } from '../keys/key-file'
import { canonicalAddress } from '../protocol/address'
import { errorCode, Fault, reason, TimeFault, UsageFault } from '../system/fault'
import { isSameName, resolveAll } from './host'
import { NAME_LIMIT, NO_ANSWER } from './name'

/* Where to knock: the address of a server, which must be that of the key. */

/** Which family alone will do; neither: both. */
export interface Families {
  ipv4?: boolean
  ipv6?: boolean
}

/** A key, and the server to knock at with it. */
export interface Aim {
  /** null: it is knocked by passcode, so that the host is named, and meant. */
  readonly key: KeyFile | null
  /** As somebody has named it; undefined: the key's own host. */
  readonly host: string | undefined
  /** Whether it was named by -r, which means it, whatever the key says. */
  readonly isMeant: boolean
}

/** A server as it is named, and where that is. */
export interface Place {
  readonly host: string
  readonly address: string
  /** Its address of the other family; null: it has none, or that would not do. */
  readonly other: string | null
}

/**
 * The server to knock at. Whoever is knocked at can play the knock at the key's server, within its window: so what was named must be the key's
 * host, unless it was meant.
 * @param preferred the family to take where it has both, or 0
 * @param end when it must be known, in steady milliseconds
 * @param warn is told where nothing says whether it is the key's host
 * @throws {Fault} where none is named, it has no address, or is not the key's host; a {@link TimeFault} where that is not known in time
 */
export async function findHost(
  families: Families,
  aim: Aim,
  preferred: 0 | 4 | 6,
  end: number,
  warn: (message: string, hint: string) => void,
): Promise<Place> {
  const limit = end - performance.now()
  try {
    return await findWithin(requiredFamily(families), aim, preferred, limit, warn)
  } catch (error) {
    // Where it was not the user's time that is up, more of that would not help.
    if (!(error instanceof Fault) || errorCode(error.cause) !== NO_ANSWER || limit >= NAME_LIMIT) throw error
    throw new TimeFault(error.message, {
      cause: error,
      hint: 'the time of --wait was too short for it: give it more, or give an address',
    })
  }
}

async function findWithin(
  required: 0 | 4 | 6,
  { key, host: named, isMeant }: Aim,
  preferred: 0 | 4 | 6,
  limit: number,
  warn: (message: string, hint: string) => void,
): Promise<Place> {
  const host = named ?? key?.host
  if (!host) throw new UsageFault('no server to knock at: the key names no host', { hint: 'name it with -r' })
  if (key !== null && !isMeant && key.host !== null && !isSameName(host, key.host))
    return placeAt(host, await resolveShared(host, key.host, key.id, required, preferred, limit), preferred)
  if (key !== null && !isMeant && key.host === null)
    warn(
      `the key ${key.id} names no host: cannot check that ${host} is its server`,
      `add host = "${host}" to the key's file, if that is its server, or make keys with "knockturn key new --host"`,
    )
  return placeAt(host, await resolveAll(host, required, preferred, limit), preferred)
}

/** Where there is an address to open for, a knock by the other family would be refused. */
function placeAt(host: string, all: readonly string[], preferred: 0 | 4 | 6): Place {
  const [address] = all
  const other = preferred === 0 ? all.find((one) => isIP(one) !== isIP(address)) : undefined
  return { host, address, other: other ?? null }
}

/**
 * The addresses of a host that is the key's by another name: those that both have, since whoever owns the name may give it others beside them.
 * @throws {UsageFault} where there is none, or nobody can tell
 */
async function resolveShared(
  host: string,
  expected: string,
  id: string,
  required: 0 | 4 | 6,
  preferred: 0 | 4 | 6,
  limit: number,
): Promise<readonly string[]> {
  const found = await Promise.allSettled([resolveAll(host, required, preferred, limit), resolveAll(expected, required, 0, limit)])
  const failure = found.find((one) => one.status === 'rejected')
  const [own, its] = found.map((one) => (one.status === 'fulfilled' ? one.value : []))
  const canonical = (address: string) => canonicalAddress(address) ?? address
  // A name server may give thousands of each.
  const ofKey = new Set(its.map(canonical))
  const shared = own.filter((address) => ofKey.has(canonical(address)))
  if (shared.length > 0) return shared
  const but = failure
    ? `, and it is not known whether ${host} is that host (${reason(failure.reason.cause ?? failure.reason)})`
    : `, and ${host} is another host`
  throw new UsageFault(`the key ${id} is for ${expected}${but}`, {
    cause: failure?.reason.cause,
    hint: `use another key, or -r ${host} if you mean that host`,
  })
}

/** The only family that will do, or 0. */
function requiredFamily({ ipv4, ipv6 }: Families): 0 | 4 | 6 {
  return ipv4 ? 4 : ipv6 ? 6 : 0
}

/** A server as it is named, and where that is, in words. */
export function placeOf(host: string, address: string): string {
  return host === address ? host : `${host} (${address})`
}
