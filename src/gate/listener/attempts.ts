import { SEALED_LENGTHS } from '../../protocol/seal'
import type { Now } from '../clock'
import { arrivalOf } from '../knock'
import type { Codebooks } from './codebooks'
import type { Queue } from './queue'
import { eagerReadings, readings } from './readings'
import { type Attempt, hasQuorum, MAX_SESSION_DECODES, PATIENCE, type Session, TAP_LIFE, UNTRACKED } from './session'
import type { Candidate, Table } from './table'
import { isBurst, MAX_TRACKS, type Ready, readyFor, trackOf } from './tracks'

/* docs/protocol.md, "Receiving" 4: when a session is tried, and in which ways. */

/**
 * Of a session's decodes, what is kept for thorough attempts that a rendezvous port has asked for: a scan from the knock's own address must
 * not use up by attempts that nothing new speaks for what the next pass needs. Each takes half of what is left, so that it serves for six.
 */
const PASS_RESERVE = 64
/** Readings of one attempt that settle ties by chance. */
const GUESSES = 64

/** Has sessions try what is worth it: at once where a burst is clear, and thoroughly when it has had time to arrive. */
export class Attempts {
  readonly #skew: number
  readonly #random: () => number
  readonly #table: Table
  readonly #books: Codebooks
  readonly #queue: Queue
  /** When sessions get a thorough attempt: their burst has had time to arrive then. In steady milliseconds. */
  readonly #patient = new Map<Session, number>()

  /** @param random numbers from 0 to 1, which settle ties */
  constructor(skew: number, random: () => number, table: Table, books: Codebooks, queue: Queue) {
    this.#skew = skew
    this.#random = random
    this.#table = table
    this.#books = books
    this.#queue = queue
  }

  /** Whether a burst is given time to arrive. */
  get busy(): boolean {
    return this.#patient.size > 0
  }

  /** A burst is tried as soon as it has symbols enough; what can't be settled that way is tried thoroughly when it has had time to arrive. */
  schedule(session: Session, port: number, now: Now): void {
    // Whoever forges an address could wear its session out once, and keep it so with a tap a second.
    if (session.newest - session.since > TAP_LIFE) this.renew(session)
    this.#queue.turn(now.steady)
    this.#tryAtOnce(session, now)
    let thoroughAt = this.#patient.get(session) ?? now.steady + session.patience
    for (const candidate of session.quorum) {
      if (!candidate.rendezvous.includes(port)) continue
      // The sign of a further pass, which makes a new attempt worth while, and of the likeliest candidate.
      session.quorum = [candidate, ...session.quorum.filter((other) => other !== candidate)]
      session.patience = PATIENCE
      thoroughAt = Math.min(thoroughAt, now.steady + PATIENCE)
    }
    this.#patient.set(session, thoroughAt)
  }

  #tryAtOnce(session: Session, now: Now): void {
    const ready: Ready[] = []
    for (let i = 0; i < session.quorum.length && i < MAX_TRACKS; i++) {
      const candidate = session.quorum[i]
      if (!session.tracks.has(candidate) && !this.#isWanted(session, candidate, now)) continue
      // Before its pages are counted: a scan comes across many a rendezvous, and each would cost a codebook.
      if (!isBurst(session, candidate)) continue
      const track = trackOf(session, candidate, this.#books)
      if (track) ready.push(...readyFor(candidate, track))
    }
    // First attempts first: they have a share of the budget to themselves. One that still waits will see this tap, too.
    ready.sort((a, b) => Number(b.isFirst) - Number(a.isFirst) || a.k - b.k)
    const isWorth = ready.length > 0 && (ready[0].isFirst || !this.#queue.waitsFirst(session))
    if (!isWorth || session.decodes >= MAX_SESSION_DECODES / 2) return
    const candidates = ready.map(({ candidate }) => candidate).filter((candidate) => this.#isWanted(session, candidate, now))
    this.#enqueue(session, candidates, this.#eager(session, ready), MAX_SESSION_DECODES / 2, ready[0].isFirst)
  }

  /** Has bursts tried thoroughly that have had time to arrive. */
  due(now: Now): void {
    for (const [session, thoroughAt] of this.#patient) {
      if (thoroughAt > now.steady) continue
      this.#patient.delete(session)
      if (this.#queue.waitsFirst(session)) this.#patient.set(session, now.steady + PATIENCE)
      else this.#tryThoroughly(session, now)
    }
  }

  #tryThoroughly(session: Session, now: Now): void {
    const reserve = session.patience === PATIENCE ? 0 : PASS_RESERVE
    session.patience *= 2
    const worth = this.#wanted(session, now).filter((candidate) => {
      const track = trackOf(session, candidate, this.#books)
      return track !== null && track.wide.filled >= SEALED_LENGTHS[0]
    })
    // At most half of what is left, so that something is always left for the second pass of an honest knock.
    const left = Math.max(0, MAX_SESSION_DECODES - reserve - session.decodes)
    const guesses = Math.min(GUESSES, Math.floor(left / 2 / session.quorum.length))
    this.#enqueue(session, worth, this.of(session, worth, guesses), session.decodes + Math.ceil(left / 2))
  }

  /** What is left of a session when a knock has been opened may hold another one of the same source. */
  goOn(session: Session, now: Now): void {
    this.#queue.clear(session)
    session.tracks = UNTRACKED
    const wanted = this.#wanted(session, now)
    this.#enqueue(session, wanted, this.of(session, wanted, 0), MAX_SESSION_DECODES / 2)
    session.payer = null
  }

  /** Has a session start anew, with no attempt to make and none made. */
  renew(session: Session): void {
    this.#queue.leave(session)
    this.#patient.delete(session)
    session.decodes = 0
    session.since = session.newest
    session.patience = PATIENCE
    session.tracks = UNTRACKED
  }

  /** Lets go of a session that is forgotten. */
  forget(session: Session): void {
    this.#patient.delete(session)
    this.#queue.forget(session)
  }

  /** The readings of a session under one candidate's codebook after the other. @param guesses as {@link readings} takes it */
  *of(session: Session, candidates: Iterable<Candidate>, guesses: number): Generator<Attempt, void> {
    for (const candidate of candidates) {
      const book = this.#bookFor(session, candidate)
      if (!book) continue
      const { touches, newest } = session
      for (const reading of readings(touches, newest, book, guesses, this.#random))
        yield { ...reading, candidate, isFirst: false }
    }
  }

  *#eager(session: Session, ready: readonly Ready[]): Generator<Attempt, void> {
    for (const { candidate, k, isFirst } of ready) {
      const book = this.#bookFor(session, candidate)
      if (!book) continue
      for (const reading of eagerReadings(session.touches, session.newest, book, k)) yield { ...reading, candidate, isFirst }
    }
  }

  /** The codebook of a candidate that has its quorum; null where it has not, or where it can't be afforded now. */
  #bookFor(session: Session, candidate: Candidate) {
    return this.#table.has(candidate.key) && hasQuorum(session, candidate) ? this.#books.use(candidate) : null
  }

  /** @param isFirst whether the first of them is a first attempt */
  #enqueue(
    session: Session,
    candidates: readonly Candidate[],
    attempts: Iterator<Attempt>,
    limit: number,
    isFirst = false,
  ): void {
    if (candidates.length === 0) return
    session.attempts = attempts
    session.held = null
    session.payer = candidates[0]
    session.limit = limit
    this.#queue.enter(session, isFirst)
  }

  /** Candidates that are worth an attempt. Future ones, too: what is not written down before its window comes could be played by somebody else then. */
  #wanted(session: Session, now: Now): Candidate[] {
    return session.quorum.filter((candidate) => this.#isWanted(session, candidate, now))
  }

  #isWanted(session: Session, candidate: Candidate, now: Now): boolean {
    return arrivalOf(candidate, session.newest, now, this.#skew) !== 'stale'
  }
}
