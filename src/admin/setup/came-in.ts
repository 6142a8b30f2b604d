import { createReadStream } from 'node:fs'
import { backendOf } from '../../daemon/backends/all'
import type { Counted } from '../../daemon/backends/backend'
import { readConfig, SERVER_CONFIG } from '../../daemon/config'
import { ESTABLISHED, eachSocket, readSocket } from '../../daemon/sockets'
import { lineSplitter } from '../../daemon/taps/lines'
import { run } from '../../system/commands'
import { errorCode, Fault, reason } from '../../system/fault'
import { connectionName, type Entered, findEntered, judgeSession, leaseName, type NotEntered, type Seen } from './entered'
import { ownSession, type Session } from './session'

export type { Entered } from './entered'

/* Looks who has come in: at the leases, and at this host's connections. */

/** What bin/knockturn-trial has written down when the trial began: /proc/net/tcp and tcp6, and the leases of then. */
const TRIAL = '/var/lib/knockturn-trial/trial'
const CONNECTIONS = `${TRIAL}/connections`
const LEASES = `${TRIAL}/leases`
/** Longest line of these that is read. */
const MAX_LINE = 1_024
/** The id of a lease, in the comment that the firewall has of it. */
const LEASE_ID = /"(?:knockturn:lease:)?([\da-f]{8}[^:"]*):/
/** What listens on a port that it only keeps for a container: packets to it go past. */
const KEEPERS = ['docker-proxy', 'conmon']

/**
 * What was there when the trial began, or, where none runs, what is there now: names of connections and leases.
 * @throws {Fault} where that can't be known
 */
export async function connectionsNow(): Promise<ReadonlySet<string>> {
  const names = new Set<string>()
  const add = (session: Session) => names.add(connectionName(session))
  const isTrial = await eachLine(CONNECTIONS, (line) => {
    const socket = readSocket(line)
    if (socket?.state === ESTABLISHED) add(sessionOf(socket))
  })
  await eachLine(LEASES, (line) => {
    const [, id] = LEASE_ID.exec(line) ?? []
    if (id) names.add(leaseName(id))
  })
  if (isTrial) return names
  ;(await established()).forEach(add)
  // There may be no config yet.
  for (const { lease } of await leasesNow().catch(noLeases)) names.add(leaseName(lease.id))
  return names
}

/** Who has come in through a lease since then; null: nobody yet, or it can't be known now. */
export async function whoCameIn(before: ReadonlySet<string>): Promise<Entered | null> {
  try {
    return findEntered(await look(before))
  } catch (error) {
    if (error instanceof Fault) return null
    throw error
  }
}

/** Whether this session has come in through a lease since then, and else why it does not count. @throws {Fault} where that can't be known */
export async function sessionCameIn(before: ReadonlySet<string>): Promise<Entered | NotEntered> {
  const session = await ownSession()
  const seen = await look(before)
  const forwarded = new Set<number>()
  for (const { lease } of seen.leases) if (lease.protocol === 'tcp' && (await isForwarded(lease.port))) forwarded.add(lease.port)
  return judgeSession(session, seen, (port) => forwarded.has(port))
}

async function look(before: ReadonlySet<string>): Promise<Seen> {
  return { before, leases: await leasesNow(), connections: await established() }
}

async function leasesNow(): Promise<readonly Counted[]> {
  const { value, faults } = await readConfig(SERVER_CONFIG)
  if (!value) throw faults[0]
  return backendOf(value).counted()
}

function noLeases(error: unknown): [] {
  if (error instanceof Fault) return []
  throw error
}

async function established(): Promise<Session[]> {
  const found: Session[] = []
  await eachSocket('tcp', (socket) => {
    if (socket.state === ESTABLISHED) found.push(sessionOf(socket))
  })
  return found
}

const sessionOf = ({ peer, peerPort, local, port }: NonNullable<ReturnType<typeof readSocket>>): Session => ({
  ...{ peer, peerPort },
  ...{ local, localPort: port },
})

/** Whether no program of this host answers at a TCP port, unless it only keeps it for a container. */
export async function isForwarded(port: number): Promise<boolean> {
  const lines = (await run('ss', ['-Hltnp', `sport = :${port}`])).split('\n').filter((line) => line.trim() !== '')
  return lines.every((line) => KEEPERS.some((name) => line.includes(`(("${name}",`)))
}

/** Hands over the lines of a file. @returns whether it is there @throws {Fault} where it can't be read */
async function eachLine(path: string, take: (line: string) => void): Promise<boolean> {
  const lines = lineSplitter(take, MAX_LINE)
  try {
    for await (const chunk of createReadStream(path, 'latin1')) lines.push(chunk)
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return false
    throw new Fault(`${path}: cannot be read: ${reason(error)}`)
  }
  lines.end()
  return true
}
