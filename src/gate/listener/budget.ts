import type { Key } from '../../protocol/key'
import type { Candidate } from './table'

/*
 * docs/protocol.md, "Receiving" 5: how much the listener may try. Whoever has heard a window's rendezvous ports, or its hints, can make it try
 * rubbish.
 */

/* Specification: decodes a second. */

/** Of knocks on ports: in all, and for one (key, window). */
export const MAX_DECODES = 2_000
export const MAX_CANDIDATE_DECODES = 500
/** Of datagrams, which take half the time and have a budget of their own: in all, and of one key. */
export const MAX_DATAGRAMS = 1_000
export const MAX_KEY_DATAGRAMS = 250
/** Of those on ports, in all and for one (key, window), what is kept for the first attempts of a source. */
export const FIRST_RESERVE = 1 / 2
/** Decodes of one source that are first attempts: a clean knock that names an IPv6 address needs two. */
export const FIRST_ATTEMPTS = 2
/** Attempts for windows that are over or far, which only tell of a wrong clock. */
export const MAX_FAR = 10

/* Implementation */

/** Budgets are handed out in slots of this many milliseconds, so that none waits long for the next. */
export const SLOT = 100
const SLOTS = 1_000 / SLOT
/** What a codebook costs: as much as so many decodes. */
const BOOK = 8

/** Why there is nothing left in this slot: for anybody, for what is no first attempt, or for this candidate. */
type Spent = 'all' | 'candidate'

/** What of one thing has been used in a slot. */
interface Used {
  ports: number
  /** Those of the ports that were no first attempts. */
  later: number
}

/** The work of a slot: what is left of it, and for whom. */
export class Budget {
  #slot = -1
  readonly #all: Used = { ports: 0, later: 0 }
  readonly #candidates = new Map<Candidate, Used>()
  /** Datagrams: in all, of each key, and of windows that are over. */
  #datagrams = 0
  readonly #keyDatagrams = new Map<Key, number>()
  #staleDatagrams = 0

  /** Hands out the budgets anew where a slot has begun. @param steady milliseconds on a monotonic clock @returns whether one has */
  turn(steady: number): boolean {
    const slot = Math.floor(steady / SLOT)
    if (slot === this.#slot) return false
    this.#slot = slot
    this.#all.ports = 0
    this.#all.later = 0
    this.#candidates.clear()
    this.#datagrams = 0
    this.#keyDatagrams.clear()
    this.#staleDatagrams = 0
    return true
  }

  /** Takes an attempt on ports. @param isFirst whether it is one of the first of its source @returns why there is none left, or null */
  takeAttempt(candidate: Candidate, isFirst: boolean): Spent | null {
    return this.#take(candidate, isFirst, 1)
  }

  /** Takes what it costs to compute a candidate's codebook, which a first attempt needs, too. @returns as {@link Budget.takeAttempt} */
  takeBook(candidate: Candidate): Spent | null {
    return this.#take(candidate, true, BOOK)
  }

  #take(candidate: Candidate, isFirst: boolean, cost: number): Spent | null {
    const used = this.#candidates.get(candidate) ?? { ports: 0, later: 0 }
    const most = MAX_DECODES / SLOTS
    const mostOfCandidate = MAX_CANDIDATE_DECODES / SLOTS
    if (this.#all.ports + cost > most || (!isFirst && this.#all.later + cost > most * FIRST_RESERVE)) return 'all'
    if (used.ports + cost > mostOfCandidate || (!isFirst && used.later + cost > mostOfCandidate * FIRST_RESERVE))
      return 'candidate'
    for (const one of [this.#all, used]) {
      one.ports += cost
      if (!isFirst) one.later += cost
    }
    this.#candidates.set(candidate, used)
    return null
  }

  /** Takes a datagram. @param isStale whether its window is over: everybody who has listened knows its hint @returns whether there was one left */
  takeDatagram({ key }: Candidate, isStale: boolean): boolean {
    const ofKey = this.#keyDatagrams.get(key) ?? 0
    if (this.#datagrams >= MAX_DATAGRAMS / SLOTS || ofKey >= MAX_KEY_DATAGRAMS / SLOTS) return false
    if (isStale && this.#staleDatagrams++ >= MAX_FAR / SLOTS) return false
    this.#datagrams++
    this.#keyDatagrams.set(key, ofKey + 1)
    return true
  }
}
