import { Fault } from '../system/fault'
import { look } from './look'
import { ANSWERED } from './lookout'
import { clockOffset } from './time-source'
import { REFUSAL_KNOWN } from './transport'

/* What a client can see by itself where nothing has opened. The server says nothing, whatever it makes of a knock. */

/** Ports of the knock that are looked at where its touches have shown nothing: the rendezvous, which this address has touched already. */
const PROBED = 8
/** Milliseconds that a port is given to show itself. */
const LOOK = Math.max(1_000, REFUSAL_KNOWN)

/** What was found out. */
export interface Evidence {
  /** The server, as the user knows it. */
  readonly host: string
  /** The port of the datagrams that it knocked by; undefined: by ports. */
  readonly datagram: number | undefined
  /** Whether it touched ports by UDP, and milliseconds between two of them. */
  readonly udp: boolean
  readonly pace: number
  /** The ports that this very knocking has opened. */
  readonly opened: readonly number[]
  /** What the other services' ports have shown, by port: see {@link look}. */
  readonly services: ReadonlyMap<number, string>
  /** What the touches of the knock came back with; where that is nothing, what each port of it has shown that was looked at. */
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
  /** Whether it knocked by IPv6 because the user asked for that, and IPv4 might do. */
  readonly mayTry4: boolean
}

/** One thing that was found out: what was seen, what that leaves open, and what to do about it. */
export interface Finding {
  readonly seen?: string
  readonly unknown?: string
  readonly hint?: string
}

/** Looks at what can be seen from here. Takes up to five seconds, on Windows six. */
export async function investigate({
  address,
  services,
  touched,
  knocked,
  timeSource,
  timeOffset,
}: {
  readonly address: string
  /** What the ports of the services have shown until now: one that refuses has said enough, and so has one that somebody else answers. */
  readonly services: ReadonlyMap<number, string>
  /** What the touches of the knock came back with. */
  readonly touched: ReadonlySet<string>
  /** The ports of the knock. */
  readonly knocked: readonly number[]
  readonly timeSource: URL | undefined
  readonly timeOffset: number
}): Promise<Pick<Evidence, 'services' | 'knocked' | 'clock'>> {
  // The services first: routers send few ICMP messages.
  const lookAll = async () => {
    const hasSaid = (saw: string) => saw === 'refused' || saw === ANSWERED
    const shown = await Promise.all(
      [...services].map(async ([port, saw]) => [port, hasSaid(saw) ? saw : await look(address, port, LOOK)] as const),
    )
    if (touched.size > 0) return { shown, heard: [...touched] }
    const heard = await Promise.all(knocked.slice(0, PROBED).map((port) => look(address, port, LOOK)))
    return { shown, heard }
  }
  const [{ shown, heard }, clock] = await Promise.all([lookAll(), timeSource ? askTime(timeSource, timeOffset) : null])
  return { services: new Map(shown), knocked: heard, clock }
}

/** How far our clock, as corrected, is from that of a source that the user has named, or why that is not known: see {@link Evidence.clock}. */
export async function askTime(source: URL, timeOffset: number): Promise<NonNullable<Evidence['clock']>> {
  try {
    return { source: source.href, offset: (await clockOffset(source)) - timeOffset * 1000 }
  } catch (error) {
    if (!(error instanceof Fault)) throw error
    return { source: source.href, offset: error.message }
  }
}
