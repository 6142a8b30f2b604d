import type { Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { composeDatagram } from '../protocol/datagram'
import { type Key, windowAt } from '../protocol/key'
import { compose } from '../protocol/knock'
import type { Opening } from '../protocol/opening'
import type { Request } from '../protocol/request'
import { checkClock } from '../system/time'
import { Attempts } from './attempts'
import { ANSWERED, isOpening, Lookout, type Outcome } from './lookout'
import { Touches } from './touches'
import { touchTcp, touchUdp } from './transport'

/** The second pass comes this many milliseconds after the first, and up to as much again is spread at random (docs/protocol.md, "Sending"). */
const PASS_EARLIEST = 500
const PASS_SPREAD = 1_000
/**
 * Where nothing has opened by so many passes, each further pause is twice the one before, up to so many times the usual one: a network that takes
 * the knock for a port scan holds it off anew with each pass.
 */
const PASSES_AT_ONCE = 3
const LONGEST_FACTOR = 8
/** Milliseconds from one attempt to reach the service to the next. */
const TRY_EVERY = 300
/** Milliseconds without an answer after which the other family is worth a knock, too: three passes, or two of them, and a second SYN for each attempt. */
const SILENT_AFTER = 3_000
/**
 * Milliseconds from the start of one knock to that of the next, of one key and by one address: the first is decoded before the second
 * mixes its ports with those of it (docs/protocol.md, "Receiving", 4 and 7; test/replay/company.ts plays just this).
 */
const APART = 50
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
  /** The port to which the whole knock goes in one UDP datagram; none: it is said by ports. */
  readonly datagram?: number | undefined
  /** Milliseconds between two ports. */
  readonly pace: number
  readonly passes: number
  /** The local address from which alone it is sent, which fails where this machine does not have it; none: what the system chooses. */
  readonly from?: string | undefined
  /** Seconds by which this machine's clock is to be corrected. */
  readonly timeOffset: number
  readonly random: () => number
}

/** How the ports of a knock are touched, whatever they say. */
type Way = Pick<Sending, 'udp' | 'pace' | 'passes' | 'from' | 'random'>

/** One knock: the ports to touch, or the datagram to send, good for one window. */
export interface Sequence {
  readonly window: number
  readonly ports: number[]
  /** What a datagram carries to its one port. */
  readonly payload?: Uint8Array
  readonly request: Request
}

/**
 * Request → seal → ports, or a datagram.
 * @param wall Unix milliseconds, as this machine's clock has them
 * @throws {Fault} when the clock can't be true
 */
export function prepare(sending: Sending, wall: number): Sequence {
  checkClock(wall + sending.timeOffset * 1000, 'set it, or give --time-offset in seconds')
  const window = windowNow(sending, wall)
  const request = { ...sending.request, salt: Math.floor(sending.random() * 0x10000) }
  const { key, datagram, parity } = sending
  if (datagram !== undefined) return { window, ports: [datagram], payload: composeDatagram(key, window, request), request }
  return { window, ports: compose(key, window, request, parity), request }
}

/** The sequence as it is, or a new one where the window has turned. @param wall Unix milliseconds, as for {@link prepare} */
export function upToDate(sending: Sending, sequence: Sequence, wall: number): Sequence {
  return windowNow(sending, wall) === sequence.window ? sequence : prepare(sending, wall)
}

/** What of a knock is sent, and how. */
interface Said {
  readonly sending: Way
  readonly sequence: Pick<Sequence, 'ports' | 'payload'>
}

/** A knock that is sent beside others. */
export interface Going {
  readonly sending: Sending
  readonly sequence: Sequence
  /** The port whose service shows that it has opened; null: nothing shows it. */
  readonly watched: number | null
}

/** How knocking until the doors are open has ended. */
export interface Ended {
  /** How each watched port has. */
  readonly outcomes: ReadonlyMap<number, Outcome>
  /** Whether all of them are open. */
  readonly isOpen: boolean
  /** Whether it ended before its time because nothing could change any more. */
  readonly isFinal: boolean
  /** What came instead of an answer: see {@link look}. */
  readonly seen: ReadonlySet<string>
  /** What the touches of the knock came back with: see {@link Touches.seen}. */
  readonly touched: ReadonlySet<string>
}

/** What a knocking by one family has to do with one that may go on beside it by the other. */
export interface Beside {
  /** Ends it: the other one has ended. */
  readonly signal: AbortSignal
  /** Is called when nobody has answered for some seconds, and maybe again. */
  silent(): void
}

/** One that has none beside it. */
const alone = (): Beside => ({ signal: new AbortController().signal, silent: () => {} })

/** Those who are told how knocking until the doors are open goes. */
export interface Told {
  /** After each pass: its number from 1, and what it sent. */
  pass(pass: number, sequences: readonly Sequence[]): void
  /** As soon as a port is known to be open. */
  opened(port: number, opening: Opening): void
}

/**
 * Ports → transport: sends a knock, the same ports in every pass, so that it stays the same knock.
 * @param told is called after each pass, with its number from 1
 * @returns what came back: see {@link Touches.seen}
 */
export function knock(
  sending: Way,
  address: string,
  sequence: Pick<Sequence, 'ports' | 'payload'>,
  told: (pass: number) => void,
): Promise<ReadonlySet<string>> {
  return knockAll([{ sending, sequence }], address, told)
}

/** As {@link knock}, for several knocks: in each pass one after the other. */
export async function knockAll(
  going: readonly Said[],
  address: string,
  told: (pass: number) => void,
): Promise<ReadonlySet<string>> {
  const [{ sending }] = going
  const touches = new Touches(address)
  try {
    for (let pass = 1; pass <= sending.passes; pass++) {
      if (pass > 1) await sleep(passPause(sending))
      await sendAll(going, address, touches)
      told(pass)
    }
    return touches.seen
  } finally {
    touches.end()
  }
}

/**
 * Knocks until the services answer: pass after pass, and with a new knock where the window has turned. What has opened is not knocked for
 * again, nor what refuses for good. Where the touches themselves are accepted, no answer shows anything: then it is knocked as often as without
 * waiting.
 * @param limit milliseconds
 */
export async function knockAllUntilOpen(
  going: readonly Going[],
  address: string,
  limit: number,
  told: Told,
  { signal, silent }: Beside = alone(),
): Promise<Ended> {
  const began = performance.now()
  const end = began + limit
  const [{ sending }] = going
  const isUnwatched = going.some(({ watched }) => watched === null)
  const watched = going.flatMap(({ watched }) => watched ?? [])
  const touches = new Touches(address)
  const lookout = new Lookout(address, watched, touches, (port, opening) => told.opened(port, opening))
  let [current, next] = [going, performance.now()]
  const ended = (isFinal: boolean) => {
    const outcomes = lookout.end()
    return { outcomes, isOpen: [...outcomes.values()].every(isOpening), isFinal, seen: lookout.seen, touched: touches.seen }
  }
  signal.addEventListener('abort', () => {
    lookout.end()
    touches.end()
  })
  try {
    for (let pass = 1; next < end && !signal.aborted; pass++) {
      // Nothing shows whether the others have opened: they are sent as often as without --wait.
      const isShown = (watched: number | null) => watched !== null && !touches.areAccepted
      const isDue = ({ watched }: Going) => (isShown(watched) ? lookout.waitsFor(watched as number) : pass <= sending.passes)
      const isDone = () =>
        touches.areAccepted ? pass >= sending.passes : lookout.isOver && !(isUnwatched && pass < sending.passes)
      const isOver = () => signal.aborted || isDone()
      current = current.map((knock) => ({ ...knock, sequence: upToDate(knock.sending, knock.sequence, Date.now()) }))
      const due = current.filter(isDue)
      // In front of the first burst, which does not wait for it.
      if (pass === 1) lookout.begin()
      await sendAll(due, address, touches)
      lookout.touched()
      const sequences = due.map(({ sequence }) => sequence)
      if (due.length > 0) told.pass(pass, sequences)
      next = Math.min(performance.now() + passPause(sending, pass), end)
      while (performance.now() < next && !isOver()) {
        lookout.begin()
        await lookout.within(Math.min(TRY_EVERY, next - performance.now()))
        if (lookout.isSilent && performance.now() - began >= SILENT_AFTER) silent()
      }
      lookout.passed()
      if (isOver()) return ended(!touches.areAccepted)
    }
    return ended(false)
  } finally {
    lookout.end()
    touches.end()
  }
}

/** One pass of all knocks. */
async function sendAll(going: readonly Said[], address: string, touches: Touches): Promise<void> {
  for (const [n, { sending, sequence }] of going.entries()) {
    const gap = n === going.length - 1 ? null : sleep(APART)
    await Promise.all([send(sending, address, sequence, touches), gap])
  }
}

/**
 * Knocks until a connection to the service stands: the first that is accepted, so that a door for one connection will do.
 * @param limit milliseconds
 * @returns the connection (its directions end each by itself), or how it ended without one
 * @throws {Fault} where no packet can be sent
 */
export async function knockUntilConnected(
  sending: Sending,
  address: string,
  sequence: Sequence,
  port: number,
  limit: number,
  told: (pass: number) => void,
  { signal, silent }: Beside = alone(),
): Promise<Socket | Ended> {
  const began = performance.now()
  const end = began + limit
  const attempts = new Attempts(address, port)
  const touches = new Touches(address)
  signal.addEventListener('abort', () => {
    attempts.end()
    touches.end()
  })
  const ended = (outcome: Outcome, isFinal: boolean) => {
    const outcomes = new Map([[port, outcome]])
    return { outcomes, isOpen: false, isFinal, seen: attempts.seen, touched: touches.seen }
  }
  // The touches went before it, and who answers both has answered them before it.
  const isTheirs = (connection: Socket) => touches.areAccepted && connection.resetAndDestroy()
  let current = sequence
  let failure: unknown
  let next = performance.now()
  try {
    // By what is due, and not by the clock: a timer may be early, and another pass would go out when the time is up.
    for (let pass = 1; next < end && !signal.aborted; pass++) {
      const isNew = pass > 1 && pass % KNOCK_PASSES === 1
      // A door for one connection admits one attempt, so that one refusal is all that comes of a whole knock.
      if (isNew && attempts.refused) break
      current = isNew ? prepare(sending, Date.now()) : upToDate(sending, current, Date.now())
      send(sending, address, current, touches).catch((error) => {
        failure = error
      })
      const sent = performance.now() + sending.pace * (current.ports.length - 1)
      next = Math.min(sent + passPause(sending, pass), end)
      for (let at = sent; at < next && !signal.aborted; at = following(at, sent)) {
        const connection = await attempts.within(at - performance.now())
        if (at === sent) told(pass)
        if (connection) return isTheirs(connection) ? ended(ANSWERED, false) : connection
        if (failure) throw failure
        if (!attempts.refused && !touches.areAnswered && performance.now() - began >= SILENT_AFTER) silent()
        attempts.begin()
      }
      // The next pass, or the end, comes when it is due, and not as soon as no attempt is due before it.
      const late = await attempts.within(next - performance.now())
      if (late) return isTheirs(late) ? ended(ANSWERED, false) : late
    }
    return ended(attempts.refused ? 'refused' : 'silence', next < end)
  } finally {
    attempts.end()
    touches.end()
  }
}

/** When the next attempt to connect is due: after a time in which nothing could be done, not all that were due meanwhile at once. */
function following(at: number, sent: number): number {
  const pause = Math.min(Math.max((at - sent) * PAUSE_PART, SHORTEST_PAUSE), LONGEST_PAUSE)
  return Math.max(at + pause, performance.now() + SHORTEST_PAUSE)
}

function windowNow({ key, timeOffset }: Sending, wall: number): number {
  return windowAt(wall / 1000 + timeOffset, key.period)
}

function send({ udp, pace, from }: Way, address: string, { ports, payload }: Said['sequence'], touches: Touches): Promise<void> {
  return udp || payload ? touchUdp(address, ports, pace, touches, from, payload) : touchTcp(address, ports, pace, touches, from)
}

/** Milliseconds from a pass to the next. @param pass its number from 1; without it: the usual pause */
export function passPause({ random }: Pick<Way, 'random'>, pass = 1): number {
  return (PASS_EARLIEST + PASS_SPREAD * random()) * Math.min(2 ** Math.max(pass - PASSES_AT_ONCE, 0), LONGEST_FACTOR)
}
