import type { Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { Attempts } from './host/attempts'
import { Fault } from './host/fault'
import { checkClock } from './host/time'
import { answers, touchTcp, touchUdp } from './host/transport'
import { type Key, windowAt } from './protocol/key'
import { compose } from './protocol/knock'
import type { Request } from './protocol/request'

/** The second pass comes this many milliseconds after the first, and up to as much again is spread at random (docs/protocol.md, "Sending"). */
const PASS_EARLIEST = 500
const PASS_SPREAD = 1_000
/** One try to reach the service, and the pause after it, in milliseconds. */
const TRY = 250
const TRY_PAUSE = 50
/**
 * A knock for a connection is said this often. If none stands by then, the one that it admits may have been lost with its packets, and a new
 * knock asks for another.
 */
const KNOCK_PASSES = 3
/** The pause between two attempts to connect, in milliseconds: a part of the time since the pass, since a door opens soon or not at all. */
const SHORTEST_PAUSE = 10
const LONGEST_PAUSE = 250
const PAUSE_PART = 0.25

/** How a knock is sent. */
export interface Sending {
  readonly key: Key
  /** Everything but the salt, which each knock gets anew. */
  readonly request: Omit<Request, 'salt'>
  readonly parity: number | undefined
  readonly udp: boolean
  /** Milliseconds between two ports. */
  readonly pace: number
  readonly passes: number
  /** Seconds by which this machine's clock is to be corrected. */
  readonly timeOffset: number
  readonly random: () => number
}

/** One knock: the ports to touch, good for one window. */
export interface Sequence {
  readonly window: number
  readonly ports: number[]
  readonly request: Request
}

/**
 * Request → seal → ports.
 * @param wall Unix milliseconds, as this machine's clock has them
 * @throws {Fault} when the clock can't be true
 */
export function prepare(sending: Sending, wall: number): Sequence {
  checkClock(wall + sending.timeOffset * 1000, 'set it, or give --time-offset in seconds')
  const window = windowNow(sending, wall)
  const request = { ...sending.request, salt: Math.floor(sending.random() * 0x10000) }
  return { window, ports: compose(sending.key, window, request, sending.parity), request }
}

/** The sequence as it is, or a new one where the window has turned. @param wall Unix milliseconds, as for {@link prepare} */
export function upToDate(sending: Sending, sequence: Sequence, wall: number): Sequence {
  return windowNow(sending, wall) === sequence.window ? sequence : prepare(sending, wall)
}

/**
 * Ports → transport: sends a knock, the same ports in every pass, so that it stays the same knock.
 * @param told is called after each pass, with its number from 1
 */
export async function knock(sending: Sending, address: string, sequence: Sequence, told: (pass: number) => void): Promise<void> {
  for (let pass = 1; pass <= sending.passes; pass++) {
    if (pass > 1) await sleep(passPause(sending))
    await send(sending, address, sequence)
    told(pass)
  }
}

/**
 * Knocks until the service answers: pass after pass, and with a new knock where the window has turned.
 * @param limit milliseconds
 * @returns whether it answered in time
 */
export async function knockUntilOpen(
  sending: Sending,
  address: string,
  sequence: Sequence,
  port: number,
  limit: number,
  told: (pass: number) => void,
): Promise<boolean> {
  const start = performance.now()
  const left = () => limit - (performance.now() - start)
  let current = sequence
  for (let pass = 1; left() > 0; pass++) {
    current = upToDate(sending, current, Date.now())
    await send(sending, address, current)
    told(pass)
    const next = performance.now() + passPause(sending)
    while (performance.now() < next && left() > 0) {
      if (await answers(address, port, Math.min(TRY, Math.max(left(), 1)))) return true
      await sleep(TRY_PAUSE)
    }
  }
  return false
}

/**
 * Knocks until a connection to the service stands: the first that is accepted, so that a door for one connection will do.
 * @param limit milliseconds
 * @returns the connection (its directions end each by itself), or null where none stood in time
 * @throws {Fault} where no packet can be sent, or a whole knock has come to refused connections only
 */
export async function knockUntilConnected(
  sending: Sending,
  address: string,
  sequence: Sequence,
  port: number,
  limit: number,
  told: (pass: number) => void,
): Promise<Socket | null> {
  const end = performance.now() + limit
  const attempts = new Attempts(address, port)
  let current = sequence
  let failure: unknown
  try {
    for (let pass = 1; performance.now() < end; pass++) {
      const isNew = pass > 1 && pass % KNOCK_PASSES === 1
      if (isNew && attempts.refused)
        throw new Fault(
          `${address} port ${port}: the connection is refused: is the service running? (Or, if the firewall rejects: is the knock granted?)`,
        )
      current = isNew ? prepare(sending, Date.now()) : upToDate(sending, current, Date.now())
      send(sending, address, current).catch((error) => {
        failure = error
      })
      const sent = performance.now() + sending.pace * (current.ports.length - 1)
      const next = Math.min(sent + passPause(sending), end)
      for (let at = sent; at < next; at += Math.min(Math.max((at - sent) * PAUSE_PART, SHORTEST_PAUSE), LONGEST_PAUSE)) {
        const connection = await attempts.within(at - performance.now())
        if (at === sent) told(pass)
        if (connection) return connection
        if (failure) throw failure
        attempts.begin()
      }
    }
    return await attempts.within(0)
  } finally {
    attempts.end()
  }
}

function windowNow({ key, timeOffset }: Sending, wall: number): number {
  return windowAt(wall / 1000 + timeOffset, key.period)
}

function send({ udp, pace }: Sending, address: string, { ports }: Sequence): Promise<void> {
  return udp ? touchUdp(address, ports, pace) : touchTcp(address, ports, pace)
}

const passPause = ({ random }: Sending): number => PASS_EARLIEST + PASS_SPREAD * random()
