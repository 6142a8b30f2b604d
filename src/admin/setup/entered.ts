import type { Counted } from '../../daemon/backends/backend'
import { type Lease, opensFor } from '../../gate/firewall'
import { formatService } from '../../protocol/service'
import type { Session } from './session'

/* Who has come in through a lease, as far as a firewall and a list of connections tell. */

/** Somebody who has come in. */
export interface Entered {
  readonly address: string
  /** What they have reached: `22/tcp` */
  readonly service: string
  /** The key by which they have knocked. */
  readonly key: string
}

/** What there is to judge by. */
export interface Seen {
  /** What was there at the beginning: see {@link connectionName} and {@link leaseName}. */
  readonly before: ReadonlySet<string>
  readonly leases: readonly Counted[]
  /** Connections of now that this host is an end of. */
  readonly connections: readonly Session[]
}

/** By which a connection is known: another one of the same two ends counts as the same. */
export const connectionName = ({ peer, peerPort, local, localPort }: Session): string =>
  `${peer} ${peerPort} ${local} ${localPort}`

/** By which a lease is known. @param id the lease's own */
export const leaseName = (id: string): string => `lease ${id}`

/** Leases that have let something pass: a SYN, say, which another firewall may have dropped behind us. */
const counted = ({ leases }: Seen): Lease[] => leases.flatMap(({ lease, packets }) => (packets ? lease : []))

/** The connection that came by a lease, if it is new. */
const cameBy = (lease: Lease, { before }: Seen, connection: Session): boolean =>
  lease.protocol === 'tcp' &&
  lease.port === connection.localPort &&
  opensFor(lease, connection.peer) &&
  !before.has(connectionName(connection))

const enteredBy = (lease: Lease, address: string): Entered => ({ address, service: formatService(lease), key: lease.key })

/**
 * Finds who has come in by a knock since the beginning: by TCP, a new connection that is established, through a lease that has counted it; by UDP,
 * where there are no connections, what a lease has counted. Null: nobody, or nobody who can be told from a stranger.
 */
export function findEntered(seen: Seen): Entered | null {
  const leases = counted(seen)
  for (const lease of leases) {
    const connection = seen.connections.find((one) => cameBy(lease, seen, one))
    if (connection) return enteredBy(lease, connection.peer)
  }
  // What an earlier one has counted may be of before. Of a connection that is new, nothing is.
  const lease = leases.find(({ protocol, id }) => protocol === 'udp' && !seen.before.has(leaseName(id)))
  return lease ? enteredBy(lease, lease.address) : null
}

/** Why a session does not confirm anything. */
export interface NotEntered {
  readonly why: string
  readonly hint: string
}

/**
 * Judges whether a session has come in by a knock. Where it needs none, it may still be new: then it speaks for somebody who has come in where no
 * connection of this host's is to be seen, such as to a container.
 * @param session null at a console
 * @param isForwarded whether a TCP port of this host is one that something else answers
 */
export function judgeSession(session: Session | null, seen: Seen, isForwarded: (port: number) => boolean): Entered | NotEntered {
  if (!session) return { why: 'this session has not come in by SSH', hint: `${AGAIN}, or "knockturn setup --revert" here` }
  const from = `this session (from ${session.peer} to port ${session.localPort})`
  if (!seen.connections.some((one) => connectionName(one) === connectionName(session)))
    return { why: `${from} is not established`, hint: `${AGAIN}, outside of tmux and screen` }
  if (seen.before.has(connectionName(session))) return { why: `${from} was there before the trial`, hint: AGAIN }
  const leases = counted(seen)
  const own = leases.find((lease) => cameBy(lease, seen, session))
  if (own) return enteredBy(own, session.peer)
  const other = leases.find(({ protocol, port }) => protocol === 'udp' || isForwarded(port))
  if (other) return enteredBy(other, other.address)
  return { why: `${from} has not come in through a lease`, hint: AGAIN }
}

const AGAIN = 'knock, log in anew, and run "knockturn setup --confirm" there'
