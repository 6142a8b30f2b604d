import { askedOf, isOver } from '../../gate/server-key'
import { type GrantHint, hintOf, type KeyFile } from '../../keys/key-file'
import type { Request } from '../../protocol/request'
import { formatService, type Service } from '../../protocol/service'
import { Fault, listed, UsageFault } from '../../system/fault'
import { formatDuration, isoTime } from '../../system/time'

/* What a knock can be told before a packet is sent, from what the key's file says of its grant. The server's may be another one by now. */

/** Services that are named in one line. */
const NAMED = 8
const ALL_THE_SAME = 'if the grant has changed since, export the key again, or send all the same with --force'

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
  if (isOver({ revoked, expires }, wall)) {
    const end = revoked !== null ? `was revoked at ${isoTime(revoked)}` : `expired at ${isoTime(expires ?? 0)}`
    throw new Fault(`the key ${id} ${end}, by its file`, {
      hint: 'ask for a new key; if this clock is wrong, set it, or send all the same with --force',
    })
  }
  const { services, max } = hintOf(key) ?? NOTHING_KNOWN
  const refused = requests.filter((asked) => asked.action === 'open' && services && askedOf(services, asked).length === 0)
  if (services && refused.length > 0)
    throw new UsageFault(`the key ${id} may not open ${refused.map(nameOf).join(', ')}: it opens ${named(services)}`, {
      hint: ALL_THE_SAME,
    })
  const longest = Math.max(...requests.map(({ action, seconds }) => (action === 'close' ? 0 : seconds)))
  if (max !== null && longest > max)
    throw new UsageFault(
      `-t expected at most ${formatDuration(max)}, the longest of the key ${id}, got ${formatDuration(longest)}`,
      {
        hint: ALL_THE_SAME,
      },
    )
}

const NOTHING_KNOWN: GrantHint = { services: null, max: null }

/** The lifetime to ask for where nobody says one: never longer than the key may. @param usual seconds */
export function usualTime(usual: number, key: KeyFile): number {
  return Math.min(usual, hintOf(key)?.max ?? usual)
}

/**
 * The only service that a key opens, to be opened where nobody says another.
 * @param protocol what it must be
 * @param expected what to say
 * @throws {UsageFault} where there is not one alone, or nobody can tell
 */
export function onlyService(key: KeyFile, protocol: Request['protocol'], expected: string): Service {
  const services = hintOf(key)?.services
  const fitting = services ? askedOf(services, { port: 0, protocol }) : []
  if (fitting.length === 1) return fitting[0]
  throw new UsageFault(expected, {
    hint: services ? `the key ${key.id} opens ${named(services)}: type -p ${(fitting[0] ?? services[0]).port}` : undefined,
  })
}

/** Whether a request to open can open a TCP port, which a connection would show. */
export function mayOpenTcp(key: KeyFile, port: number): boolean {
  const services = hintOf(key)?.services
  return !services || askedOf(services, { port, protocol: 'tcp' }).length > 0
}

function nameOf({ port, protocol }: Asked): string {
  if (port === 0) return `anything by ${protocol}`
  return protocol === 'any' ? String(port) : formatService({ port, protocol })
}

function named(services: readonly Service[]): string {
  return listed(services.map(formatService), NAMED)
}
