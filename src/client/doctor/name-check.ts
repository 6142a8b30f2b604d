import { isIP } from 'node:net'
import { type Cidr, inCidr, parseCidr } from '../../protocol/address'
import type { Check } from '../../system/check'
import type { Place } from '../place'

/* What a server's name has led to: pure. */

/** Addresses that mean another machine in each network (RFC 1918, 3927, 4193, 4291, 6598). */
const PRIVATE = ['10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16', '100.64.0.0/10', '169.254.0.0/16', 'fc00::/7', 'fe80::/10'].map(
  (block) => parseCidr(block) as Cidr,
)

/** Whether an address means another machine in another network. */
export function isPrivate(address: string): boolean {
  const bare = address.replace(/%.*/, '')
  return PRIVATE.some((block) => inCidr(block, bare))
}

/** The addresses of a server, at most one of each family, by which the client would knock. */
export const addressesOf = ({ address, other }: Place): string[] => (other === null ? [address] : [address, other])

/** What a server's name, or its address, has led to. */
export function judgeName(place: Place): Check {
  const { host } = place
  const addresses = addressesOf(place)
  if (isIP(host)) return { name: 'name', verdict: 'ok', evidence: `${host} is an address: no name server is asked` }
  const evidence = `${host} is ${addresses.join(' and ')}`
  const own = addresses.find(isPrivate)
  if (own === undefined) return { name: 'name', verdict: 'ok', evidence }
  return {
    name: 'name',
    verdict: 'note',
    evidence: `${evidence}, which is a private address: right in your own network or VPN, and elsewhere perhaps that of a login page`,
    remedy: "elsewhere, log in to this network first; or give the server's address with -r",
  }
}
