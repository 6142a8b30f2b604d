import { type Command, Option } from 'commander'
import type { Families } from '../../client/place'
import { MAX_PARITY, PARITY } from '../../protocol/knock'
import { UsageFault } from '../../system/fault'
import { reading, whole } from '../options'

/* The options that every way to knock shares: the key, the server, and how the knock is sent. */

/** The program whose commands these are. */
export const NAME = 'knockclient'

/** A knock must fit into the 10 s for which the daemon remembers a tap (docs/protocol.md, "Sending"). */
export const MAX_KNOCK_MS = 10_000
const MAX_PASSES = 10
/** Highest number of an open file that a system gives out. */
const MAX_FD = 1_048_575

/** The description of --dry-run. */
export const DRY_RUN = 'send and resolve nothing; print the ports of one knock, which anyone who sees them can send now'

/** The description of -t. */
export const TIME = 'how long: 90s, 15m, 1h30m, 1d, or minutes'

/** Seconds for which to knock, unless --wait names others, and at most. */
export const DEFAULT_WAIT = 30
export const MAX_WAIT = 3_600

/** The options that say with which key, where and how to knock. */
export interface AimOptions extends Families {
  server?: string
  key?: string
  keyFd?: number
  udp?: boolean
  datagram?: number
  pace: number
  passes: number
  parity: number
  timeOffset: number
  dryRun?: boolean
  quiet?: boolean
  verbose?: boolean
}

/** Gives a command the options that say with which key and where to knock; {@link withWay} gives it the others. */
export function withTarget(command: Command): Command {
  return command
    .option('-r, --server <host>', "server (default: the key's host)")
    .option('-k, --key <key>', 'key file, or name in the keyring (default: the only one)')
    .addOption(
      reading(
        '--key-fd <n>',
        'read the key from this open file descriptor',
        whole(0, MAX_FD),
        'the number of an open file, such as 3',
      ),
    )
}

/** Gives a command the options that say how to knock, and how much to report: what few need, and so the last. */
export function withWay(command: Command): Command {
  return command
    .option('-4, --ipv4', 'knock by IPv4')
    .option('-6, --ipv6', 'knock by IPv6')
    .option('--udp', 'touch the ports by UDP, not TCP; without --wait, UDP shows nothing')
    .addOption(
      reading(
        '--datagram <port>',
        'send the knock in one UDP datagram to this port, if the server hears those',
        whole(1, 65535),
        'a port from 1 to 65535',
      ),
    )
    .addOption(reading('--pace <ms>', 'milliseconds between two ports', whole(0, MAX_KNOCK_MS), 'milliseconds').default(0))
    .addOption(
      reading(
        '--passes <n>',
        'how many times to send the knock',
        whole(1, MAX_PASSES),
        `a number from 1 to ${MAX_PASSES}`,
      ).default(2),
    )
    .addOption(
      reading(
        '--parity <n>',
        'extra ports per knock, against packet loss',
        whole(0, MAX_PARITY),
        `a number from 0 to ${MAX_PARITY}`,
      ).default(PARITY),
    )
    .addOption(timeOffsetOption())
    .option('--quiet', 'print errors only')
    .option('-v, --verbose', 'print what it does')
}

/** The option that corrects this machine's clock. */
export function timeOffsetOption(): Option {
  const description = "seconds to add to this machine's clock"
  return reading('--time-offset <seconds>', description, readOffset, 'whole seconds, such as 90 or -3600').default(0)
}

/** The option that has a knock sent which the key's file says will be refused. */
export function forceOption(): Option {
  return new Option('--force', "send the knock even if the key's file says that the server will refuse it")
}

/** Checks what of the options does not go together. @throws {UsageFault} */
export function checkAim(options: Omit<Partial<AimOptions>, 'server'>): void {
  if (options.ipv4 && options.ipv6) throw new UsageFault('-4 cannot be used with -6')
  if (options.key !== undefined && options.keyFd !== undefined) throw new UsageFault('-k cannot be used with --key-fd')
  if (options.udp && options.datagram !== undefined) throw new UsageFault('--udp cannot be used with --datagram')
}

/** Whether -r stands on the command line: in a profile it is a name like any other. */
export function hasMeantHost(command: Command): boolean {
  return command.getOptionValueSource('server') === 'cli'
}

function readOffset(text: string): number | null {
  return /^[+-]?\d{1,10}$/.test(text) ? Number(text) : null
}
