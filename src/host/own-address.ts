import { isIP } from 'node:net'
import { canonicalAddress, isZeroAddress } from '../protocol/address'
import { askHttps } from './ask'
import { Fault } from './fault'
import { askStun } from './stun'

/** Whom to ask for this machine's address, as others see it: somebody whom the user has named. */
export type AddressSource =
  | { readonly stun: { readonly host: string; readonly port: number }; readonly url?: undefined }
  | { readonly url: URL; readonly stun?: undefined }

/**
 * The address from which others see this machine come, by the family by which it will knock.
 * @throws {Fault} where nothing credible is answered
 */
export async function ownAddress(source: AddressSource, family: 4 | 6): Promise<string> {
  const text = source.stun ? await askStun(source.stun, family) : (await askHttps(source.url, 'GET', family)).text.trim()
  const address = canonicalAddress(text)
  if (address === null || isIP(address) !== family || isZeroAddress(address)) {
    const whom = source.stun?.host ?? source.url?.origin
    throw new Fault(
      `${whom}: expected this machine's IPv${family} address and nothing else, got ${JSON.stringify(text.slice(0, 60))}`,
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
