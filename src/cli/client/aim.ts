import { existsSync } from 'node:fs'
import { isIP } from 'node:net'
import { type Command, Option } from 'commander'
import type { Sending, Sequence } from '../../client/client'
import { findClientKey, loadClientKey, onlyClientKey, readKeyFrom } from '../../client/client-key'
import { isSameName, resolveAll } from '../../client/host'
import { NAME_LIMIT, NO_ANSWER } from '../../client/name'
import { isTooMuch, MOST_WINDOWS } from '../../client/time-source'
import type { KeyFile } from '../../keys/key-file'
import { clientKeys } from '../../keys/keyring'
import { canonicalAddress } from '../../protocol/address'
import { KEY_ID } from '../../protocol/key'
import { MAX_PARITY, PARITY } from '../../protocol/knock'
import { errorCode, Fault, printable, reason, TimeFault, UsageFault } from '../../system/fault'
import { tell } from '../../system/tell'
import { reading, whole } from '../options'
import { warnOf } from '../voice'

/* What every way to knock shares: the key, the server, and how the knock is sent. */

/** The program whose commands these are. */
export const NAME = 'knockclient'

/** A knock must fit into the 10 s for which the daemon remembers a tap (docs/protocol.md, "Sending"). */
const MAX_KNOCK_MS = 10_000
const MAX_PASSES = 10
/** Highest number of an open file that a system gives out. */
const MAX_FD = 1_048_575

/** What is said of --dry-run. */
export const DRY_RUN = 'send and resolve nothing; print the ports of one knock, which is good for whoever sees it now'

/** Seconds for which to knock, unless --wait says others, and at most. */
export const DEFAULT_WAIT = 30
export const MAX_WAIT = 3_600

/** The options that say with which key, where and how to knock. */
export interface AimOptions {
  server?: string
  key?: string
  keyFd?: number
  ipv4?: boolean
  ipv6?: boolean
  udp?: boolean
  datagram?: number
  pace: number
  passes: number
  parity: number
  timeOffset: number
  quiet?: boolean
  verbose?: boolean
}

/** Gives a command the options that say with which key and where to knock; {@link withWay} gives it the others. */
export function withTarget(command: Command): Command {
  return command
    .option('-r, --server <host>', "the server (default: the key's host)")
    .option('-k, --key <key>', "the key: its file, or its name in the client's keyring (default: the only one there)")
    .addOption(
      reading('--key-fd <n>', 'read the key from this open file', whole(0, MAX_FD), 'the number of an open file, such as 3'),
    )
}

/** Gives a command the options that say how to knock, and how much to say of it: what few need, and so the last. */
export function withWay(command: Command): Command {
  return command
    .option('-4, --ipv4', 'knock by IPv4')
    .option('-6, --ipv6', 'knock by IPv6')
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
    .option('-v, --verbose', 'say more')
}

/** The option that has a knock sent which the key's file says will be refused. */
export function forceOption(): Option {
  return new Option('--force', "send the knock though the key's file says that the server will refuse it")
}

/** Checks what of the options does not go together. @throws {UsageFault} */
export function checkAim(options: AimOptions): void {
  if (options.ipv4 && options.ipv6) throw new UsageFault('expected -4 or -6, got both')
  if (options.key !== undefined && options.keyFd !== undefined) throw new UsageFault('expected -k or --key-fd, got both')
  if (options.udp && options.datagram !== undefined) throw new UsageFault('expected --udp or --datagram, got both')
}

/** Checks that a knock of these ports is over in time. @throws {UsageFault} */
export function checkPace({ pace }: AimOptions, { length }: readonly number[]): void {
  if (length * pace <= MAX_KNOCK_MS) return
  throw new UsageFault(
    `--pace expected at most ${Math.floor(MAX_KNOCK_MS / length)} for ${length} ports: a knock must fit into 10 s`,
  )
}

/** Warns of a correction of the clock that leaves knocks for who hears them: the server may not know their windows yet. */
export function warnOfOffset({ timeOffset, quiet }: AimOptions, { id, key: { period } }: KeyFile): void {
  if (quiet || !isTooMuch(timeOffset, period)) return
  warnOf(
    NAME,
    `--time-offset ${timeOffset} is more than ${MOST_WINDOWS} windows of the key ${id}, ${MOST_WINDOWS * period} s: who hears this knock may be able to play it when its time comes: set the clock`,
  )
}

/** How the clock is corrected, behind what is said of a knock. */
export function correction({ timeOffset }: Pick<AimOptions, 'timeOffset'>): string {
  return timeOffset === 0 ? '' : `, by a clock that is corrected by ${timeOffset} s`
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
export async function findKey({ key: name, keyFd }: Pick<AimOptions, 'key' | 'keyFd'>, typed = false): Promise<KeyFile> {
  if (keyFd !== undefined) return readKeyFrom(keyFd, typed)
  // A plain name is a key of the keyring, where no file has it.
  if (name !== undefined && KEY_ID.test(name) && !existsSync(name)) return findClientKey(clientKeys(), name, typed)
  return name !== undefined ? loadClientKey(name, typed) : onlyClientKey(clientKeys(), typed)
}

/** A key, and the server to knock at with it. */
export interface Aim {
  readonly key: KeyFile
  /** As somebody has named it; undefined: the key's own host. */
  readonly host: string | undefined
  /** Whether it was named by -r, which means it, whatever the key says. */
  readonly isMeant: boolean
}

/** A server as it is named, and where that is. */
export interface Place {
  readonly host: string
  readonly address: string
  /** Its address of the other family; null: it has none, or that would not do. */
  readonly other: string | null
}

/** Whether -r stands on the command line: in a profile it is a name like any other. */
export function hasMeantHost(command: Command): boolean {
  return command.getOptionValueSource('server') === 'cli'
}

/**
 * The server to knock at. Whoever is knocked at can play the knock at the key's server, within its window: so what was named must be the key's
 * host, unless it was meant.
 * @param preferred the family to take where it has both, or 0
 * @param end when it must be known, in steady milliseconds
 * @throws {Fault} where none is named, it has no address, or is not the key's host; a {@link TimeFault} where that is not known in time
 */
export async function findHost(options: AimOptions, aim: Aim, preferred: 0 | 4 | 6, end: number): Promise<Place> {
  const limit = end - performance.now()
  try {
    return await findWithin(options, aim, preferred, limit)
  } catch (error) {
    // Where it was not the user's time that is up, more of that would not help.
    if (!(error instanceof Fault) || errorCode(error.cause) !== NO_ANSWER || limit >= NAME_LIMIT) throw error
    throw new TimeFault(error.message, { cause: error, hint: 'that was all the time of --wait: give it more, or an address' })
  }
}

async function findWithin(
  options: AimOptions,
  { key, host: named, isMeant }: Aim,
  preferred: 0 | 4 | 6,
  limit: number,
): Promise<Place> {
  const host = named ?? key.host
  if (!host) throw new UsageFault('-r expected: the key names no host, so say which server to knock at')
  const family = requiredFamily(options)
  if (!isMeant && key.host !== null && !isSameName(host, key.host))
    return placeAt(host, await resolveShared(host, key.host, key.id, family, preferred, limit), preferred)
  if (!isMeant && key.host === null && !options.quiet)
    warnOf(
      NAME,
      `the key ${key.id} names no host, so nothing tells whether ${host} is its server: add host = "…" to its file, or make keys with "knockturn key new --host"`,
    )
  return placeAt(host, await resolveAll(host, family, preferred, limit), preferred)
}

/** Where there is an address to open for, a knock by the other family would be refused. */
function placeAt(host: string, all: readonly string[], preferred: 0 | 4 | 6): Place {
  const [address] = all
  const other = preferred === 0 ? all.find((one) => isIP(one) !== isIP(address)) : undefined
  return { host, address, other: other ?? null }
}

/**
 * The addresses of a host that is the key's by another name: those that both have, since whoever owns the name may give it others beside them.
 * @throws {UsageFault} where there is none, or nobody can tell
 */
async function resolveShared(
  host: string,
  expected: string,
  id: string,
  required: 0 | 4 | 6,
  preferred: 0 | 4 | 6,
  limit: number,
): Promise<readonly string[]> {
  const found = await Promise.allSettled([resolveAll(host, required, preferred, limit), resolveAll(expected, required, 0, limit)])
  const failure = found.find((one) => one.status === 'rejected')
  const [own, its] = found.map((one) => (one.status === 'fulfilled' ? one.value : []))
  const canonical = (address: string) => canonicalAddress(address) ?? address
  // A name server may give thousands of each.
  const ofKey = new Set(its.map(canonical))
  const shared = own.filter((address) => ofKey.has(canonical(address)))
  if (shared.length > 0) return shared
  const why = failure
    ? `whether ${host} is that can't be told (${reason(failure.reason.cause ?? failure.reason)})`
    : `${host} is another host`
  throw new UsageFault(
    `the key ${id} is for ${expected}, and ${why}: knock with another key, or with -r ${host} if you mean that host`,
    { cause: failure?.reason.cause },
  )
}

/** The only family that will do, or 0. */
export function requiredFamily(options: Pick<AimOptions, 'ipv4' | 'ipv6'>): 0 | 4 | 6 {
  return options.ipv4 ? 4 : options.ipv6 ? 6 : 0
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
export function speaker({ quiet, verbose }: AimOptions, started: number): ((text: string) => void) | null {
  if (quiet || !(process.stderr.isTTY || verbose)) return null
  return (text) => tell(`${String(Math.round(performance.now() - started)).padStart(6)} ms  ${printable(text)}\n`)
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
