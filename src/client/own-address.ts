import { isIP } from 'node:net'
import { canonicalAddress, isZeroAddress } from '../protocol/address'
import { Fault } from '../system/fault'
import { ASK_LIMIT, askHttps } from './ask'
import { isTranslated } from './nat64'
import { askStun } from './stun'

/** Whom to ask for this machine's address, as others see it: somebody whom the user has named. A STUN server, only where they trust the way to it. */
type AddressSource =
  | { readonly stun: { readonly host: string; readonly port: number }; readonly url?: undefined }
  | { readonly url: URL; readonly stun?: undefined }

const TRANSLATED =
  'is an IPv4 host behind NAT64 and sees an IPv4 address: ask a service that has IPv4 only, give the address with -i, or leave -i out'

/**
 * The address from which a server sees this machine come; others are asked for it, by the family by which it will knock.
 * @param server its address
 * @param limit milliseconds
 * @throws {Fault} where nothing credible is answered
 */
export async function ownAddress(source: AddressSource, server: string, limit: number): Promise<string> {
  const within = Math.min(limit, ASK_LIMIT)
  if (!isTranslated(server)) return askAddress(source, within, isIP(server) as 4 | 6)
  // Of whom we ask, only those see the same as the server to whom the same translator leads.
  return askAddress(source, within, 6, 4).catch((error) => {
    throw error instanceof Fault ? new Fault(error.message, { hint: `${server} ${TRANSLATED}` }) : error
  })
}

/** @param seen the family of the address that is wanted */
async function askAddress(source: AddressSource, limit: number, family: 4 | 6, seen = family): Promise<string> {
  const text = source.stun
    ? await askStun(source.stun, family, limit, seen)
    : (await askHttps(source.url, 'GET', family, limit)).text.trim()
  const address = canonicalAddress(text)
  if (address === null || isIP(address) !== seen || isZeroAddress(address)) {
    const whom = source.stun?.host ?? source.url?.origin
    throw new Fault(
      `${whom}: expected this machine's IPv${seen} address and nothing else, got ${JSON.stringify(text.slice(0, 60))}`,
    )
  }
  return address
}

/** The URL of an address service: https, and nothing secret in it; null for any other text. */
export function parseHttps(text: string): URL | null {
  if (!URL.canParse(text)) return null
  const url = new URL(text)
  return url.protocol === 'https:' && url.username === '' && url.password === '' ? url : null
}
