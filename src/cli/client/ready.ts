import { prepare, upToDate } from '../../client/client'
import { checkForeseen } from '../../client/foreseen'
import { askedAddress, askedByEither, knownAddress, preferredFamily } from '../../client/open-for'
import { type Aim, findHost } from '../../client/place'
import type { Outgoing, Sending, Sent } from '../../client/sending'
import { isTooMuch, MOST_WINDOWS } from '../../client/time-source'
import type { KeyFile } from '../../keys/key-file'
import type { Request } from '../../protocol/request'
import { forbidCoreDumps } from '../../system/core-dumps'
import { UsageFault } from '../../system/fault'
import { hintAt, noteOf, warnOf } from '../voice'
import type { AddressOptions } from './address'
import { type AimOptions, MAX_KNOCK_MS, NAME } from './aim'
import { printSequence, printSequenceAsJson, type Say } from './words'

/* What every command that knocks does before its first packet, and nothing else: that is what its user waits for. */

/** The options that it reads. */
interface ReadyOptions extends AimOptions, AddressOptions {
  wait?: number
  force?: boolean
  json?: boolean
}

/** What is to be sent to a server, once it is known where that is. */
export interface Draft<S extends Sent> {
  readonly aim: Aim
  /** The knocks that open for an address of this machine. */
  readonly knocksFor: (own: string) => readonly S[]
  /** A knock as it is, or a new one where it has become too old. */
  readonly upToDate: (knock: S) => S
  /** Prints a knock that is not to be sent. */
  readonly print: (knock: S) => void
}

/** Knocks by one address of a server, as they are to be sent now. */
export interface Ready<S extends Sent> {
  readonly host: string
  readonly address: string
  readonly outgoing: readonly S[]
  /** When knocking ends, in steady milliseconds; Infinity without --wait. */
  readonly end: number
  /** The same by the server's address of the other family; null: there is none that would do. */
  readonly other: (() => Promise<Ready<S>>) | null
  /** What it does is reported here, or nowhere. */
  readonly say: Say | null
}

/** Keeps what may be read from now on, a key or a PIN, out of core dumps. */
export function guardSecrets({ quiet }: Pick<AimOptions, 'quiet'>): void {
  forbidCoreDumps((message) => quiet || warnOf(NAME, message))
}

/**
 * A draft of knocks that a key seals: one for each request.
 * @param requests each with the port whose service shows that it has opened; null: nothing shows it
 * @throws {Fault} where the key's file says that the server would refuse it
 */
export function seal(
  options: ReadyOptions,
  aim: Aim & { readonly key: KeyFile },
  requests: readonly { readonly request: Omit<Request, 'salt' | 'address'>; readonly watched: number | null }[],
): Draft<Outgoing> {
  const { key } = aim
  if (!options.force) {
    const asked = requests.map(({ request }) => request)
    checkForeseen(key, asked, Date.now() + options.timeOffset * 1000)
  }
  return {
    aim,
    knocksFor: (own) =>
      requests.map(({ request, watched }) => {
        const sending: Sending = { ...sendingOf(options, key), request: { ...request, address: own } }
        return { sending, sequence: prepare(sending, Date.now()), watched }
      }),
    upToDate: (knock) => ({ ...knock, sequence: upToDate(knock.sending, knock.sequence, Date.now()) }),
    print: ({ sequence }) => (options.json ? printSequenceAsJson : printSequence)(sequence),
  }
}

/**
 * Makes a draft ready to be sent: where to, for whom, and as it is now.
 * @param speak gives the voice of what is said from then on; null: nothing is
 * @returns null where the ports of the knock were all that was asked for; they are printed
 * @throws {Fault} where there is no way to the server, or to know for whom to open
 */
export async function makeReady<S extends Sent>(
  options: ReadyOptions,
  { aim, knocksFor, upToDate, print }: Draft<S>,
  speak: () => Say | null,
): Promise<Ready<S> | null> {
  const knocksInTimeFor = (own: string) => {
    const knocks = knocksFor(own)
    for (const { sequence } of knocks) checkPace(options, sequence.ports)
    return knocks
  }
  const drafts = knocksInTimeFor(knownAddress(options))
  // Also of one that is printed: whoever sees that has it, too.
  if (aim.key) warnOfOffset(options, aim.key)
  if (options.dryRun) {
    for (const draft of drafts) print(draft)
    return null
  }
  // Names and addresses, too, take from the time of --wait.
  const end = performance.now() + (options.wait ?? Infinity) * 1000
  const warn = (message: string, hint: string) => {
    if (options.quiet) return
    warnOf(NAME, message)
    hintAt(hint)
  }
  const note = (message: string) => options.quiet || noteOf(NAME, message)
  const place = await findHost(options, aim, preferredFamily(options), end, warn)
  const { host, address, other, own } = await askedByEither(options, place, end, note)
  // A slow resolver must not age the window.
  const outgoing = (own === null ? drafts : knocksInTimeFor(own)).map(upToDate)
  const ready = { host, address, outgoing, end, other: null, say: speak() }
  if (other === null) return ready
  const readyAt = async (address: string) => {
    const own = await askedAddress(options, address, end)
    return { ...ready, address, outgoing: knocksInTimeFor(own ?? knownAddress(options)) }
  }
  return { ...ready, other: () => readyAt(other) }
}

/** Checks that a knock of these ports ends in time. @throws {UsageFault} */
function checkPace({ pace }: AimOptions, { length }: readonly number[]): void {
  if (length * pace <= MAX_KNOCK_MS) return
  const most = Math.floor(MAX_KNOCK_MS / length)
  throw new UsageFault(`--pace expected at most ${most} ms for ${length} ports, which must fit into 10 s, got ${pace}`)
}

/** Warns of a correction of the clock that leaves knocks for who hears them: the server may not know their windows yet. */
function warnOfOffset({ timeOffset, quiet }: AimOptions, { id, key: { period } }: KeyFile): void {
  if (quiet || !isTooMuch(timeOffset, period)) return
  warnOf(
    NAME,
    `--time-offset ${timeOffset} is more than ${MOST_WINDOWS} windows of the key ${id} (${MOST_WINDOWS * period} s): anyone who hears this knock may be able to send it again later`,
  )
  hintAt('set the clock instead')
}

/** The way of a knock, but for its request. */
function sendingOf(options: AimOptions, { key }: KeyFile): Omit<Sending, 'request'> {
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
