import { isIP } from 'node:net'
import { hasEnded } from '../keys/grant-hint'
import type { KeyFile } from '../keys/key-file'
import { isLoopback, isZeroAddress } from '../protocol/address'
import { isoTime } from '../system/time'
import { ofUsableClock, ofWrongClock } from './clock-findings'
import { type Evidence, type Finding, investigate } from './evidence'
import { ANSWERED, isOpening } from './lookout'
import type { Sending, Sequence } from './sending'
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
  /** Whether the user has asked for IPv6 alone. */
  readonly isOnly6: boolean
}

/**
 * What can be found out of why not all has opened: see {@link findings}.
 * @param sending the manner of the knock
 * @param timeSource whom the user has named for the time; undefined: nobody is asked
 */
export async function diagnose(
  { host, address, key, sequence, isOnly6 }: Knocked,
  { outcomes, seen, touched }: WaitResult,
  { datagram, udp, pace, timeOffset }: Pick<Sending, 'datagram' | 'udp' | 'pace' | 'timeOffset'>,
  timeSource: URL | undefined,
): Promise<Finding[]> {
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
  // What is named by its address has no other one, and a door for an address of ours opens by no other family.
  const mayTry4 = isOnly6 && isIP(host) === 0 && named === null && !isLoopback(address)
  return findings({ ...found, host, datagram, udp, pace, opened, seen, period, timeOffset, named, ended, mayTry4 })
}

/** What follows from it: first the likeliest cause, and nothing that is not known. */
export function findings(evidence: Evidence): Finding[] {
  // What has opened one port tells that key and clock are right, and that knocks get through: not that the other port does.
  const finds =
    evidence.opened.length > 0
      ? [ofGrant, ofRefusals]
      : [ofKey, ofProxy, ofWay, ofRejected, ofRefusals, ofWrongClock, ofFamily, ofSilence, ofClock, ofAddress, ofServices]
  return finds.flatMap((find) => find(evidence))
}

const called = (ports: readonly number[]) => `port${ports.length === 1 ? '' : 's'} ${ports.join(', ')}`
const READ_THE_LOG =
  "read the server's log: if it has no line about this knock, the server did not hear it or does not know the key"
const LOG_IN = 'log in to this network first, if it has a login page'

/** The ports that have shown something. */
function showing({ services }: Evidence, shown: string): number[] {
  return [...services].flatMap(([port, saw]) => (saw === shown ? port : []))
}

function ofGrant(evidence: Evidence): Finding[] {
  const silent = showing(evidence, 'silence')
  if (silent.length === 0) return []
  return [
    {
      seen: `${called(evidence.opened)} opened, so key and clock are right`,
      unknown: `${called(silent)} did not: the key may not grant ${theyOrIt(silent)}, or this network may block ${theyOrIt(silent)}`,
      hint: "read the server's log: it says what was refused, and why",
    },
  ]
}

const theyOrIt = ({ length }: readonly number[]) => (length === 1 ? 'it' : 'them')

function ofRefusals(evidence: Evidence): Finding[] {
  const refused = showing(evidence, 'refused')
  // Who rejects the knock's ports rejects the service's, too, and is not the server.
  if (refused.length === 0 || isRejected(evidence.knocked)) return []
  // A datagram touches no port that could show who rejects.
  const login = evidence.datagram !== undefined && evidence.opened.length === 0 ? `${LOG_IN}; else ` : ''
  return [
    {
      unknown: `either no service listens on ${called(refused)}, or a firewall rejects what it does not let in`,
      hint: `${login}start the service on ${called(refused)}, or read the server's log`,
    },
  ]
}

function ofKey({ ended }: Evidence): Finding[] {
  if (ended === null) return []
  return [
    { seen: `the key expired at ${isoTime(ended)}, according to its file`, hint: 'make a new key on the server, or ask for one' },
  ]
}

function isUnreachable(saw: string): boolean {
  return UNREACHABLE.includes(saw)
}

function ofWay({ host, services, seen }: Evidence): Finding[] {
  // A network may reject the knock's ports alone; where its service is not reached either, it is the way.
  const tried = [...services.values(), ...seen]
  const unreachable = tried.find(isUnreachable)
  if (!unreachable || tried.includes('refused') || tried.includes('open')) return []
  return [
    {
      seen: `${host} cannot be reached (${unreachable})`,
      hint: 'check that this network is online and that the server is up, or try -4 or -6',
    },
  ]
}

/** Some are enough: routers send no more than a few such messages a second. */
function isRejected(knocked: Iterable<string>): boolean {
  return [...knocked].some((saw) => saw === 'refused' || saw === FORBIDDEN || isUnreachable(saw))
}

/** What the touches of a knock tell by what they came back with, with what to do; nothing where that is nothing. */
export function ofTouches(touched: Iterable<string>, ways: string): Finding[] {
  const shown = [...touched]
  if (shown.includes('open'))
    return [
      {
        seen: 'something on the path answers every connection: an answer proves nothing, and the knock may not have got through',
        hint: `try ${ways}; or ${LOG_IN}`,
      },
    ]
  if (isRejected(shown))
    return [
      {
        seen: 'the ports of the knock are rejected at once, and a server that hears knocks is silent there',
        hint: `${LOG_IN}; else try ${ways}, or another network`,
      },
    ]
  return []
}

/** What goes by where connection attempts don't. */
export const OTHER_WAYS = '--udp, or --datagram 443'

/** Those that it has not gone by already. */
const untriedWays = ({ udp }: Evidence) => (udp ? '--datagram 443' : OTHER_WAYS)

function ofProxy(evidence: Evidence): Finding[] {
  return evidence.knocked.includes('open') ? ofTouches(evidence.knocked, untriedWays(evidence)) : []
}

function ofRejected(evidence: Evidence): Finding[] {
  return evidence.knocked.includes('open') ? [] : ofTouches(evidence.knocked, untriedWays(evidence))
}

/** Where IPv6 leads nowhere, all looks as where a guard drops the knock, and is cured by IPv4. */
function ofFamily({ mayTry4, services, knocked, seen }: Evidence): Finding[] {
  const shown = [...services.values(), ...knocked, ...seen]
  if (!mayTry4 || shown.some((saw) => saw !== 'silence')) return []
  return [{ seen: 'nothing came back by IPv6', hint: 'try -4: IPv6 may not work in this network' }]
}

function ofSilence(evidence: Evidence): Finding[] {
  const { datagram, knocked, udp, pace } = evidence
  if (ofWay(evidence).length > 0 || hasAnswered(evidence)) return []
  if (datagram !== undefined)
    return [
      {
        unknown: `whether the server hears datagrams on port ${datagram} is not known`,
        hint: `on the server, add port ${datagram} to [datagram] in its config, run "knockturn firewall install" and restart the daemon`,
      },
    ]
  if (knocked.length === 0 || !knocked.every((saw) => saw === 'silence')) return []
  const untried = [...(udp ? [] : ['--udp']), ...(pace < PACE ? [`--pace ${PACE}`] : []), '--datagram 443']
  return [
    {
      seen: 'the ports of the knock are silent: either the server hears them, or this network drops them',
      unknown: 'some networks drop them for minutes after what looks like a port scan, and longer with each pass',
      hint: `try ${untried.join(', then ')}, or another network`,
    },
  ]
}

/** Whether all that was tried refuses, or is answered: somebody is there. */
function hasAnswered({ services }: Evidence): boolean {
  return [...services.values()].every((saw) => saw === 'refused' || saw === ANSWERED)
}

function ofClock(evidence: Evidence): Finding[] {
  const isAskedInVain = evidence.clock === null && hasAnswered(evidence)
  return ofWrongClock(evidence).length > 0 || isAskedInVain ? [] : ofUsableClock(evidence)
}

function ofAddress({ named }: Evidence): Finding[] {
  if (named === null) return []
  return [
    {
      unknown: `the knock opens for ${named}: if the server sees another address of this machine, the port stays closed from here`,
      hint: "leave out -i, or give it the source that the server's log shows",
    },
  ]
}

function ofServices({ services }: Evidence): Finding[] {
  return [...services].flatMap(([port, saw]): Finding[] => {
    if (saw === 'open')
      return [{ seen: `port ${port} has just answered: it needed more time`, hint: 'try again with a longer --wait' }]
    if (saw === 'silence')
      return [{ unknown: `port ${port} is silent: it is closed, or this network blocks it`, hint: READ_THE_LOG }]
    return []
  })
}
