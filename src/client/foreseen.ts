import { grantedBy, hasEnded } from '../keys/grant-hint'
import { hintOf, type KeyFile } from '../keys/key-file'
import type { Protocol, Request } from '../protocol/request'
import { formatService, type Service, type TypedService } from '../protocol/service'
import { Fault, listed, UsageFault } from '../system/fault'
import { formatDuration, isoTime } from '../system/time'

/* What a knock can be told before a packet is sent, from what the key's file says of its grant. The server's may be another one by now. */

/** Services that are named in one line. */
const NAMED = 8
const IF_CHANGED = 'if the grant has changed since, export the key again, or send anyway with --force'

/** Of a request, what a key's file can tell something about. */
export type Asked = Pick<Request, 'action' | 'port' | 'protocol' | 'seconds'>

/**
 * Checks that the server will not refuse requests, as far as the key's file tells. Closing is refused to no key that is not over, and whether
 * it may lock or open without end no copy says.
 * @param wall Unix milliseconds, as corrected
 * @throws {Fault} where it would, with what to do
 */
export function checkForeseen(key: KeyFile, requests: readonly Asked[], wall: number): void {
  const { id, expires, revoked } = key
  if (hasEnded(key, wall)) {
    const end = revoked !== null ? `was revoked at ${isoTime(revoked)}` : `expired at ${isoTime(expires ?? 0)}`
    throw new Fault(`the key ${id} ${end}, according to its file`, {
      hint: 'ask for a new key; if this clock is wrong, set it, or send anyway with --force',
    })
  }
  const { services, max } = hintOf(key) ?? NOTHING_KNOWN
  const refused = beyond(
    key,
    requests.filter(({ action }) => action === 'open'),
  )
  if (services && refused.length > 0)
    throw new UsageFault(`the key ${id} may not open ${refused.join(', ')}: it opens ${named(services)}`, {
      hint: IF_CHANGED,
    })
  const longest = Math.max(...requests.map(({ action, seconds }) => (action === 'close' ? 0 : seconds)))
  if (max !== null && longest > max)
    throw new UsageFault(
      `-t expected at most ${formatDuration(max)}, the longest time of the key ${id}, got ${formatDuration(longest)}`,
      { hint: IF_CHANGED },
    )
}

const NOTHING_KNOWN = { services: null, max: null }

/** The lifetime to ask for where nobody says one: never longer than the key may. @param usual seconds */
export function usualTime(usual: number, key: KeyFile): number {
  return Math.min(usual, hintOf(key)?.max ?? usual)
}

/**
 * The only service that a key opens, to be opened where no other is named.
 * @param protocol what it must be
 * @throws {UsageFault} where there is not one alone, or nobody can tell
 */
export function onlyService(key: KeyFile, protocol: Request['protocol']): Service {
  const services = hintOf(key)?.services
  const fitting = grantedBy(key, { port: 0, protocol }) ?? []
  if (fitting.length === 1) return fitting[0]
  throw new UsageFault('no port to open: -p is missing', {
    hint: services
      ? `the key ${key.id} opens ${named(services)}: add -p ${(fitting[0] ?? services[0]).port}`
      : 'add -p with the port, such as -p 22',
  })
}

/** Those of some services of which a key's file says that it may not open them, as they are named in a message. */
export function beyond(key: KeyFile, services: readonly Pick<Asked, 'port' | 'protocol'>[]): string[] {
  return services.filter((asked) => grantedBy(key, asked)?.length === 0).map(nameOf)
}

/** Whether a request to open can open a TCP port, which a connection would show. */
export function mayOpenTcp(key: KeyFile, port: number): boolean {
  return grantedBy(key, { port, protocol: 'tcp' })?.length !== 0
}

/** Whether a connection shows that a door has opened. @param otherwise the protocol where the door has none of its own */
export function isShownByTcp({ port, protocol }: TypedService, otherwise: Protocol | undefined): boolean {
  return port !== 0 && (protocol ?? otherwise) !== 'udp'
}

function nameOf({ port, protocol }: Pick<Asked, 'port' | 'protocol'>): string {
  if (port === 0) return `anything by ${protocol}`
  return protocol === 'any' ? String(port) : formatService({ port, protocol })
}

function named(services: readonly Service[]): string {
  return listed(services.map(formatService), NAMED)
}
