import { placeOf } from '../../client/place'
import type { Outgoing, Sent, Sequence } from '../../client/sending'
import { type Action, AS_SEEN } from '../../protocol/request'
import { tellAt } from '../voice'
import type { AimOptions } from './aim'

/* A knock in words: what is said while it is under way, and what is printed of one that is not sent. */

/** Says something of a knock, with the time since it began. */
export type Say = (text: string) => void

/** Speaks on a terminal, or where -v asks for it; standard error, so that scripts keep their output. */
export function speaker({ quiet, verbose }: AimOptions, started: number): Say | null {
  if (quiet || !(process.stderr.isTTY || verbose)) return null
  return (text) => tellAt(performance.now() - started, text)
}

/** What knocks at a server ask. */
export async function describe(outgoing: readonly Outgoing[], host: string, address: string): Promise<string> {
  const [{ request }] = outgoing.map(({ sending }) => sending)
  const ports = outgoing.map(({ sending }) => sending.request.port)
  const door = request.port === 0 ? 'every granted port' : `port${ports.length === 1 ? '' : 's'} ${ports.join(', ')}`
  const at = placeOf(host, address)
  const whom = request.address === AS_SEEN ? 'this address' : request.address
  if (request.action === 'close') return `knocking at ${at}: close ${door} for ${whom}`
  const { humanDuration } = await import('../../system/calendar')
  const time =
    request.seconds === 0
      ? request.action === 'lock'
        ? 'as long as the key allows'
        : 'until closed'
      : humanDuration(request.seconds)
  if (request.action === 'lock') return `knocking at ${at}: ban ${whom}, ${time}`
  return `knocking at ${at}: open ${door} for ${whom}, ${request.once ? 'one connection, ' : ''}${time}`
}

/**
 * What a server does in silence with a knock that was sent well, as far as its user may not expect it; null: nothing.
 * @param isNamed whether an address to open for was given with -i
 * @param isSeen whether the service shows what has come of it
 */
export function unansweredBy(action: Action, isNamed: boolean, isSeen: boolean): string | null {
  if (action === 'lock') return "it refuses --lock if the key's grant does not allow that, and only its log shows it"
  if (action === 'close') return isNamed ? null : 'what you opened from another address stays open until its time is up'
  return isNamed && !isSeen ? 'if the key is bound to its source, it refuses every address but the one that it sees' : null
}

/** How the clock is corrected, behind what is said of a knock. */
export function correction({ timeOffset }: Pick<AimOptions, 'timeOffset'>): string {
  return timeOffset === 0 ? '' : `, by a clock that is corrected by ${timeOffset} s`
}

/** What one pass of these knocks sends. */
export function whatOf(sequences: readonly Sent['sequence'][], udp: boolean | undefined): string {
  const [{ ports, payload }] = sequences
  if (payload) return `${sequences.length === 1 ? 'a datagram' : `${sequences.length} datagrams`} to port ${ports[0]}`
  return `${sequences.reduce((sum, { ports }) => sum + ports.length, 0)} ports by ${udp ? 'UDP' : 'TCP'}`
}

/** Prints what would be sent: a datagram as its port and its bytes in hex. */
export function printSequence({ ports, payload }: Sent['sequence']): void {
  process.stdout.write(`${payload ? `${ports[0]} ${hexOf(payload)}` : ports.join('\n')}\n`)
}

/** Prints all of what would be sent, as one line of JSON. */
export function printSequenceAsJson({ window, ports, payload, request }: Sequence): void {
  const { action, protocol, once, salt, port, seconds, address } = request
  const hex = payload && hexOf(payload)
  const sequence = { window, ports, payload: hex, request: { action, protocol, once, salt, port, seconds, address } }
  process.stdout.write(`${JSON.stringify(sequence)}\n`)
}

const hexOf = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex')
