import { isIP } from 'node:net'
import { errorCode, Fault, reason } from '../system/fault'
import { lookUp, NAME_LIMIT, NO_ANSWER } from './name'

/**
 * Finds a server's address: the first that the system's resolver gives, as other programs will.
 * @param required 4 or 6 where only that family will do, else 0
 * @param preferred the family to take where there is a choice, or 0
 * @param limit milliseconds
 * @throws {Fault} when there is none, or none is known in time
 */
export async function resolveHost(
  host: string,
  required: 0 | 4 | 6,
  preferred: 0 | 4 | 6 = 0,
  limit: number = NAME_LIMIT,
): Promise<string> {
  return (await resolveAll(host, required, preferred, limit))[0]
}

/** As {@link resolveHost}, all of its addresses, at least one, those of the preferred family first. */
export async function resolveAll(
  host: string,
  required: 0 | 4 | 6,
  preferred: 0 | 4 | 6,
  limit: number,
): Promise<readonly string[]> {
  const literal = isIP(host)
  if (literal && required && literal !== required)
    throw new Fault(`${host}: expected an IPv${required} address, got an IPv${literal} one`, { hint: `leave out -${required}` })
  try {
    const rank = (address: string) => Number(isIP(address) !== preferred)
    return (await lookUp(host, required, Math.min(limit, NAME_LIMIT))).toSorted((a, b) => rank(a) - rank(b))
  } catch (error) {
    throw new Fault(`${host}: cannot be resolved: ${reason(error)}`, {
      cause: error,
      hint: unresolved(host, required, errorCode(error)),
    })
  }
}

/** What to do for a name that has no address. */
function unresolved(host: string, required: 0 | 4 | 6, code: string | undefined): string {
  if (/[:/@[\]\s]/.test(host)) return 'give the name or address alone, without port or brackets'
  if (code === NO_ANSWER || code === 'EAI_AGAIN') return "check this machine's network, or give an address"
  return `check the spelling${required === 0 ? '' : `, or leave out -${required}`}`
}

/** Whether two names of hosts are one: case means nothing, and a final dot only that a name is whole. */
export function isSameName(one: string, other: string): boolean {
  const bare = (name: string) => name.toLowerCase().replace(/\.$/, '')
  return bare(one) === bare(other)
}
