import { prefixOf } from '../tap'
import { type Budget, FIRST_ATTEMPTS } from './budget'
import { type Attempt, type Group, isForgotten, MAX_SESSION_DECODES, type Session, TAP_LIFE } from './session'

/* docs/protocol.md, "Receiving" 5: which session is tried next, as long as the budget lasts. */

/** Rows of waiting sessions: first attempts by their number, and then the others by the decodes that their group has had. */
const ROWS = FIRST_ATTEMPTS + MAX_SESSION_DECODES

/** Sessions with an attempt to make, by what their groups have had: first attempts come first, and of the others who has had fewest. */
export class Queue {
  readonly #budget: Budget
  readonly #waiting: Set<Session>[] = Array.from({ length: ROWS }, () => new Set())
  /** No row in front of this one has anybody in it. */
  #front = ROWS
  /** Sessions whose candidate has had its share of this slot. */
  readonly #parked = new Set<Session>()
  /** Whether the slot's budget ran out before the waiting sessions did. */
  #starved = false
  /** Groups of the IPv6 addresses that have sessions, and how many each has. */
  readonly #groups = new Map<string, { readonly group: Group; sessions: number }>()

  constructor(budget: Budget) {
    this.#budget = budget
  }

  /** Whether any session waits for the next slot's budget. */
  get busy(): boolean {
    return this.#starved || this.#parked.size > 0
  }

  /** Hands out the budgets anew where a slot has begun. @param at now, in steady milliseconds */
  turn(at: number): void {
    if (!this.#budget.turn(at)) return
    for (const session of this.#parked) this.enter(session)
    this.#parked.clear()
  }

  /** Has a session wait in the row where it belongs now. @param isFirst whether its next attempt is a first one */
  enter(session: Session, isFirst = session.held?.isFirst ?? false): void {
    this.leave(session)
    if (isForgotten(session) || session.decodes >= session.limit) return
    const group = this.#groupOf(session)
    if (session.newest - group.since > TAP_LIFE) Object.assign(group, { firsts: 0, decodes: 0, since: session.newest })
    session.row = rowOf(group, isFirst)
    this.#waiting[session.row].add(session)
    this.#front = Math.min(this.#front, session.row)
  }

  /** Has a session wait no more. */
  leave(session: Session): void {
    this.#parked.delete(session)
    this.#waiting[session.row].delete(session)
  }

  /** Whether a session waits for a first attempt. */
  waitsFirst(session: Session): boolean {
    const isParked = this.#parked.has(session) && session.held?.isFirst
    return isParked || (session.row < FIRST_ATTEMPTS && this.#waiting[session.row].has(session))
  }

  /** The next attempt that is to be made, paid for, with its session, which waits no more; null where there is none. */
  take(): { session: Session; attempt: Attempt } | null {
    this.#starved = false
    while (!this.#starved) {
      const session = this.#next()
      if (!session) break
      const attempt = this.#pay(session)
      if (attempt) return { session, attempt }
    }
    return null
  }

  #next(): Session | undefined {
    for (; this.#front < ROWS; this.#front++) {
      for (const session of this.#waiting[this.#front]) {
        this.#waiting[this.#front].delete(session)
        // Others of its group have been served since it came here.
        if (session.row < rowOf(this.#groupOf(session), session.row < FIRST_ATTEMPTS))
          this.enter(session, session.row < FIRST_ATTEMPTS)
        else return session
      }
    }
    return undefined
  }

  /** The next attempt of a session, paid for; null where there is none, or no budget for it. */
  #pay(session: Session): Attempt | null {
    const attempt = session.held ?? session.attempts?.next().value
    session.held = attempt ?? null
    const payer = attempt?.candidate ?? session.payer
    // All attempts have been made, and at least one of them was a decode.
    if (!payer) return null
    const group = this.#groupOf(session)
    const isFirst = (attempt?.isFirst ?? false) && group.firsts < FIRST_ATTEMPTS
    const spent = this.#budget.takeAttempt(payer, isFirst)
    if (spent === 'candidate') {
      this.#parked.add(session)
      return null
    }
    if (spent === 'all') {
      this.#starved = true
      this.enter(session)
      return null
    }
    session.decodes++
    if (attempt?.isFirst) session.tracks.get(attempt.candidate)?.attempted.add(attempt.k)
    if (isFirst) group.firsts++
    else group.decodes++
    session.payer = null
    session.held = null
    // To find out that there is nothing to decode was work all the same.
    return attempt ?? null
  }

  /** Counts anew what a session and its group have had, since a knock has been opened. */
  clear(session: Session): void {
    session.decodes = 0
    Object.assign(this.#groupOf(session), { firsts: 0, decodes: 0 })
  }

  /** Lets go of a session that is forgotten. */
  forget(session: Session): void {
    this.leave(session)
    const prefix = session.group && prefixOf(session.source)
    const there = prefix === null ? undefined : this.#groups.get(prefix)
    if (there && --there.sessions === 0) this.#groups.delete(prefix as string)
  }

  #groupOf(session: Session): Group {
    if (session.group) return session.group
    const prefix = prefixOf(session.source)
    const there = prefix === null ? undefined : this.#groups.get(prefix)
    const group = there?.group ?? { firsts: 0, decodes: 0, since: session.newest }
    if (prefix !== null) this.#groups.set(prefix, { group, sessions: 1 + (there?.sessions ?? 0) })
    session.group = group
    return group
  }
}

function rowOf({ firsts, decodes }: Group, isFirst: boolean): number {
  return isFirst && firsts < FIRST_ATTEMPTS ? firsts : Math.min(FIRST_ATTEMPTS + decodes, ROWS - 1)
}
