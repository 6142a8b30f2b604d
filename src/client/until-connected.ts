import type { Socket } from 'node:net'
import { Attempts } from './attempts'
import { prepare, upToDate } from './client'
import { ANSWERED, type Outcome } from './lookout'
import { passPause, send } from './passes'
import type { Sending, Sequence } from './sending'
import { Touches } from './touches'
import { alone, type Beside, SILENT_AFTER, type WaitResult } from './wait-result'

/* A knock for one connection, which is made meanwhile: who looks first whether the door is open has used it up. */

/**
 * A knock for a connection is said this often. If none stands by then, the one that it admits may have been lost with its packets, and a new
 * knock asks for another.
 */
const KNOCK_PASSES = 3
/** The pause between two attempts to connect, in milliseconds: a part of the time since the pass, since a door opens soon or not at all. */
const SHORTEST_PAUSE = 10
const LONGEST_PAUSE = 250
const PAUSE_PART = 0.25

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
): Promise<Socket | WaitResult> {
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
      send({ sending, sequence: current }, address, touches).catch((error) => {
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
