import { createSocket } from 'node:dgram'
import { connect, isIP } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { errorCode, Fault, reason } from '../system/fault'
import { wayTo } from './nat64'
import type { Touches } from './touches'

/** The burst of a knock is over this many milliseconds after its last SYN: what refuses at once has been heard by then. */
const HOLD = 50
/**
 * Milliseconds after which a refusal is known for sure. Windows says a SYN again that a reset has answered, twice, and tells of it after 2 s.
 */
export const REFUSAL_KNOWN = process.platform === 'win32' ? 3_000 : 0

/**
 * Touches ports by TCP: one connect each, in order. Resolves shortly after the last, and not when they are answered; or when no more are wanted.
 * @param pace milliseconds between two ports
 * @param touches has them from then on
 * @param from the local address to send from; none: what the system chooses
 * @throws {Fault} when not one SYN could leave
 */
export async function touchTcp(
  address: string,
  ports: readonly number[],
  pace: number,
  touches: Touches,
  from?: string,
): Promise<void> {
  const failures: Error[] = []
  const touch = (port: number, sources: readonly number[]) => {
    const [localPort, ...others] = sources
    const socket = connect({ host: address, port, localPort, ...(from !== undefined && { localAddress: from }) })
    socket.on('error', () => {})
    // What connect() itself says is known as soon as it has been called, in this tick: no SYN has left. What comes later comes from somebody.
    process.nextTick(() => {
      if (!socket.errored) touches.keep(socket, port)
      // Too few open files, as in a service that may have few: a SYN that has left needs none.
      else if (errorCode(socket.errored) === 'EMFILE' && touches.spare()) touch(port, sources)
      else if (others.length > 0) touch(port, others)
      else failures.push(socket.errored)
    })
  }
  for (const [i, port] of ports.entries()) {
    if (pace > 0 && i > 0) await sleep(pace)
    if (touches.isOver) return
    touch(port, touches.sources)
  }
  await sleep(HOLD)
  if (failures.length === ports.length) throw nothingSent(address, failures[0])
}

/** Touches ports by UDP: one datagram each, empty unless a payload is given, in order. Like {@link touchTcp} otherwise, but nothing comes back. */
export async function touchUdp(
  address: string,
  ports: readonly number[],
  pace: number,
  touches: Pick<Touches, 'isOver'>,
  from?: string,
  payload: Uint8Array = new Uint8Array(),
): Promise<void> {
  const socket = createSocket(isIP(address) === 6 ? 'udp6' : 'udp4')
  const failures: Error[] = []
  socket.on('error', (error) => failures.push(error))
  if (from !== undefined) {
    const failed = await new Promise<Error | null>((resolve) => {
      socket.once('error', resolve).bind(0, from, () => resolve(null))
    })
    if (failed) {
      socket.close()
      throw nothingSent(address, failed)
    }
  }
  const touch = (port: number) =>
    new Promise<void>((resolve) => {
      socket.send(payload, port, address, (error) => {
        if (error) failures.push(error)
        resolve()
      })
    })
  const sent: Promise<void>[] = []
  for (const [i, port] of ports.entries()) {
    if (pace > 0 && i > 0) await sleep(pace)
    if (touches.isOver) break
    sent.push(touch(port))
  }
  await Promise.all(sent)
  socket.close()
  if (failures.length >= ports.length) throw nothingSent(address, failures[0])
}

/**
 * The local address from which packets to another one leave now: nothing is sent.
 * @throws {Fault} where there is no way there
 */
export function localAddressTo(address: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = createSocket(isIP(address) === 6 ? 'udp6' : 'udp4')
    // Any port but 0 will do.
    socket.connect(1, address, (error?: Error) => {
      if (error) reject(nothingSent(address, error))
      else resolve(inZoneOf(address, socket.address().address))
      socket.close()
    })
  })
}

/** A local address as it can be bound: one that is good on one link only needs the zone of the address that it is used for. */
export function inZoneOf(address: string, local: string): string {
  return local.includes('%') ? local : `${local}${/%.*$/.exec(address)?.[0] ?? ''}`
}

function nothingSent(address: string, error: Error): Fault {
  const hint = wayTo(address) ?? "check this machine's network"
  return new Fault(`${address}: nothing could be sent: ${reason(error)}`, { hint })
}
