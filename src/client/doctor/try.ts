import { createSocket } from 'node:dgram'
import { isIP } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { DATAGRAM_LENGTHS } from '../../protocol/datagram'
import { failureOf, look } from '../look'
import { REFUSAL_KNOWN } from '../transport'
import { isRejection, type Probe, type Shown } from './probes'

/* Sends to the ports of a server, and hears what comes back. */

/** Milliseconds that a port is given: a SYN that is lost is sent again after 1 s. */
const LIMIT = Math.max(3_000, REFUSAL_KNOWN)
/** Milliseconds between two ports: no burst, which a network may stop. */
const PACE = 40
/** A datagram is sent again after so many milliseconds, once. */
const AGAIN = 1_000
/** Most routers among which a rejection is looked for: the networks of a house or a hotel have no more. */
const MAX_HOPS = 4
/** Milliseconds in which a rejection from so near comes back. */
const NEAR = 500

/** Tries ports, one after the other, and waits for what comes back. */
export async function tryAll(address: string, probes: readonly Probe[]): Promise<Shown[]> {
  const going: Promise<Shown>[] = []
  for (const probe of probes) {
    if (going.length > 0) await sleep(PACE)
    going.push(tryOne(address, probe))
  }
  return Promise.all(going)
}

async function tryOne(address: string, probe: Probe): Promise<Shown> {
  const { protocol, port, isHigh } = probe
  const began = performance.now()
  const saw = await (protocol === 'tcp'
    ? look(address, port, LIMIT)
    : lookByUdp(address, port, payloadFor(address, isHigh), LIMIT))
  return { ...probe, saw, ms: performance.now() - began }
}

/** Empty, as the touch of a knock is; elsewhere as long as a datagram knock and random, which is none: some networks send on no such thing. */
function payloadFor(address: string, isHigh: boolean): Uint8Array {
  return crypto.getRandomValues(new Uint8Array(isHigh ? 0 : DATAGRAM_LENGTHS[isIP(address) === 6 ? 1 : 0]))
}

/**
 * Sends a datagram, and waits for what comes back.
 * @param limit milliseconds
 * @param hops how many networks it may pass; none: as many as the system lets it
 * @returns `answered`, `silence`, or what {@link failureOf} says of somebody's ICMP message
 */
function lookByUdp(address: string, port: number, payload: Uint8Array, limit: number, hops?: number): Promise<string> {
  return new Promise((resolve) => {
    const socket = createSocket(isIP(address) === 6 ? 'udp6' : 'udp4')
    let isOver = false
    const end = (saw: string) => {
      if (isOver) return
      isOver = true
      clearTimeout(over)
      clearTimeout(again)
      socket.close()
      resolve(saw)
    }
    // What has come while this process was held up is heard before the next immediate.
    const over = setTimeout(() => setImmediate(end, 'silence'), limit)
    const send = () => socket.send(payload, (error) => error && end(failureOf(error)))
    const again = setTimeout(send, AGAIN)
    socket.on('error', (error) => end(failureOf(error))).on('message', () => end('answered'))
    socket.connect(port, address, (error?: Error) => {
      if (error) return end(failureOf(error))
      if (hops !== undefined) socket.setTTL(hops)
      send()
    })
  })
}

/**
 * How near somebody is who rejects a datagram: it is sent again so that it comes no further than a few networks.
 * @returns the number of routers between here and them at most; null: they are further away, or reject nothing
 */
export async function routersToRejection(address: string, port: number): Promise<number | null> {
  for (let hops = 1; hops <= MAX_HOPS; hops++)
    if (isRejection(await lookByUdp(address, port, new Uint8Array(), NEAR, hops))) return hops - 1
  return null
}
