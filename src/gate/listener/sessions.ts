import type { Name, Tap } from '../tap'
import type { Attempts } from './attempts'
import type { Candidates } from './candidates'
import { Half, type Place } from './half'
import { newSession, type Session, TAP_LIFE } from './session'
import type { Stray } from './strays'

/* docs/protocol.md, "Receiving" 3: who has touched what, and who is forgotten first. */

/** Distinct ports that a session keeps, the latest. */
export const MAX_PORTS = 256
/** Sessions and taps in all; each half (without and with a quorum) has one half of them. */
export const MAX_SESSIONS = 65_536
export const MAX_TAPS = 2 ** 20

/** The sessions of all sources, by name. */
export class Sessions {
  readonly #candidates: Candidates
  readonly #attempts: Attempts
  readonly #places = new Map<Name, Place<Session>>()
  /** Sessions without a quorum, and those with one. */
  readonly #without = new Half<Session>(MAX_SESSIONS / 2, MAX_TAPS / 2)
  readonly #with = new Half<Session>(MAX_SESSIONS / 2, MAX_TAPS / 2)

  /** Candidates and attempts go with the ports and sessions that they are of. */
  constructor(candidates: Candidates, attempts: Attempts) {
    this.#candidates = candidates
    this.#attempts = attempts
  }

  get size(): number {
    return this.#places.size
  }

  get taps(): number {
    return this.#without.taps + this.#with.taps
  }

  /** The place of a source that has said a port of the table, or undefined. */
  find(name: Name): Place<Session> | undefined {
    return this.#places.get(name)
  }

  /**
   * A place for a source, which has said its first port of the table.
   * @param strays what it has said before, oldest first
   * @param said whether the tap is explained
   * @returns its session, where there is more to be noted than its first tap
   */
  open(name: Name, tap: Tap, strays: readonly Stray[], said: boolean, at: number): Session | null {
    const place: Place<Session> = { name, tap, at, session: null, half: null, before: null, after: null }
    if (said || strays.length > 0) place.session = newSession(place)
    this.#places.set(name, place)
    this.#without.add(place)
    this.#relieve(this.#without)
    if (!place.session) return null
    for (const stray of strays) if (stray.at >= at - TAP_LIFE) this.touch(place.session, stray.port, stray.at)
    return place.session
  }

  /** The session of a place; one that has had one tap gets it now. */
  of(place: Place<Session>): Session {
    if (place.session) return place.session
    const session = newSession(place)
    session.touches.set(place.tap.port, { count: 1, last: place.at, number: session.heard++, said: false })
    place.session = session
    return session
  }

  /** Notes a touch. @returns when the port was touched before, in steady milliseconds; null where it is new to the session */
  touch(session: Session, port: number, at: number, said = false): number | null {
    const { touches } = session
    const { half } = session.place
    const before = touches.size
    for (const [old, { last }] of touches) {
      if (last >= at - TAP_LIFE) break
      this.#drop(session, old)
    }
    const touch = touches.get(port)
    // Deleted and set again, so that the map stays in order of the latest touch.
    touches.delete(port)
    touches.set(port, { count: touch?.said === said ? touch.count + 1 : 1, last: at, number: session.heard++, said })
    if (touches.size > MAX_PORTS) this.#drop(session, touches.keys().next().value as number)
    session.newest = at
    if (half) {
      half.taps += touches.size - before
      this.#relieve(half)
    }
    return touch === undefined ? null : touch.last
  }

  /** Lets go of a port that a session has touched. */
  untouch(session: Session, port: number): void {
    this.#drop(session, port)
    if (session.place.half) session.place.half.taps--
  }

  /** Has a session in the half where its quorum belongs, or the lack of one, as the youngest there. */
  settle(session: Session): void {
    const { place, quorum } = session
    const half = quorum.length > 0 ? this.#with : this.#without
    if (place.half === half) return
    place.half?.remove(place)
    half.add(place)
    this.#relieve(half)
  }

  /** Forgets sessions whose last tap is over. @param at now, in steady milliseconds @returns those that had a quorum */
  sweep(at: number): Session[] {
    const ended: Session[] = []
    for (const place of this.#places.values()) {
      const { session } = place
      if ((session?.newest ?? place.at) >= at - TAP_LIFE) continue
      if (session && session.quorum.length > 0) ended.push(session)
      this.#forget(place)
    }
    return ended
  }

  #drop(session: Session, port: number): void {
    const touch = session.touches.get(port)
    session.touches.delete(port)
    this.#candidates.lose(session, port, touch)
  }

  #relieve(half: Half<Session>): void {
    for (let surplus = half.surplus; surplus; surplus = half.surplus) this.#forget(surplus)
  }

  #forget(place: Place<Session>): void {
    this.#places.delete(place.name)
    place.half?.remove(place)
    if (!place.session) return
    this.#attempts.forget(place.session)
    this.#candidates.release(place.session)
  }
}
