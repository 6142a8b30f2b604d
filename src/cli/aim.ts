import { existsSync } from 'node:fs'
import type { Command } from 'commander'
import type { Sending, Sequence } from '../client'
import { findClientKey, loadClientKey, onlyClientKey, readKeyFrom } from '../host/client-key'
import { printable, UsageFault } from '../host/fault'
import { KEY_ID, type KeyFile } from '../host/key-file'
import { clientKeys } from '../host/keyring'
import { resolveHost } from '../host/transport'
import { MAX_PARITY, PARITY } from '../protocol/knock'
import { reading, whole } from './options'

/* What every way to knock shares: the key, the server, and how the knock is sent. */

/** The program whose commands these are. */
export const NAME = 'knockclient'

/** A knock must fit into the 10 s for which the daemon remembers a tap (docs/protocol.md, "Sending"). */
const MAX_KNOCK_MS = 10_000
const MAX_PASSES = 10
/** Highest number of an open file that a system gives out. */
const MAX_FD = 1_048_575

/** Seconds for which to knock, unless --wait says others, and at most. */
export const DEFAULT_WAIT = 30
export const MAX_WAIT = 3_600

/** The options that say with which key, where and how to knock. */
export interface AimOptions {
  r?: string
  k?: string
  keyFd?: number
  4?: boolean
  6?: boolean
  udp?: boolean
  datagram?: number
  pace: number
  passes: number
  parity: number
  timeOffset: number
  quiet?: boolean
  v?: boolean
}

/** Gives a command the options that say with which key and where to knock; {@link withWay} gives it the others. */
export function withTarget(command: Command): Command {
  return command
    .option('-r <host>', "the server (default: the key's host)")
    .option('-k <key>', "the key: its file, or its name in the client's keyring (default: the only one there)")
    .addOption(
      reading('--key-fd <n>', 'read the key from this open file', whole(0, MAX_FD), 'the number of an open file, such as 3'),
    )
}

/** Gives a command the options that say how to knock, and how much to say of it: what few need, and so the last. */
export function withWay(command: Command): Command {
  return command
    .option('-4', 'knock by IPv4')
    .option('-6', 'knock by IPv6')
    .option('--udp', 'knock by UDP instead of TCP')
    .addOption(
      reading(
        '--datagram <port>',
        'send the whole knock in one UDP datagram to this port, where the server hears those',
        whole(1, 65535),
        'a port from 1 to 65535',
      ),
    )
    .addOption(reading('--pace <ms>', 'milliseconds between two ports', whole(0, MAX_KNOCK_MS), 'milliseconds').default(0))
    .addOption(
      reading('--passes <n>', 'how often to send the knock', whole(1, MAX_PASSES), `a number from 1 to ${MAX_PASSES}`).default(2),
    )
    .addOption(
      reading(
        '--parity <n>',
        'ports beyond those needed: more stand more loss',
        whole(0, MAX_PARITY),
        `a number from 0 to ${MAX_PARITY}`,
      ).default(PARITY),
    )
    .addOption(
      reading(
        '--time-offset <seconds>',
        "what to add to this machine's clock",
        readOffset,
        'whole seconds, such as 90 or -3600',
      ).default(0),
    )
    .option('--quiet', 'say nothing but errors')
    .option('-v', 'say more')
}

/** Checks what of the options does not go together. @throws {UsageFault} */
export function checkAim(options: AimOptions): void {
  if (options[4] && options[6]) throw new UsageFault('expected -4 or -6, got both')
  if (options.k !== undefined && options.keyFd !== undefined) throw new UsageFault('expected -k or --key-fd, got both')
  if (options.udp && options.datagram !== undefined) throw new UsageFault('expected --udp or --datagram, got both')
}

/** Checks that a knock of these ports is over in time. @throws {UsageFault} */
export function checkPace({ pace }: AimOptions, { length }: readonly number[]): void {
  if (length * pace <= MAX_KNOCK_MS) return
  throw new UsageFault(
    `--pace expected at most ${Math.floor(MAX_KNOCK_MS / length)} for ${length} ports: a knock must fit into 10 s`,
  )
}

/** The way of a knock, but for its request. */
export function sendingOf(options: AimOptions, { key }: KeyFile): Omit<Sending, 'request'> {
  return {
    key,
    parity: options.parity,
    udp: options.udp ?? false,
    datagram: options.datagram,
    pace: options.pace,
    passes: options.passes,
    timeOffset: options.timeOffset,
    random: Math.random,
  }
}

/**
 * The key to knock with; for one under a passphrase, that is asked for.
 * @param options -k: its file, or its name in the client's keyring; --key-fd; neither: the only one in the keyring
 * @param typed whether the passphrase is typed, whatever standard input is
 * @throws {Fault} where there is none, or not one alone
 */
export async function findKey({ k: name, keyFd }: Pick<AimOptions, 'k' | 'keyFd'>, typed = false): Promise<KeyFile> {
  if (keyFd !== undefined) return readKeyFrom(keyFd, typed)
  // A plain name is a key of the keyring, where no file has it.
  if (name !== undefined && KEY_ID.test(name) && !existsSync(name)) return findClientKey(clientKeys(), name, typed)
  return name !== undefined ? loadClientKey(name, typed) : onlyClientKey(clientKeys(), typed)
}

/**
 * The server to knock at.
 * @param preferred the family to take where it has both, or 0
 * @throws {Fault} where none is named, or it has no address
 */
export async function findHost(
  options: AimOptions,
  key: KeyFile,
  preferred: 0 | 4 | 6,
): Promise<{ host: string; address: string }> {
  const host = options.r ?? key.host
  if (!host) throw new UsageFault('-r expected: the key names no host, so say which server to knock at')
  return { host, address: await resolveHost(host, requiredFamily(options), preferred) }
}

/** The only family that will do, or 0. */
export function requiredFamily(options: Pick<AimOptions, 4 | 6>): 0 | 4 | 6 {
  return options[4] ? 4 : options[6] ? 6 : 0
}

/** A server as it is named, and where that is. */
export function placeOf(host: string, address: string): string {
  return host === address ? host : `${host} (${address})`
}

/** What one pass of these knocks sends. */
export function whatOf(sequences: readonly Pick<Sequence, 'ports' | 'payload'>[], udp: boolean | undefined): string {
  const [{ ports, payload }] = sequences
  if (payload) return `${sequences.length === 1 ? 'a datagram' : `${sequences.length} datagrams`} to port ${ports[0]}`
  return `${sequences.reduce((sum, { ports }) => sum + ports.length, 0)} ports by ${udp ? 'UDP' : 'TCP'}`
}

/** Speaks on a terminal, or where -v asks for it; standard error, so that scripts keep their output. */
export function speaker({ quiet, v }: AimOptions, started: number): ((text: string) => void) | null {
  if (quiet || !(process.stderr.isTTY || v)) return null
  return (text) => process.stderr.write(`${String(Math.round(performance.now() - started)).padStart(6)} ms  ${printable(text)}\n`)
}

/** Prints what would be sent: a datagram as its port and its bytes in hex. @param json or all of it, as one line */
export function printSequence({ window, ports, payload, request }: Sequence, json = false): void {
  const { action, protocol, once, salt, port, seconds, address } = request
  const hex = payload && Buffer.from(payload).toString('hex')
  const sequence = { window, ports, payload: hex, request: { action, protocol, once, salt, port, seconds, address } }
  const text = hex ? `${ports[0]} ${hex}` : ports.join('\n')
  process.stdout.write(`${json ? JSON.stringify(sequence) : text}\n`)
}

function readOffset(text: string): number | null {
  return /^[+-]?\d{1,10}$/.test(text) ? Number(text) : null
}
