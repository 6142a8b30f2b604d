import { Fault } from './fault'
import { isoTime } from './time'
import { clockOffset } from './time-source'
import { look } from './transport'

/* Why nothing has opened: what a client can find out by itself. The server says nothing, whatever it makes of a knock. */

/** Ports of the knock that are looked at: the rendezvous, which this address has touched already. */
const PROBED = 8
/** Milliseconds that a port is given to show itself. */
const LOOK = 1_000
/**
 * Largest error, in milliseconds, for which an offset is advised. A knock of a window further ahead than the server knows may be kept and
 * played when its time comes, which is what a forged time would be for.
 */
const MAX_ADVISED = 5 * 60_000
/** No route, or nobody there who answers for that address. */
const UNREACHABLE = ['EHOSTUNREACH', 'ENETUNREACH', 'EHOSTDOWN', 'ENETDOWN']

/** What was found out. */
export interface Evidence {
  /** The server, as the user knows it. */
  readonly host: string
  /** The port of the datagrams that it knocked by; undefined: by ports. */
  readonly datagram: number | undefined
  /** What the services' ports have shown, by port: see {@link look}. */
  readonly services: ReadonlyMap<number, string>
  /** Likewise each port of the knock that was looked at. */
  readonly knocked: readonly string[]
  /** What came in place of an answer while it knocked. */
  readonly seen: ReadonlySet<string>
  /** Seconds of one window. */
  readonly period: number
  /** Whom the user has named for the time, how far our clock, as corrected, is from theirs in milliseconds, or why that is not known. */
  readonly clock: { readonly source: string; readonly offset: number | string } | null
  /** --time-offset, in seconds. */
  readonly timeOffset: number
  /** The address that the doors were to open for; null: the one that the server sees. */
  readonly named: string | null
  /** When the key ended, by its file, in Unix milliseconds; null: it holds. */
  readonly ended: number | null
}

/** Looks at what can be seen from here. Takes up to five seconds. */
export async function investigate({
  address,
  services,
  knocked,
  timeSource,
  timeOffset,
}: {
  readonly address: string
  readonly services: readonly number[]
  readonly knocked: readonly number[]
  readonly timeSource: URL | undefined
  readonly timeOffset: number
}): Promise<Pick<Evidence, 'services' | 'knocked' | 'clock'>> {
  // The services first: routers send few ICMP messages.
  const lookAll = async () => {
    const shown = await Promise.all(services.map(async (port) => [port, await look(address, port, LOOK)] as const))
    const heard = await Promise.all(knocked.slice(0, PROBED).map((port) => look(address, port, LOOK)))
    return { shown, heard }
  }
  const [{ shown, heard }, clock] = await Promise.all([lookAll(), timeSource ? askTime(timeSource, timeOffset) : null])
  return { services: new Map(shown), knocked: heard, clock }
}

async function askTime(source: URL, timeOffset: number): Promise<NonNullable<Evidence['clock']>> {
  try {
    return { source: source.href, offset: (await clockOffset(source)) - timeOffset * 1000 }
  } catch (error) {
    if (!(error instanceof Fault)) throw error
    return { source: source.href, offset: error.message }
  }
}

/** What follows from it, the likeliest cause first: one line each, and nothing that is not known. */
export function findings(evidence: Evidence): string[] {
  return [ofKey, ofNetwork, ofClock, ofAddress, ofServices].flatMap((find) => find(evidence))
}

function ofKey({ ended }: Evidence): string[] {
  return ended === null ? [] : [`the key has ended, at ${isoTime(ended)} by its file: a new one is made on the server`]
}

function ofNetwork({ host, datagram, services, knocked, seen }: Evidence): string[] {
  const isUnreachable = (saw: string) => UNREACHABLE.includes(saw)
  // A network may reject the knock's ports alone; where its service is not reached either, it is the way.
  const tried = [...services.values(), ...seen]
  const unreachable = tried.find(isUnreachable)
  if (unreachable && !tried.includes('refused') && !tried.includes('open'))
    return [`${host} cannot be reached (${unreachable}): is it up, is this network online, is -4 or -6 the way to it?`]
  if (datagram !== undefined)
    return [
      `whether the server hears datagrams on port ${datagram} is not known: it does with that port in [datagram] of its config, after "knockturn firewall install" and a restart of the daemon`,
    ]
  // Some are enough: routers send no more than a few such messages a second.
  if (knocked.some((saw) => saw === 'refused' || isUnreachable(saw)))
    return [
      'this network, or the server, rejects the ports of the knock at once, where a server that hears knocks is silent: try --datagram 443, or another network',
    ]
  if (knocked.length > 0 && knocked.every((saw) => saw === 'silence'))
    return [
      'the ports of the knock are silent: so they are where the server hears, and where this network drops them: try --datagram 443, or another network',
    ]
  return []
}

function ofClock({ clock, period, timeOffset }: Evidence): string[] {
  if (!clock) return ['whether this clock is right is not known: name somebody to ask, such as --time-source ntp://HOST']
  const { source, offset } = clock
  if (typeof offset === 'string') return [`whether this clock is right is not known: ${offset}`]
  const seconds = Math.round(offset / 1000)
  const corrected = timeOffset === 0 ? 'this clock' : 'this clock, as --time-offset corrects it,'
  // A window to each side is accepted: a whole period is too much for sure.
  if (Math.abs(offset) > MAX_ADVISED)
    return [
      `${corrected} is ${Math.abs(seconds)} s ${offset > 0 ? 'behind' : 'ahead of'} what ${source} says: if you believe that, set it (nothing proves an answer by ntp: somebody in this network may have given it)`,
    ]
  if (Math.abs(offset) > period * 1000)
    return [
      `${corrected} is ${Math.abs(seconds)} s ${offset > 0 ? 'behind' : 'ahead of'} that of ${source}: set it, or knock with --time-offset ${timeOffset + seconds}`,
    ]
  return [`${corrected} is right to ${(Math.abs(offset) / 1000).toFixed(1)} s, by ${source}: the server's may be wrong`]
}

function ofAddress({ named }: Evidence): string[] {
  return named === null
    ? []
    : [`the door was to open for ${named}: if the server sees another address of this machine, it stays shut from here`]
}

function ofServices({ services }: Evidence): string[] {
  return [...services].flatMap(([port, saw]) => {
    if (saw === 'refused')
      return [`port ${port} refuses: the door may be open, and no service behind it; or a firewall rejects it`]
    if (saw === 'open') return [`port ${port} has just answered: it was a matter of time`]
    if (saw === 'silence')
      return [`port ${port} is silent: the door is shut; the server's log tells whether it heard the knock, and what it refused`]
    return []
  })
}
