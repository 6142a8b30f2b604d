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
  const { address, dryRun, stun, stunTrusted, addressUrl } = command.opts<AddressOptions & AimOptions>()
  if (address !== AUTO) {
    refuseWithout(command, 'address', '-i auto: nobody is asked without')
    return
  }
  if (dryRun) throw new UsageFault('--dry-run asks nobody: give an address with -i in the place of auto')
  if (!stun && !addressUrl)
    throw new UsageFault(
      '-i auto expected somebody to ask for your address: name a service with --address-url, or a server with --stun',
    )
  if (stun && addressUrl) throw new UsageFault('expected --stun or --address-url, got both')
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
    '--stun expected --stun-trusted beside it, as anybody on the way can forge the answer and have your knock open for them: ask with --address-url, or trust a server that is reached through a VPN (in a profile: stun_trusted = true)',
  )
}
