import { isIP } from 'node:net'
import { askedOf } from '../gate/server-key'
import { hintOf, type KeyFile } from '../keys/key-file'
import { sealBytes } from '../keys/sealed-key'
import { formatService, type Service } from '../protocol/service'
import { refuseEnded } from './ended'

/** What a page offers where nothing says what. */
export const DEFAULT_DOORS: readonly Service[] = [{ port: 22, protocol: 'tcp' }]
/** Seconds that a door may be open for by a page whose key does not say: a day. */
const DEFAULT_MAX = 24 * 3600

/** What a page with a key offers. */
interface PageOffer {
  readonly doors: readonly Service[]
  /** Those of them that the key may not open, as far as its file tells. */
  readonly beyond: readonly Service[]
  /** Seconds that a door is open unless another time is chosen, and at most. */
  readonly seconds: number
  readonly max: number
}

/**
 * What a page with a key offers.
 * @param services what is wanted; undefined: what the key may open
 * @param time seconds that are wanted
 * @param now Unix milliseconds
 * @throws {Fault} where the key opens nothing any more
 */
export function offerOf(file: KeyFile, services: readonly Service[] | undefined, time: number, now: number): PageOffer {
  refuseEnded(file, now)
  const { services: own, max: longest } = hintOf(file) ?? {}
  const doors = services ?? own ?? DEFAULT_DOORS
  const beyond = own ? doors.filter((door) => askedOf(own, door).length === 0) : []
  const max = longest ?? Math.max(time, DEFAULT_MAX)
  return { doors, beyond, seconds: Math.min(time, max), max }
}

/** The names that a page has to do with: what whoever finds it guesses first. */
export function namesOfPage({ id, key }: KeyFile, host: string, doors: readonly Service[]): string[] {
  return [id, host, key.server, ...doors.map(formatService)]
}

/** A key's secret as a page has it: an age file under a passphrase, in base64. */
export async function sealSecret({ key }: KeyFile, passphrase: string): Promise<string> {
  return Buffer.from(await sealBytes(key.secret, passphrase)).toString('base64')
}

/** The one of a host's addresses that codes go to: a code is good once. Sent to both families, it would open by one and be a replay by the other. */
export function addressForCode(addresses: readonly string[]): string {
  return addresses.find((one) => isIP(one) === 4) ?? addresses[0]
}
