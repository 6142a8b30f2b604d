import { hasEnded } from '../keys/grant-hint'
import type { KeyFile } from '../keys/key-file'
import { isLoopback, isZeroAddress } from '../protocol/address'
import { isoTime } from '../system/time'
import { type Evidence, investigate } from './evidence'
import { ANSWERED, isOpening } from './lookout'
import type { Sending, Sequence } from './sending'
import { isTooMuch, MOST_WINDOWS } from './time-source'
import type { WaitResult } from './wait-result'

/* Why nothing has opened: what a client can find out by itself. */

/** Milliseconds between two ports that most guards against port scans let through, and limits of SYNs. */
const PACE = 60
/** No route, or nobody there who answers for that address. */
const UNREACHABLE = ['EHOSTUNREACH', 'ENETUNREACH', 'EHOSTDOWN', 'ENETDOWN']
/** Somebody forbids it by ICMPv6 ("administratively prohibited", a policy, a route that rejects); by IPv4, Linux takes that for EHOSTUNREACH. */
const FORBIDDEN = 'EACCES'

/** A knock that was in vain. */
interface Knocked {
  readonly host: string
  readonly address: string
  readonly key: KeyFile
  readonly sequence: Sequence
}

/**
 * What can be found out of why not all has opened, one line each: see {@link findings}.
 * @param sending the manner of the knock
 * @param timeSource whom the user has named for the time; undefined: nobody is asked
 */
export async function diagnose(
  { host, address, key, sequence }: Knocked,
  { outcomes, seen, touched }: WaitResult,
  { datagram, udp, pace, timeOffset }: Pick<Sending, 'datagram' | 'udp' | 'pace' | 'timeOffset'>,
  timeSource: URL | undefined,
): Promise<string[]> {
  const opened = [...outcomes].flatMap(([port, outcome]) => (outcome === 'opened' ? port : []))
  const services = new Map([...outcomes].filter(([, outcome]) => !isOpening(outcome)))
  // A datagram has touched no port that could show itself by TCP, and those of this machine tell nothing of a network.
  const knocked = sequence.payload || isLoopback(address) ? [] : sequence.ports
  const found =
    opened.length > 0
      ? { services, knocked: [], clock: null }
      : await investigate({ address, services, touched, knocked, timeSource, timeOffset })
  const { expires } = key
  const { period } = key.key
  const ended = hasEnded({ revoked: null, expires }, Date.now() + timeOffset * 1000) ? expires : null
  const { address: asked } = sequence.request
  const named = isZeroAddress(asked) ? null : asked
  return findings({ ...found, host, datagram, udp, pace, opened, seen, period, timeOffset, named, ended })
}

/** What follows from it, one line each: first the likeliest cause, with what to do, and nothing that is not known. */
export function findings(evidence: Evidence): string[] {
  // What has opened one port tells that key and clock are right, and that knocks get through: not that the other port does.
  const finds =
    evidence.opened.length > 0
      ? [ofGrant, ofRefusals]
      : [ofKey, ofProxy, ofWay, ofRejected, ofRefusals, ofWrongClock, ofSilence, ofClock, ofAddress, ofServices]
  return finds.flatMap((find) => find(evidence))
}

const called = (ports: readonly number[]) => `port${ports.length === 1 ? '' : 's'} ${ports.join(', ')}`

/** The ports that have shown something. */
function showing({ services }: Evidence, shown: string): number[] {
  return [...services].flatMap(([port, saw]) => (saw === shown ? port : []))
}

function ofGrant(evidence: Evidence): string[] {
  const silent = showing(evidence, 'silence')
  if (silent.length === 0) return []
  return [
    `does the key grant ${called(silent)}? ${called(evidence.opened)} opened, so key and clock are right; or this network lets nothing out to ${called(silent)}; the server's log says what it refused`,
  ]
}

function ofRefusals(evidence: Evidence): string[] {
  const refused = showing(evidence, 'refused')
  // Who rejects the knock's ports rejects the service's, too, and is not the server.
  if (refused.length === 0 || isRejected(evidence.knocked)) return []
  // A datagram touches no port that could show who rejects.
  const login =
    evidence.datagram !== undefined && evidence.opened.length === 0
      ? 'log in to this network first, if it has a login page; else '
      : ''
  return [
    `${login}start the service on ${called(refused)}; or, if a firewall there rejects what it does not let in, see what the server's log says of the knock`,
  ]
}

function ofKey({ ended }: Evidence): string[] {
  return ended === null ? [] : [`the key has ended, at ${isoTime(ended)} by its file: a new one is made on the server`]
}

function isUnreachable(saw: string): boolean {
  return UNREACHABLE.includes(saw)
}

function ofWay({ host, services, seen }: Evidence): string[] {
  // A network may reject the knock's ports alone; where its service is not reached either, it is the way.
  const tried = [...services.values(), ...seen]
  const unreachable = tried.find(isUnreachable)
  return unreachable && !tried.includes('refused') && !tried.includes('open')
    ? [`${host} cannot be reached (${unreachable}): is it up, is this network online, is -4 or -6 the way to it?`]
    : []
}

/** Some are enough: routers send no more than a few such messages a second. */
function isRejected(knocked: Iterable<string>): boolean {
  return [...knocked].some((saw) => saw === 'refused' || saw === FORBIDDEN || isUnreachable(saw))
}

/** What the touches of a knock tell by what they came back with, with what to do; nothing where that is nothing. */
export function ofTouches(touched: Iterable<string>, ways: string): string[] {
  const shown = [...touched]
  if (shown.includes('open'))
    return [
      `somebody on the way answers every connection, so the knock may not have gone on, and an answer proves nothing: try ${ways}; or log in to this network first, if it has a login page`,
    ]
  if (isRejected(shown))
    return [
      `log in to this network first, if it has a login page: the ports of the knock are rejected at once, where a server that hears knocks is silent; else try ${ways}, or another network`,
    ]
  return []
}

/** What goes by where connection attempts don't. */
export const OTHER_WAYS = '--udp, or --datagram 443'

/** Those that it has not gone by already. */
const untriedWays = ({ udp }: Evidence) => (udp ? '--datagram 443' : OTHER_WAYS)

function ofProxy(evidence: Evidence): string[] {
  return evidence.knocked.includes('open') ? ofTouches(evidence.knocked, untriedWays(evidence)) : []
}

function ofRejected(evidence: Evidence): string[] {
  return evidence.knocked.includes('open') ? [] : ofTouches(evidence.knocked, untriedWays(evidence))
}

function ofSilence(evidence: Evidence): string[] {
  const { datagram, knocked, udp, pace } = evidence
  if (ofWay(evidence).length > 0 || hasAnswered(evidence)) return []
  if (datagram !== undefined)
    return [
      `whether the server hears datagrams on port ${datagram} is not known: it does with that port in [datagram] of its config, after "knockturn firewall install" and a restart of the daemon`,
    ]
  if (knocked.length === 0 || !knocked.every((saw) => saw === 'silence')) return []
  const untried = [...(udp ? [] : ['--udp']), ...(pace < PACE ? [`--pace ${PACE}`] : []), '--datagram 443']
  return [
    `the ports of the knock are silent: so they are where the server hears, and where this network drops them, some for minutes after what looks like a port scan, and longer with each pass: try ${untried.join(', then ')}, or another network`,
  ]
}

/** Whether all that was tried refuses, or is answered: somebody is there. */
function hasAnswered({ services }: Evidence): boolean {
  return [...services.values()].every((saw) => saw === 'refused' || saw === ANSWERED)
}

function ofWrongClock(evidence: Evidence): string[] {
  const { clock, period, timeOffset } = evidence
  if (!clock || typeof clock.offset === 'string') return []
  const { source, offset } = clock
  // A window to each side is accepted: a whole period is too much for sure.
  if (Math.abs(offset) <= period * 1000) return []
  if (!isProved(source))
    return [
      `${differing(evidence, 0)}, and somebody in this network may have given that answer, as nothing proves one by ntp: ask with --time-source https://HOST`,
    ]
  const seconds = Math.round(offset / 1000)
  const how = `${whose(evidence)} is ${Math.abs(seconds)} s ${offset > 0 ? 'behind' : 'ahead of'} that of ${source}`
  // What was added already counts: an answer that lies a little each time would add up.
  if (isTooMuch(timeOffset + seconds, period))
    return [
      `${how}: if you believe that, set it: a correction of more than ${MOST_WINDOWS} windows of the key, ${MOST_WINDOWS * period} s, would leave knocks for who hears them to play later`,
    ]
  return [`${how}: set it, or knock with --time-offset ${timeOffset + seconds}`]
}

/** Whether nobody in this network can have given the answer of a time source. */
const isProved = (source: string) => source.startsWith('https:')

/** By how much the clocks differ, and not which way: with that, an answer that nothing proves would be a correction. */
function differing(evidence: Evidence, digits: number): string {
  const { source, offset } = evidence.clock ?? {}
  return `${whose(evidence)} and that of ${source} differ by ${(Math.abs(Number(offset)) / 1000).toFixed(digits)} s`
}

const whose = ({ timeOffset }: Evidence) => (timeOffset === 0 ? 'this clock' : 'this clock, as --time-offset corrects it,')

function ofClock(evidence: Evidence): string[] {
  const { clock } = evidence
  if (ofWrongClock(evidence).length > 0 || (!clock && hasAnswered(evidence))) return []
  if (!clock) return ['whether this clock is right is not known: name somebody to ask, such as --time-source https://HOST']
  const { source, offset } = clock
  if (typeof offset === 'string') return [`whether this clock is right is not known: ${offset}`]
  if (!isProved(source))
    return [`${differing(evidence, 1)}, if nobody in this network has given that answer: the server's may be wrong`]
  return [`${whose(evidence)} is right to ${(Math.abs(offset) / 1000).toFixed(1)} s, by ${source}: the server's may be wrong`]
}

function ofAddress({ named }: Evidence): string[] {
  return named === null
    ? []
    : [`the door was to open for ${named}: if the server sees another address of this machine, it stays shut from here`]
}

function ofServices({ services }: Evidence): string[] {
  return [...services].flatMap(([port, saw]) => {
    if (saw === 'open') return [`port ${port} has just answered: it was a matter of time`]
    if (saw === 'silence')
      return [
        `port ${port} is silent: the door is shut, or this network lets nothing out to that port; the server's log tells whether it heard the knock, and what it refused`,
      ]
    return []
  })
}
