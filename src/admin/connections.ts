import { setTimeout as sleep } from 'node:timers/promises'
import { interfaceAddresses } from '../daemon/iptables/table'
import { ESTABLISHED, eachSocket } from '../daemon/sockets'
import { type Lease, opensFor } from '../gate/firewall'
import { canonicalAddress, formatCidr, isLoopback, overlap, parseCidr } from '../protocol/address'
import { formatService, type Service } from '../protocol/service'
import { CommandFault, hasCommand, run } from '../system/commands'
import { Fault, inOneLine, listed } from '../system/fault'
import { isForwarded } from './setup/came-in'
import { connectionName } from './setup/entered'
import { ownSession, type Session } from './setup/session'

/* The connections that have come in by leases, and their end. A connection is ended by both its ends, and never by a rule that others fit. */

/** States in which something can still be said (net/tcp_states.h): SYN_RECV, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT, and of UDP, too, ESTABLISHED. */
const TALKING = [ESTABLISHED, 3, 4, 5, 8]
/** Connections that one call of ss names: a filter of some 5 KB. */
const AT_ONCE = 64
/** Connections that are ended by one command: what is beyond is said to be left. One client can have as many as it likes. */
const MAX_ENDED = 4_096
/** Looks after which those that are still there are left, and milliseconds between two: an end takes the kernel one. */
const ROUNDS = 3
const PAUSE = 50
/** Addresses of this host's own by which forwarded connections are looked for: each is a process. */
const MAX_OWN = 64
/** Keys that are named in one line. */
const NAMED = 3

/** A way in that leases have opened. */
export type Door = Pick<Lease, 'key' | 'address'> & Service

/** One connection of this host's. */
export type Connection = Session & { readonly protocol: Service['protocol'] }

/** What has become of connections. */
export interface Severed {
  /** This host's own. */
  readonly ended: readonly Connection[]
  /** Flows to containers and other hosts behind this one that were forgotten; null: nobody could look. */
  readonly forwarded: number | null
  /** What could not be ended, and why, as lines for a warning. */
  readonly left: readonly string[]
  /** What is not to be ended, and why. */
  readonly spared: readonly string[]
}

/** Whether a connection is one of those that a door lets in. */
export const isThrough = (door: Door, { protocol, localPort, peer }: Connection): boolean =>
  door.protocol === protocol && door.port === localPort && opensFor(door, peer)

/** Doors by whom they let in: to ask each of ten thousand about each connection takes minutes, in which who is to be cut off goes on. */
class Doorways {
  readonly #single = new Map<string, Door[]>()
  readonly #blocks: Door[] = []

  constructor(doors: readonly Door[]) {
    for (const door of doors) {
      const block = parseCidr(door.address)
      const whom = block === null ? null : formatCidr(block)
      if (whom === null || whom.includes('/')) this.#blocks.push(door)
      else {
        const name = nameOfWay(door.protocol, door.port, whom)
        const known = this.#single.get(name)
        if (known) known.push(door)
        else this.#single.set(name, [door])
      }
    }
  }

  /** Those that let a connection in. */
  through(connection: Connection): Door[] {
    const { protocol, localPort, peer } = connection
    const blocks = this.#blocks.filter((door) => isThrough(door, connection))
    return [...(this.#single.get(nameOfWay(protocol, localPort, peer)) ?? []), ...blocks]
  }
}

const nameOfWay = (protocol: string, port: number, address: string): string => `${protocol} ${port} ${address}`

/** Finds this host's connections that doors let in. @throws {Fault} where they can't be read */
export async function connectionsThrough(doors: readonly Door[]): Promise<Connection[]> {
  const found: Connection[] = []
  for (const protocol of ['tcp', 'udp'] as const) {
    const own = doors.filter((door) => door.protocol === protocol)
    if (own.length === 0) continue
    const ports = new Set(own.map(({ port }) => port))
    const ways = new Doorways(own)
    await eachSocket(protocol, ({ state, local, port, peer, peerPort }) => {
      if (!ports.has(port) || !TALKING.includes(state)) return
      const connection = { protocol, peer, peerPort, local, localPort: port }
      if (ways.through(connection).length > 0) found.push(connection)
    })
  }
  return found
}

/**
 * Ends the connections that have come in by leases which are closed, and by no other that is in force; not the session in which this is typed.
 * @param closed what they came by
 * @param kept what is still in force
 * @throws {Fault} where ss is missing or fails
 */
export async function sever(closed: readonly Door[], kept: readonly Door[]): Promise<Severed> {
  const session = await ownSession()
  const [ended, spared] = [new Map<string, Connection>(), new Set<string>()]
  const find = async () => {
    const { own, others } = sorted(await connectionsThrough(closed), kept, session)
    for (const line of others) spared.add(line)
    return own
  }
  let own = await find()
  for (let round = 1; own.length > 0 && round <= ROUNDS; round++) {
    for (const one of own) ended.set(nameOf(one), one)
    await kill(own.slice(0, MAX_ENDED))
    await sleep(PAUSE)
    own = await find()
  }
  for (const one of own) ended.delete(nameOf(one))
  const behind = await forget(closed.filter((door) => isAlone(door, kept, session)))
  const left = own.length > 0 ? [`${own.length} connections could not be ended: the kernel may lack INET_DIAG_DESTROY`] : []
  return { ended: [...ended.values()], forwarded: behind.count, left: [...left, ...behind.unknown], spared: [...spared] }
}

const nameOf = (connection: Connection): string => `${connection.protocol} ${connectionName(connection)}`

/** Tells what is to be ended from what is another's, or this session. @returns the others as lines */
export function sorted(
  found: readonly Connection[],
  kept: readonly Door[],
  session: Session | null,
): { own: Connection[]; others: string[] } {
  const own: Connection[] = []
  const others: string[] = []
  const ways = new Doorways(kept)
  for (const one of found) {
    const keys = [...new Set(ways.through(one).map(({ key }) => key))]
    const service = formatService({ protocol: one.protocol, port: one.localPort })
    if (session && one.protocol === 'tcp' && connectionName(session) === connectionName(one))
      others.push(`this session (from ${one.peer} to ${service}) goes on: end it yourself`)
    else if (keys.length > 0)
      others.push(`connections from ${one.peer} to ${service} go on: leases of ${listed(keys, NAMED)} are still open there`)
    else own.push(one)
  }
  return { own, others }
}

/** Whether nothing else that is in force, and not this session, may have come in by the same way. */
function isAlone(door: Door, kept: readonly Door[], session: Session | null): boolean {
  const block = parseCidr(door.address)
  const isSame = (other: Door) => {
    const theirs = parseCidr(other.address)
    return other.protocol === door.protocol && other.port === door.port && !!block && !!theirs && overlap(block, theirs)
  }
  const isOwn = session && door.protocol === 'tcp' && door.port === session.localPort && opensFor(door, session.peer)
  return !isOwn && !kept.some(isSame)
}

/** @throws {Fault} where ss is missing or fails */
async function kill(connections: readonly Connection[]): Promise<void> {
  for (let at = 0; at < connections.length; at += AT_ONCE) {
    const some = connections.slice(at, at + AT_ONCE)
    for (const protocol of ['tcp', 'udp'] as const) {
      const filter = filterOf(some.filter((one) => one.protocol === protocol))
      // Without a filter it would be everybody's.
      if (filter !== null) await run('ss', ['-K', '-H', '-n', protocol === 'tcp' ? '-t' : '-u', 'state', 'all', filter])
    }
  }
}

/** What ss takes for these connections and no other, by both ends of each; null where there are none. */
export function filterOf(connections: readonly Connection[]): string | null {
  if (connections.length === 0) return null
  return connections
    .map(({ local, localPort, peer, peerPort }) => `( src ${endOf(local, localPort)} and dst ${endOf(peer, peerPort)} )`)
    .join(' or ')
}

const endOf = (address: string, port: number): string => (address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`)

/**
 * Has the kernel forget flows that go through this host: to containers, and those of UDP, which has no connections. What comes of them then
 * meets the guard as if it were new.
 */
async function forget(doors: readonly Door[]): Promise<{ count: number | null; unknown: string[] }> {
  const isTool = await hasCommand('conntrack')
  const unknown = new Set<string>()
  let count = 0
  for (const door of doors) {
    const service = formatService(door)
    const isUdp = door.protocol === 'udp'
    if (!isUdp && !(await isForwarded(door.port))) continue
    if (!isTool && isUdp) unknown.add(`what goes on at ${service} cannot be ended: conntrack is not installed`)
    else if (!isTool)
      unknown.add(`cannot tell whether connections to ${service} go on behind this host: conntrack is not installed`)
    else
      for (const own of ownAddresses(door.address)) {
        const deleted = await forgetFlows(door, own).catch((error) => {
          if (!(error instanceof Fault)) throw error
          unknown.add(`what goes on at ${service} cannot be ended: ${inOneLine(error)}`)
          return 0
        })
        count += deleted
      }
  }
  return { count: isTool ? count : null, unknown: [...unknown] }
}

/** This host's addresses of the same family at which others reach it. */
function ownAddresses(like: string): string[] {
  const all = interfaceAddresses().map(({ address }) => canonicalAddress(address) ?? address)
  return all.filter((address) => address.includes(':') === like.includes(':') && !isLoopback(address)).slice(0, MAX_OWN)
}

/** @returns how many flows were forgotten */
async function forgetFlows({ protocol, port, address }: Door, own: string): Promise<number> {
  const flow = ['-p', protocol, '--orig-src', address, '--orig-dst', own, '--orig-port-dst', String(port)]
  try {
    const deleted = await run('conntrack', ['-D', '-f', address.includes(':') ? 'ipv6' : 'ipv4', ...flow])
    return deleted.split('\n').filter((line) => line.trim() !== '').length
  } catch (error) {
    // It ends with 1 where there is none.
    if (error instanceof CommandFault && error.exitCode === 1 && / 0 flow entries/.test(error.message)) return 0
    throw error
  }
}
