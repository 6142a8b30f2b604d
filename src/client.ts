import type { Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { Attempts } from './host/attempts'
import { Fault } from './host/fault'
import { checkClock } from './host/time'
import { look, touchTcp, touchUdp } from './host/transport'
import { composeDatagram } from './protocol/datagram'
import { type Key, windowAt } from './protocol/key'
import { compose } from './protocol/knock'
import type { Request } from './protocol/request'

/** The second pass comes this many milliseconds after the first, and up to as much again is spread at random (docs/protocol.md, "Sending"). */
const PASS_EARLIEST = 500
const PASS_SPREAD = 1_000
/** One try to reach the service, and the pause after it, in milliseconds. */
const TRY = 250
const TRY_PAUSE = 50
/** The try in front of a knock, likewise: no longer than a knock takes. */
const AHEAD = 50
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
  /** Seconds by which this machine's clock is to be corrected. */
  readonly timeOffset: number
  readonly random: () => number
}

/** How the ports of a knock are touched, whatever they say. */
type Way = Pick<Sending, 'udp' | 'pace' | 'passes' | 'random'>

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
  /** The watched ports that have not answered. */
  readonly shut: readonly number[]
  /** Those that answered before the first knock could have opened them. */
  readonly before: ReadonlySet<number>
  /** What came instead of an answer: see {@link look}. */
  readonly seen: ReadonlySet<string>
}

/**
 * Ports → transport: sends a knock, the same ports in every pass, so that it stays the same knock.
 * @param told is called after each pass, with its number from 1
 */
export function knock(
  sending: Way,
  address: string,
  sequence: Pick<Sequence, 'ports' | 'payload'>,
  told: (pass: number) => void,
): Promise<void> {
  return knockAll([{ sending, sequence }], address, told)
}

/** As {@link knock}, for several knocks: in each pass one after the other. */
export async function knockAll(going: readonly Said[], address: string, told: (pass: number) => void): Promise<void> {
  const [{ sending }] = going
  for (let pass = 1; pass <= sending.passes; pass++) {
    if (pass > 1) await sleep(passPause(sending))
    await sendAll(going, address)
    told(pass)
  }
}

/**
 * Knocks until the services answer: pass after pass, and with a new knock where the window has turned. What has opened is not knocked for
 * again.
 * @param limit milliseconds
 */
export async function knockAllUntilOpen(
  going: readonly Going[],
  address: string,
  limit: number,
  told: (pass: number) => void,
): Promise<Ended> {
  const start = performance.now()
  const left = () => limit - (performance.now() - start)
  const shut = new Set(going.flatMap(({ watched }) => watched ?? []))
  const seen = new Set<string>()
  const before = new Set<number>()
  const [{ sending }] = going
  let current = going
  const tryAll = async (time: number, opened?: Set<number>) => {
    const tries = [...shut].map(async (port) => {
      const saw = await look(address, port, Math.min(time, Math.max(left(), 1)))
      if (saw !== 'open') return void seen.add(saw)
      shut.delete(port)
      opened?.add(port)
    })
    await Promise.all(tries)
  }
  for (let pass = 1; left() > 0; pass++) {
    // Nothing shows whether the others have opened: they are sent as often as without --wait.
    const due = (knock: Going) => (knock.watched === null ? pass <= sending.passes : shut.has(knock.watched))
    current = current.map((knock) => ({ ...knock, sequence: upToDate(knock.sending, knock.sequence, Date.now()) }))
    // In front of the first burst, and over with it: after it a router that has no way says so only now and then (ICMP is limited).
    if (pass === 1) void tryAll(AHEAD, before)
    await sendAll(current.filter(due), address)
    told(pass)
    const isOver = () => shut.size === 0 && (pass >= sending.passes || current.every(({ watched }) => watched !== null))
    const next = performance.now() + passPause(sending)
    while (performance.now() < next && left() > 0) {
      await tryAll(TRY)
      if (isOver()) return { shut: [], before, seen }
      await sleep(TRY_PAUSE)
    }
  }
  return { shut: [...shut], before, seen }
}

/** One pass of all knocks. */
async function sendAll(going: readonly Said[], address: string): Promise<void> {
  for (const [n, { sending, sequence }] of going.entries()) {
    const gap = n === going.length - 1 ? null : sleep(APART)
    await Promise.all([send(sending, address, sequence), gap])
  }
}

/**
 * Knocks until a connection to the service stands: the first that is accepted, so that a door for one connection will do.
 * @param limit milliseconds
 * @returns the connection (its directions end each by itself), or null where none stood in time; and what came instead, as {@link Ended} has it
 * @throws {Fault} where no packet can be sent, or a whole knock has come to refused connections only
 */
export async function knockUntilConnected(
  sending: Sending,
  address: string,
  sequence: Sequence,
  port: number,
  limit: number,
  told: (pass: number) => void,
): Promise<{ readonly connection: Socket | null; readonly seen: ReadonlySet<string> }> {
  const end = performance.now() + limit
  const attempts = new Attempts(address, port)
  let current = sequence
  let failure: unknown
  let next = performance.now()
  try {
    // By what is due, and not by the clock: a timer may be early, and another pass would go out when the time is up.
    for (let pass = 1; next < end; pass++) {
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
      next = Math.min(sent + passPause(sending), end)
      for (let at = sent; at < next; at += Math.min(Math.max((at - sent) * PAUSE_PART, SHORTEST_PAUSE), LONGEST_PAUSE)) {
        const connection = await attempts.within(at - performance.now())
        if (at === sent) told(pass)
        if (connection) return { connection, seen: attempts.seen }
        if (failure) throw failure
        attempts.begin()
      }
      // The next pass, or the end, comes when it is due, and not as soon as no attempt is due before it.
      const late = await attempts.within(next - performance.now())
      if (late) return { connection: late, seen: attempts.seen }
    }
    return { connection: null, seen: attempts.seen }
  } finally {
    attempts.end()
  }
}

function windowNow({ key, timeOffset }: Sending, wall: number): number {
  return windowAt(wall / 1000 + timeOffset, key.period)
}

function send({ udp, pace }: Way, address: string, { ports, payload }: Said['sequence']): Promise<void> {
  return udp || payload ? touchUdp(address, ports, pace, payload) : touchTcp(address, ports, pace)
}

const passPause = ({ random }: Way): number => PASS_EARLIEST + PASS_SPREAD * random()
