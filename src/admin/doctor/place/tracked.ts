import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { createReadStream } from 'node:fs'
import { createInterface } from 'node:readline'
import { legacyTables } from '../../../daemon/exposure/look'
import { FAMILIES } from '../../../daemon/iptables/table'
import { addressBytes } from '../../../protocol/address'
import { formatService, parseService, type Service } from '../../../protocol/service'
import { hasCommand, run } from '../../../system/commands'
import { errorCode, Fault } from '../../../system/fault'

/*
 * Which packets have come through. An answer says that one has, and silence does not say that none has: many services that speak UDP answer nobody
 * whom they do not know. But the kernel keeps track of a packet only when all rules of all tables have let it pass, and says so in a file.
 */

const FILE = '/proc/self/net/nf_conntrack'
const LOOPBACK = '127.0.0.1'
/** A line: protocol, then what was sent, as it was before any rule has sent it elsewhere. */
const LINE = /^\S+\s+\d+\s+(tcp|udp)\s+\d+\s.*?src=(\S+) dst=(\S+) sport=\d+ dport=(\d+)/
/** Rules by which the kernel keeps track of some packets no more. */
const UNTRACKED = /\bnotrack\b/i

/** The services to which packets of a source have come through, by their names. */
export type Tracked = ReadonlySet<string>

/**
 * Reads what has come through from a source. Its packets are recent: the kernel forgets those of UDP after 30 seconds.
 * @returns null where this kernel does not say so of all packets: then silence says nothing
 */
export async function trackedFrom(source: string): Promise<Tracked | null> {
  if (!(await tracksAll())) return null
  return readTracked(source).catch(() => null)
}

/** Whether the kernel keeps track of whatever passes, and shows it. */
async function tracksAll(): Promise<boolean> {
  const legacy = await Promise.all(FAMILIES.map(legacyTables))
  // To look at a table of iptables-legacy would make it.
  if (legacy.some((names) => names?.includes('raw'))) return false
  try {
    if ((await hasCommand('nft')) && UNTRACKED.test(await run('nft', ['-t', 'list', 'ruleset']))) return false
    const port = await sendToOurselves()
    return (await readTracked(LOOPBACK)).has(formatService({ protocol: 'udp', port }))
  } catch (error) {
    if (error instanceof Fault || errorCode(error) !== undefined) return false
    throw error
  }
}

/** Sends this process a datagram by loopback, where hardly any rule drops it. @returns the port that it has come to */
async function sendToOurselves(): Promise<number> {
  const [from, to] = [createSocket('udp4'), createSocket('udp4')]
  try {
    for (const socket of [from, to]) await once(socket.bind(0, LOOPBACK), 'listening')
    const { port } = to.address()
    await new Promise((resolve) => from.send('?', port, LOOPBACK, resolve))
    return port
  } finally {
    for (const socket of [from, to]) socket.close()
  }
}

/** @throws where the file can't be read */
async function readTracked(source: string): Promise<Tracked> {
  const wanted = `src=${inFull(source)} `
  const found = new Set<string>()
  // It may have a million lines: one at a time.
  for await (const line of createInterface({ input: createReadStream(FILE) })) {
    const service = line.includes(wanted) ? readLine(line, source) : null
    if (service) found.add(formatService(service))
  }
  return found
}

/** Reads the service that a line of the file is about; null where it began elsewhere, or is about no service. */
export function readLine(line: string, source: string): Service | null {
  const [, protocol, from, , port] = LINE.exec(line) ?? []
  return from === inFull(source) ? parseService(`${port}/${protocol}`) : null
}

/** An address as the kernel writes it there. */
function inFull(address: string): string {
  const bytes = addressBytes(address)
  if (bytes?.length !== 16) return address
  return Buffer.from(bytes)
    .toString('hex')
    .replace(/(.{4})(?=.)/g, '$1:')
}
