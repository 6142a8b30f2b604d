import { readFile } from 'node:fs/promises'
import { errorCode } from '../../system/fault'
import { type Family, IP_NAMES, interfaceAddresses } from '../iptables/table'
import { isReachable, toNumber } from './matches'

/* By which interfaces strangers come, and to which addresses. */

/** Flags of a route (linux/route.h): it is in use, and it leads nowhere. */
const UP = 0x1
const REJECT = 0x200

/** The interfaces of default routes, as /proc/self/net/route and ipv6_route list them. */
export function defaultInterfaces(ipv4: string, ipv6: string): string[] {
  const rows = (text: string) => text.split('\n').map((line) => line.trim().split(/\s+/))
  const leads = (flags: string) => (Number.parseInt(flags, 16) & (UP | REJECT)) === UP
  const names = [
    ...rows(ipv4).flatMap(([name, to, , flags, , , , mask]) =>
      to === '00000000' && mask === '00000000' && leads(flags) ? name : [],
    ),
    ...rows(ipv6).flatMap(([to, bits, , , , , , , flags, name]) =>
      /^0{32}$/.test(to) && bits === '00' && leads(flags) ? name : [],
    ),
  ]
  return [...new Set(names)].filter((name) => name !== 'lo')
}

/** All interfaces but lo, as /proc/self/net/dev lists them. */
export function allInterfaces(dev: string): string[] {
  return [...dev.matchAll(/^ *([^\s:]+):/gm)].map(([, name]) => name).filter((name) => name !== 'lo')
}

/**
 * The interfaces by which strangers come: those of default routes (of the main routing table), else all but lo; all, too, where a family's
 * routes can't be read. None where not even that can be known.
 */
export async function outerInterfaces(): Promise<string[]> {
  const read = (name: string) =>
    readFile(`/proc/self/net/${name}`, 'latin1').catch((error) => (errorCode(error) === 'ENOENT' ? '' : null))
  const [ipv4, ipv6] = [await read('route'), await read('ipv6_route')]
  const names = ipv4 === null || ipv6 === null ? [] : defaultInterfaces(ipv4, ipv6)
  return names.length > 0 ? names : allInterfaces((await read('dev')) ?? '')
}

/**
 * The addresses of this machine that strangers can name.
 * @returns null where it has none of this family at all, not even that of loopback, and so no packets
 */
export function reachableAddresses(family: Family): bigint[] | null {
  try {
    const own = interfaceAddresses().filter((one) => one.family === IP_NAMES[family])
    const addresses = own.flatMap(({ address }) => toNumber(address.split('%')[0]) ?? [])
    return own.length === 0 && family === 'ip6tables' ? null : addresses.filter((address) => isReachable(address, family))
  } catch {
    return []
  }
}
