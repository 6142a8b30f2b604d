import { setTimeout as sleep } from 'node:timers/promises'
import { composeDatagram } from '../protocol/datagram'
import { windowAt } from '../protocol/key'
import { compose } from '../protocol/knock'
import type { Opening } from '../protocol/opening'
import { checkClock } from '../system/time'
import { isOpening, Lookout } from './lookout'
import { passPause, sendAll } from './passes'
import type { Manner, Outgoing, Sending, Sent, Sequence } from './sending'
import { Touches } from './touches'
import { alone, type Beside, SILENT_AFTER, type WaitResult } from './wait-result'

/* The client, from end to end: a request is sealed and becomes ports, these are touched pass after pass, and the service is watched until it opens. */

/** Milliseconds from one attempt to reach the service to the next. */
const TRY_EVERY = 300

/** Those who are told how knocking until the doors are open goes. */
export interface Told {
  /** After each pass: its number from 1, and what it sent. */
  pass(pass: number, sequences: readonly Sequence[]): void
  /** As soon as a port is known to be open. */
  opened(port: number, opening: Opening): void
}

/**
 * Request → seal → ports, or a datagram.
 * @param wall Unix milliseconds, as this machine's clock has them
 * @throws {Fault} when the clock can't be true
 */
export function prepare(sending: Sending, wall: number): Sequence {
  checkClock(wall + sending.timeOffset * 1000, 'set the clock, or correct it with --time-offset')
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

function windowNow({ key, timeOffset }: Sending, wall: number): number {
  return windowAt(wall / 1000 + timeOffset, key.period)
}

/**
 * Ports → transport: sends a knock, the same ports in every pass, so that it stays the same knock.
 * @param told is called after each pass, with its number from 1
 * @returns what came back: see {@link Touches.seen}
 * @throws {Fault} where no packet can be sent
 */
export function knock(
  sending: Manner,
  address: string,
  sequence: Sent['sequence'],
  told: (pass: number) => void,
): Promise<ReadonlySet<string>> {
  return knockAll([{ sending, sequence }], address, told)
}

/** As {@link knock}, for several knocks: in each pass one after the other. */
export async function knockAll(
  outgoing: readonly Sent[],
  address: string,
  told: (pass: number) => void,
): Promise<ReadonlySet<string>> {
  const [{ sending }] = outgoing
  const touches = new Touches(address)
  try {
    for (let pass = 1; pass <= sending.passes; pass++) {
      if (pass > 1) await sleep(passPause(sending))
      await sendAll(outgoing, address, touches)
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
 * @throws {Fault} where no packet can be sent
 */
export async function knockAllUntilOpen(
  outgoing: readonly Outgoing[],
  address: string,
  limit: number,
  told: Told,
  { signal, silent }: Beside = alone(),
): Promise<WaitResult> {
  const began = performance.now()
  const end = began + limit
  const [{ sending }] = outgoing
  const isUnwatched = outgoing.some(({ watched }) => watched === null)
  const watched = outgoing.flatMap(({ watched }) => watched ?? [])
  const touches = new Touches(address)
  const lookout = new Lookout(address, watched, touches, (port, opening) => told.opened(port, opening))
  let [current, next] = [outgoing, performance.now()]
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
      const isDue = ({ watched }: Outgoing) => (isShown(watched) ? lookout.waitsFor(watched as number) : pass <= sending.passes)
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
