import { isIP } from 'node:net'
import { isZeroAddress } from '../protocol/address'
import { AS_SEEN } from '../protocol/request'
import { Fault, TimeFault } from '../system/fault'
import { isTranslated } from './nat64'
import type { Place } from './place'

/* The address to open for: one that is given, this machine's own, for which others are asked, or the one that the server sees. */

/** Milliseconds by which a timer may be early. */
const EARLY = 5

/** "My own address": asked of whom the user has named. */
export const AUTO = 'auto'

/** Which address to open for, and whom to ask where that is {@link AUTO}. */
export interface OpenFor {
  /** undefined: the one that the server sees. */
  address?: string
  stun?: { host: string; port: number }
  addressUrl?: URL
}

/** The address as far as it is known before anybody is asked. */
export function knownAddress({ address }: OpenFor): string {
  return address === undefined || address === AUTO ? AS_SEEN : address
}

/** The family that is preferred where the server has both: that of the address to open for; 0: either. */
export function preferredFamily(openFor: OpenFor): 0 | 4 | 6 {
  const address = knownAddress(openFor)
  return isZeroAddress(address) ? 0 : (isIP(address) as 4 | 6)
}

/**
 * This machine's address as the server at an address will see it, by whom the user has named; null where nobody is to be asked.
 * @param end when it must be known, in steady milliseconds
 * @throws {Fault} where nobody says it; a {@link TimeFault} where it was the user's time that was too short for it
 */
export async function askedAddress({ address, stun, addressUrl }: OpenFor, server: string, end: number): Promise<string | null> {
  if (address !== AUTO) return null
  const [{ ownAddress }, { ASK_LIMIT }] = await Promise.all([import('./own-address'), import('./ask')])
  const limit = end - performance.now()
  return ownAddress(stun ? { stun } : { url: addressUrl as URL }, server, limit).catch((error) => {
    // Where it was not the user's time that is up, more of that would not help.
    if (!(error instanceof Fault) || limit >= ASK_LIMIT || performance.now() < end - EARLY) throw error
    // Behind a translator, more time would not help alone.
    const more = 'the time of --wait was too short for it: give it more, or give your address with -i'
    const hint = isTranslated(server) ? error.hint : more
    throw new TimeFault(error.message, { cause: error, hint })
  })
}

/**
 * As {@link askedAddress}, for a server that may have an address of each family: where nobody says ours by the first, by the other, which may be the
 * only one that leads anywhere.
 * @param note is told where it was the other
 * @returns where to knock then, and our address
 * @throws {Fault} that of the first, where nobody says it by either
 */
export async function askedByEither(
  openFor: OpenFor,
  place: Place,
  end: number,
  note: (message: string) => void,
): Promise<Place & { readonly own: string | null }> {
  const ask = async (at: Place) => ({ ...at, own: await askedAddress(openFor, at.address, end) })
  const { other } = place
  if (other === null) return ask(place)
  try {
    return await ask(place)
  } catch (error) {
    if (!(error instanceof Fault)) throw error
    const found = await ask({ ...place, address: other, other: null }).catch(() => {
      throw error
    })
    note(`${error.message}: asked and knocked by IPv${isIP(other)} instead`)
    return found
  }
}
