import { setTimeout as sleep } from 'node:timers/promises'
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

/** How the ports of a knock are touched, whatever they say. */
type Way = Pick<Sending, 'udp' | 'pace' | 'passes' | 'random'>

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
export async function knock(
  sending: Way,
  address: string,
  sequence: Pick<Sequence, 'ports'>,
  told: (pass: number) => void,
): Promise<void> {
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

function windowNow({ key, timeOffset }: Sending, wall: number): number {
  return windowAt(wall / 1000 + timeOffset, key.period)
}

function send({ udp, pace }: Way, address: string, { ports }: Pick<Sequence, 'ports'>): Promise<void> {
  return udp ? touchUdp(address, ports, pace) : touchTcp(address, ports, pace)
}

const passPause = ({ random }: Way): number => PASS_EARLIEST + PASS_SPREAD * random()
