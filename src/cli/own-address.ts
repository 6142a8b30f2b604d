import { isIP } from 'node:net'
import type { Command } from 'commander'
import { UsageFault } from '../host/fault'
import { parseHttps } from '../host/own-address'
import { parseStun } from '../host/stun'
import { canonicalAddress, isZeroAddress } from '../protocol/address'
import { AS_SEEN } from '../protocol/request'
import { reading, refuseIdle } from './options'

/* The address to open for, on the command line. */

/** "My own address": asked of whom the user has named. */
const AUTO = 'auto'

export interface AddressOptions {
  i?: string
  stun?: { host: string; port: number }
  addressUrl?: URL
  dryRun?: boolean
}

/** Gives a command the options of {@link AddressOptions}. */
export function withAddress(command: Command): Command {
  return command
    .addOption(
      reading(
        '-i <address>',
        'the address to open for (default: the one that the server sees); auto: this machine, as --stun or --address-url sees it',
        (text) => (text === AUTO ? AUTO : canonicalAddress(text)),
        'an IPv4 or IPv6 address',
      ),
    )
    .addOption(reading('--stun <server>', 'with -i auto: the STUN server to ask', parseStun, 'a host, or host:port'))
    .addOption(reading('--address-url <url>', 'with -i auto: the address service to ask', parseHttps, 'an https URL'))
}

/** Checks what of a command's options does not go together. @throws {UsageFault} */
export function checkAddress(command: Command): void {
  const { i, dryRun, stun, addressUrl } = command.opts<AddressOptions>()
  if (i !== AUTO) {
    refuseIdle(command, ['stun', 'addressUrl'], '-i auto: nobody is asked without')
    return
  }
  if (dryRun) throw new UsageFault('--dry-run asks nobody: give an address with -i in the place of auto')
  if (!stun && !addressUrl)
    throw new UsageFault('-i auto expected somebody to ask for your address: name a server with --stun, or with --address-url')
  if (stun && addressUrl) throw new UsageFault('expected --stun or --address-url, got both')
}

/** The address as far as it is known before anybody is asked. */
export function knownAddress({ i }: AddressOptions): string {
  return i === undefined || i === AUTO ? AS_SEEN : i
}

/** This machine's address as somebody sees it whom the user has named; null where nobody is to be asked. @throws {Fault} */
export async function askedAddress({ i, stun, addressUrl }: AddressOptions, family: 4 | 6): Promise<string | null> {
  if (i !== AUTO) return null
  const { ownAddress } = await import('../host/own-address')
  return ownAddress(stun ? { stun } : { url: addressUrl as URL }, family)
}

/** The family that is preferred where the server has both: that of the address to open for. */
export function preferredFamily(options: AddressOptions): 0 | 4 | 6 {
  const address = knownAddress(options)
  return isZeroAddress(address) ? 0 : (isIP(address) as 4 | 6)
}
