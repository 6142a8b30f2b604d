import { isIP } from 'node:net'
import { networkInterfaces } from 'node:os'
import { addressBytes } from '../protocol/address'

/* Networks that have IPv6 only, and a translator to IPv4 (RFC 6052): many a phone's, and with it its hotspot's. */

/** The translator's prefix, where a network has none of its own. The IPv4 address stands behind it. */
const PREFIX = '64:ff9b::'
const PREFIX_BYTES = [0x00, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0]

/** Whether an address is that of an IPv4 host behind a translator: the host sees us come from an IPv4 address then. */
export function isTranslated(address: string): boolean {
  const bytes = addressBytes(address)
  return bytes?.length === 16 && PREFIX_BYTES.every((byte, i) => bytes[i] === byte)
}

/** What to do where nothing can be sent to an address; undefined: nobody knows. */
export function wayTo(address: string): string | undefined {
  const own = Object.values(networkInterfaces()).flatMap((all) => all?.filter(({ internal }) => !internal) ?? [])
  const isOnly6 = own.every(({ family }) => family === 'IPv6') && own.some(({ address }) => !address.startsWith('fe80:'))
  if (isIP(address) !== 4 || !isOnly6) return undefined
  return `this machine has IPv6 only: use the server's name if it has an IPv6 address, or -r ${PREFIX}${address} if the network has NAT64`
}
