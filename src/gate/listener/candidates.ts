import { QUORUM } from '../../protocol/codebook'
import { SEALED_LENGTHS } from '../../protocol/seal'
import type { Codebooks } from './codebooks'
import { PortFilter } from './port-filter'
import type { Touch } from './readings'
import { hasQuorum, isForgotten, type Session, UNTRACKED } from './session'
import type { Candidate, Table } from './table'
import type { Tally } from './tally'
import { unfollow } from './tracks'

/* docs/protocol.md, "Receiving" 3: from 32 distinct ports on, which keys and windows a session may be. */

/** Fewer distinct ports can't open: 4 rendezvous ports and 28 symbols. */
const MIN_PORTS = QUORUM + SEALED_LENGTHS[0]
/** Bytes of tallies at a time: with 10,000 keys those of 1,024 sessions. The others do without: one that had to be made for each tap would cost ten times as much. */
export const MAX_TALLIES = 16 * 2 ** 20

/** Finds the candidates of sessions, and gives them up where their rendezvous is over. */
export class Candidates {
  readonly #table: Table
  readonly #books: Codebooks
  /** For sessions that have no tally. */
  readonly #filter = new PortFilter()
  #tallies = 0

  constructor(table: Table, books: Codebooks) {
    this.#table = table
    this.#books = books
  }

  /** Of the tallies of all sessions, in bytes. */
  get tallies(): number {
    return this.#tallies
  }

  /**
   * Finds candidates with a quorum: all of them when the session reaches 32 ports, then those of each new port.
   * @param isNew whether the port is new to the session
   * @returns whether there are ports enough for any
   */
  find(session: Session, port: number, isNew: boolean): boolean {
    if (session.touches.size >= MIN_PORTS) {
      if (isNew || !session.counted) this.#count(session, port)
      return true
    }
    // What is heard from here on is not counted, so that everything must be when the ports are enough again.
    session.counted = false
    this.release(session)
    session.tracks = UNTRACKED
    return false
  }

  #count(session: Session, port: number): void {
    const { counted, tally } = session
    session.counted = true
    if (counted && tally && this.#table.isCurrent(tally)) {
      consider(session, this.#table.suspects(port, tally))
      return
    }
    const anew = this.#newTally(session)
    if (!anew) this.#filter.fill(session.touches.keys())
    // Where nothing was counted, what is counted now finds all; without a tally, each port finds its own.
    for (const touched of counted && !anew ? [port] : session.touches.keys())
      consider(session, anew ? this.#table.suspects(touched, anew) : this.#table.suspectsAmong(touched, this.#filter))
  }

  /** A tally in the place of the one that it may have; null where there is no room. */
  #newTally(session: Session): Tally | null {
    this.release(session)
    if (this.#tallies >= MAX_TALLIES || isForgotten(session)) return null
    session.tally = this.#table.newTally()
    this.#tallies += session.tally.size
    return session.tally
  }

  /** Takes back what was counted of a port, which the session has let go of. */
  lose(session: Session, port: number, touch: Touch | undefined): void {
    if (session.tally) this.#table.forget(port, session.tally)
    // Nearly always: without candidates, no pages are counted, and no rendezvous can be over.
    if (session.quorum.length === 0) return
    if (touch && !touch.said) unfollow(session, port, touch, this.#books)
    session.shaken ||= session.quorum.some(({ rendezvous }) => rendezvous.includes(port))
  }

  /** Gives up candidates whose rendezvous is over. @returns whether that was the last of them */
  prune(session: Session): boolean {
    if (!session.shaken) return false
    session.shaken = false
    session.quorum = session.quorum.filter((candidate) => hasQuorum(session, candidate))
    return session.quorum.length === 0
  }

  /** Gives back the room of a session's tally. */
  release(session: Session): void {
    this.#tallies -= session.tally?.size ?? 0
    session.tally = null
  }
}

/** Makes those suspects candidates that have their quorum and are none yet. */
function consider(session: Session, suspects: readonly Candidate[]): void {
  for (const candidate of suspects)
    if (!session.quorum.includes(candidate) && hasQuorum(session, candidate)) session.quorum = [candidate, ...session.quorum]
}
