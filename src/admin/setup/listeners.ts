import { canonicalAddress, isLoopback } from '../../protocol/address'
import { formatService, parseService, type Service } from '../../protocol/service'
import { hasCommand, run } from '../../system/commands'
import { Fault, inOneLine, listed } from '../../system/fault'

/* What listens here and could be reached by a stranger: sockets, and the ports that containers publish. */

/** Services that are told apart: far more than any machine has, and any local user can have a socket on each port. */
const MAX_LISTENERS = 1_024
/** Users below this number are the system's own (login.defs): who else listens may call their program as they like. */
const FIRST_USER = 1_000
/** Ports of one published range that are taken: more is no list of services. */
const MAX_RANGE = 256

/** A service that strangers could reach. */
export interface Listener {
  readonly service: Service
  /** The programs that have it, as the kernel calls them; none where it is the kernel itself, or a container's. */
  readonly programs: readonly string[]
  /** Whether root or a user of the system's has opened it; not so for what an ordinary user runs. */
  readonly isSystems: boolean
  /** Who publishes it for a container, docker or podman; null for what this host has itself. */
  readonly publisher: string | null
}

/** What was found, each service once, and what could not be asked: that is not nothing. */
export interface Listeners {
  readonly found: readonly Listener[]
  /** Lines for a warning. */
  readonly unknown: readonly string[]
}

/** Looks what listens. @throws {Fault} where ss is missing or fails */
export async function findListeners(): Promise<Listeners> {
  const sockets = parseSockets(await run('ss', ['-Hltunpe']))
  const looks = [sockets, ...(await Promise.all(['docker', 'podman'].map(findPublished))), await findTunnels()]
  const found = merge(looks.flatMap((look) => look.found))
  const unknown = looks.flatMap((look) => look.unknown)
  return bounded({ found, unknown })
}

/** No more than are told apart: the system's first, so that no local user's sockets have them left out. */
export function bounded({ found, unknown }: Listeners): Listeners {
  if (found.length <= MAX_LISTENERS) return { found, unknown }
  return {
    found: [...found].sort((a, b) => Number(b.isSystems) - Number(a.isSystems)).slice(0, MAX_LISTENERS),
    unknown: [...unknown, `more than ${MAX_LISTENERS} services listen: the rest is left out`],
  }
}

/** Reads what `ss -Hltunpe` prints: what listens on loopback alone is left out. */
export function parseSockets(text: string): Listeners {
  const found: Listener[] = []
  let unread = 0
  for (const line of text.split('\n').filter((one) => one.trim() !== '')) {
    const socket = readSocket(line)
    if (socket === null) unread++
    else if (socket !== LOCAL) found.push(socket)
  }
  return { found, unknown: unread > 0 ? [`${unread} lines of ss cannot be read: what they are about is left out`] : [] }
}

/** What only this host reaches. */
const LOCAL = 'local'

/** Netid, state, two queues, where it listens, its peer, and the rest: the programs, and uid:N where that is not root. */
const SOCKET = /^(tcp|udp)\s+\S+\s+\d+\s+\d+\s+(\S+):(\d+)\s+\S+(?:\s+(.*))?$/

function readSocket(line: string): Listener | typeof LOCAL | null {
  const [, protocol, where = '', port, rest = ''] = SOCKET.exec(line.trim()) ?? []
  const service = parseService(`${port}/${protocol}`)
  if (!service) return null
  const [address = '', device] = where.replace(/[[\]]/g, '').split('%')
  if (device === 'lo' || isLoopback(canonicalAddress(address) ?? '')) return LOCAL
  const programs = [...rest.matchAll(/\("((?:[^"\\]|\\.)*)",pid=\d+/g)].map(([, name = '']) => name)
  // A program's name may have anything in it, another uid, too: it can add one, and take none away.
  const isSystems = [...rest.matchAll(/uid:(\d+)/g)].every(([, uid]) => Number(uid) < FIRST_USER)
  return { service, programs: [...new Set(programs)], isSystems, publisher: null }
}

/** Asks a program of containers which ports it publishes. */
function findPublished(publisher: string): Promise<Listeners> {
  return askProgram(
    publisher,
    ['ps', '--format', '{{.Ports}}'],
    (why) => `cannot tell which ports ${publisher} publishes: ${why}`,
    (text) => parsePublished(text).map((service) => ({ service, programs: [], isSystems: true, publisher })),
  )
}

/** Asks a program what listens; nothing where it is not installed. @param untold what to say where it fails, and why it does */
async function askProgram(
  program: string,
  args: readonly string[],
  untold: (why: string) => string,
  read: (text: string) => Listener[],
): Promise<Listeners> {
  if (!(await hasCommand(program))) return { found: [], unknown: [] }
  try {
    return { found: read(await run(program, args)), unknown: [] }
  } catch (error) {
    if (!(error instanceof Fault)) throw error
    return { found: [], unknown: [untold(inOneLine(error))] }
  }
}

/** Reads what `docker ps --format '{{.Ports}}'` prints, and podman likewise: a line for each container. */
export function parsePublished(text: string): Service[] {
  const services = text.split(/[,\n]/).flatMap((item) => {
    const [, where = '', low, high = low, protocol] = /^(\S*):(\d+)(?:-(\d+))?->\S+\/(tcp|udp)$/.exec(item.trim()) ?? []
    const address = where.replace(/[[\]]/g, '')
    if (isLoopback(canonicalAddress(address) ?? '')) return []
    const count = Math.min(Number(high) - Number(low) + 1, MAX_RANGE)
    return Array.from({ length: Math.max(count || 0, 0) }, (_, i) => parseService(`${Number(low) + i}/${protocol}`) ?? [])
  })
  return services.flat()
}

/** The ports of WireGuard, which the kernel has itself: ss names no program there. */
function findTunnels(): Promise<Listeners> {
  return askProgram(
    'wg',
    ['show', 'all', 'listen-port'],
    (why) => `cannot tell at which ports WireGuard listens: ${why}`,
    (text) => {
      const services = text.split('\n').flatMap((line) => parseService(`${line.split('\t')[1]}/udp`) ?? [])
      return services.map((service) => ({ service, programs: [WIREGUARD], isSystems: true, publisher: null }))
    },
  )
}

/** As which the kernel's own WireGuard is listed. */
export const WIREGUARD = 'wireguard'

/** Each service once: both families, several programs, and a container's port with the program in front of it are one. */
function merge(all: readonly Listener[]): Listener[] {
  const byName = new Map<string, Listener>()
  for (const one of all) {
    const name = formatService(one.service)
    const known = byName.get(name)
    byName.set(name, known ? joined(known, one) : one)
  }
  return [...byName.values()].sort(
    (a, b) => a.service.port - b.service.port || (a.service.protocol < b.service.protocol ? -1 : 1),
  )
}

const joined = (one: Listener, other: Listener): Listener => ({
  service: one.service,
  programs: [...new Set([...one.programs, ...other.programs])],
  isSystems: one.isSystems && other.isSystems,
  publisher: one.publisher ?? other.publisher,
})

/** Programs that are named in one line: anything may call itself anything. */
const SHOWN = 3

/** Who has a service, for people. */
export function holderOf({ programs, publisher }: Listener): string {
  if (publisher) return `published by ${publisher}`
  return programs.length > 0 ? listed(programs, SHOWN) : 'the kernel'
}
