import type { Command } from 'commander'
import { AUTO, type OpenFor } from '../../client/open-for'
import { parseHttps } from '../../client/own-address'
import { parseStun } from '../../client/stun'
import { canonicalAddress } from '../../protocol/address'
import { UsageFault } from '../../system/fault'
import { reading } from '../options'
import type { AimOptions } from './aim'
import { refuseWithout } from './option-rules'

/* The address to open for, on the command line. */

export interface AddressOptions extends OpenFor {
  stunTrusted?: boolean
}

/** Gives a command the options of {@link AddressOptions}. */
export function withAddress(command: Command): Command {
  return command
    .addOption(
      reading(
        '-i, --address <address>',
        'address to open for (default: the one that the server sees); auto: ask --address-url or --stun for it',
        (text) => (text === AUTO ? AUTO : canonicalAddress(text)),
        'an IPv4 or IPv6 address',
      ),
    )
    .addOption(
      reading('--address-url <url>', 'with -i auto: HTTPS service that answers with your address', parseHttps, 'an https URL'),
    )
    .addOption(
      reading('--stun <server>', 'with -i auto: STUN server to ask; requires --stun-trusted', parseStun, 'a host, or host:port'),
    )
    .option('--stun-trusted', 'with --stun: nobody on the path can forge its answer, as inside a VPN')
}

/** Checks what of a command's options does not go together. @throws {UsageFault} */
export function checkAddress(command: Command): void {
  const { address, dryRun, stun, stunTrusted, addressUrl } = command.opts<AddressOptions & AimOptions>()
  if (address !== AUTO) {
    refuseWithout(command, 'address', '-i auto')
    return
  }
  if (dryRun)
    throw new UsageFault('-i auto cannot be used with --dry-run, which asks nobody', { hint: 'give an address with -i' })
  if (!stun && !addressUrl)
    throw new UsageFault('-i auto requires a server to ask for your address', { hint: 'name one with --address-url or --stun' })
  if (stun && addressUrl) throw new UsageFault('--stun cannot be used with --address-url')
  if (!stun) refuseWithout(command, 'stun', '--stun')
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
    '--stun requires --stun-trusted: anyone on the path can forge the answer and have your knock open for them',
    {
      hint: 'use --address-url, or trust a server that you reach through a VPN (in a profile: stun_trusted = true)',
    },
  )
}
