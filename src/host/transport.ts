import { createSocket } from 'node:dgram'
import { lookup } from 'node:dns/promises'
import { connect, isIP, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { errorCode, Fault, reason } from './fault'

/** A connection attempt is given up after this many milliseconds: enough for its SYN to leave, not for a retransmit. */
const HOLD = 50
/** Errors that say that no packet left this machine; whatever else comes back, the SYN was on its way. */
const NOT_SENT = new Set(['ENETUNREACH', 'EADDRNOTAVAIL', 'EACCES', 'EPERM', 'EMFILE', 'ENFILE', 'ENOBUFS', 'EINVAL'])

/**
 * Finds a server's address: the first that the system's resolver gives, as other programs will.
 * @param required 4 or 6 where only that family will do, else 0
 * @param preferred the family to take where there is a choice, or 0
 * @throws {Fault} when there is none
 */
export async function resolveHost(host: string, required: 0 | 4 | 6, preferred: 0 | 4 | 6 = 0): Promise<string> {
  const what = required === 0 ? 'an address' : `an IPv${required} address`
  const literal = isIP(host)
  if (literal && required && literal !== required)
    throw new Fault(`${host}: expected ${what}, got one of IPv${literal}: leave out -${required}`)
  try {
    const all = await lookup(host, { family: required, all: true })
    return (all.find(({ family }) => family === preferred) ?? all[0]).address
  } catch (error) {
    throw new Fault(
      `${host}: expected a host with ${what}: ${reason(error)}: give its name or address alone, without port or brackets`,
    )
  }
}

/**
 * Touches ports by TCP: one connect each, in order, given up shortly after.
 * @param pace milliseconds between two ports
 * @throws {Fault} when not one SYN could leave
 */
export async function touchTcp(address: string, ports: readonly number[], pace: number): Promise<void> {
  const sockets: Socket[] = []
  const failures: Error[] = []
  for (const port of ports) {
    if (pace > 0 && sockets.length > 0) await sleep(pace)
    const socket = connect({ host: address, port })
    // Refused or unreachable is an answer that we did not ask for.
    socket.on('error', (error) => {
      if (NOT_SENT.has(errorCode(error) ?? '')) failures.push(error)
    })
    sockets.push(socket)
  }
  await sleep(HOLD)
  for (const socket of sockets) socket.destroy()
  if (failures.length === ports.length) throw nothingSent(address, failures[0])
}

/** Touches ports by UDP: one datagram each, empty unless a payload is given, in order. Like {@link touchTcp} otherwise. */
export async function touchUdp(
  address: string,
  ports: readonly number[],
  pace: number,
  payload: Uint8Array = new Uint8Array(),
): Promise<void> {
  const socket = createSocket(isIP(address) === 6 ? 'udp6' : 'udp4')
  const failures: Error[] = []
  socket.on('error', (error) => failures.push(error))
  const sent = ports.map(async (port, i) => {
    if (pace > 0) await sleep(pace * i)
    await new Promise<void>((resolve) => {
      socket.send(payload, port, address, (error) => {
        if (error) failures.push(error)
        resolve()
      })
    })
  })
  await Promise.all(sent)
  socket.close()
  if (failures.length >= ports.length) throw nothingSent(address, failures[0])
}

function nothingSent(address: string, error: Error): Fault {
  return new Fault(`${address}: nothing could be sent: ${reason(error)}: check this machine's network`)
}

/** What a connection that failed has shown: `refused`, or the code of another error, such as EHOSTUNREACH. */
export function failureOf(error: Error): string {
  return errorCode(error) === 'ECONNREFUSED' ? 'refused' : (errorCode(error) ?? reason(error))
}

/**
 * Tries a TCP connection.
 * @param limit milliseconds
 * @returns `open`, `silence`, or what {@link failureOf} says
 */
export function look(address: string, port: number, limit: number): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect({ host: address, port, timeout: limit })
    const end = (saw: string) => {
      socket.destroy()
      resolve(saw)
    }
    socket
      .once('connect', () => end('open'))
      .once('error', (error) => end(failureOf(error)))
      .once('timeout', () => end('silence'))
  })
}
