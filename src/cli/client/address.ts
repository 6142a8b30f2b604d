import { isIP } from 'node:net'
import type { Command } from 'commander'
import { parseHttps } from '../../client/own-address'
import { parseStun } from '../../client/stun'
import { canonicalAddress, isZeroAddress } from '../../protocol/address'
import { AS_SEEN } from '../../protocol/request'
import { Fault, TimeFault, UsageFault } from '../../system/fault'
import { reading, refuseIdle } from '../options'
import { noteOf } from '../voice'
import { type AimOptions, NAME, type Place } from './aim'

/* The address to open for, on the command line. */

/** Milliseconds by which a timer may be early. */
const EARLY = 5

/** "My own address": asked of whom the user has named. */
const AUTO = 'auto'

export interface AddressOptions {
  address?: string
  stun?: { host: string; port: number }
  stunTrusted?: boolean
  addressUrl?: URL
  dryRun?: boolean
}

/** Gives a command the options of {@link AddressOptions}. */
export function withAddress(command: Command): Command {
  return command
    .addOption(
      reading(
        '-i, --address <address>',
        'the address to open for (default: the one that the server sees); auto: this machine, as --address-url or --stun sees it',
        (text) => (text === AUTO ? AUTO : canonicalAddress(text)),
        'an IPv4 or IPv6 address',
      ),
    )
    .addOption(reading('--address-url <url>', 'with -i auto: the address service to ask', parseHttps, 'an https URL'))
    .addOption(
      reading(
        '--stun <server>',
        'with -i auto: the STUN server to ask, where nobody on the way can forge its answer',
        parseStun,
        'a host, or host:port',
      ),
    )
    .option('--stun-trusted', 'with --stun: nobody can, as inside a VPN')
}

/** Checks what of a command's options does not go together. @throws {UsageFault} */
export function checkAddress(command: Command): void {
  const { address, dryRun, stun, stunTrusted, addressUrl } = command.opts<AddressOptions>()
  if (address !== AUTO) {
    refuseIdle(command, ['stun', 'stunTrusted', 'addressUrl'], '-i auto: nobody is asked without')
    return
  }
  if (dryRun) throw new UsageFault('--dry-run asks nobody: give an address with -i in the place of auto')
  if (!stun && !addressUrl)
    throw new UsageFault(
      '-i auto expected somebody to ask for your address: name a service with --address-url, or a server with --stun',
    )
  if (stun && addressUrl) throw new UsageFault('expected --stun or --address-url, got both')
  if (!stun) refuseIdle(command, ['stunTrusted'], '--stun')
  checkTrust(stun !== undefined, stunTrusted ?? false)
}

/**
 * Checks that a STUN server is asked only where the user says that its answer can't be forged: with a forged one they would knock for the
 * forger, who need only play that knock.
 * @throws {UsageFault}
 */
export function checkTrust(hasStun: boolean, isTrusted: boolean): void {
  if (!hasStun || isTrusted) return
  throw new UsageFault(
    '--stun expected --stun-trusted beside it, as anybody on the way can forge the answer and have your knock open for them: ask with --address-url, or trust a server that is reached through a VPN (in a profile: stun_trusted = true)',
  )
}

/** The address as far as it is known before anybody is asked. */
export function knownAddress({ address }: AddressOptions): string {
  return address === undefined || address === AUTO ? AS_SEEN : address
}

/**
 * This machine's address as the server at an address will see it, by whom the user has named; null where nobody is to be asked.
 * @param end when it must be known, in steady milliseconds
 * @throws {Fault} where nobody says it; a {@link TimeFault} where it was the user's time that was too short for it
 */
export async function askedAddress(
  { address, stun, addressUrl }: AddressOptions,
  server: string,
  end: number,
): Promise<string | null> {
  if (address !== AUTO) return null
  const [{ ownAddress }, { ASK_LIMIT }] = await Promise.all([import('../../client/own-address'), import('../../client/ask')])
  const limit = end - performance.now()
  return ownAddress(stun ? { stun } : { url: addressUrl as URL }, server, limit).catch((error) => {
    // Where it was not the user's time that is up, more of that would not help.
    if (!(error instanceof Fault) || limit >= ASK_LIMIT || performance.now() < end - EARLY) throw error
    const hint = error.hint ?? 'that was all the time of --wait: give it more, or your address with -i'
    throw new TimeFault(error.message, { cause: error, hint })
  })
}

/**
 * As {@link askedAddress}, for a server that may have an address of each family: where nobody says ours by the first, by the other, which may be the
 * only one that leads anywhere.
 * @returns where to knock then, and our address
 * @throws {Fault} that of the first, where nobody says it by either
 */
export async function askedByEither(
  options: AddressOptions & Pick<AimOptions, 'quiet'>,
  place: Place,
  end: number,
): Promise<Place & { readonly own: string | null }> {
  const ask = async (at: Place) => ({ ...at, own: await askedAddress(options, at.address, end) })
  const { other } = place
  if (other === null) return ask(place)
  try {
    return await ask(place)
  } catch (error) {
    if (!(error instanceof Fault)) throw error
    const found = await ask({ ...place, address: other, other: null }).catch(() => {
      throw error
    })
    if (!options.quiet) noteOf(NAME, `${error.message}: asked and knocked by IPv${isIP(other)}`)
    return found
  }
}

/** The family that is preferred where the server has both: that of the address to open for. */
export function preferredFamily(options: AddressOptions): 0 | 4 | 6 {
  const address = knownAddress(options)
  return isZeroAddress(address) ? 0 : (isIP(address) as 4 | 6)
}
