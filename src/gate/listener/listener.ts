import type { Key } from '../../protocol/key'
import type { Now } from '../clock'
import type { Knock } from '../knock'
import { Names, type Tap } from '../tap'
import { Attempts } from './attempts'
import { Budget, SLOT } from './budget'
import { Candidates } from './candidates'
import { Codebooks } from './codebooks'
import { Datagrams } from './datagrams'
import { Decoder } from './decoder'
import { Explained } from './explained'
import { Far } from './far'
import { Queue } from './queue'
import { isForgotten, type Session } from './session'
import { Sessions } from './sessions'
import { Strays } from './strays'
import { Table } from './table'
import { follow } from './tracks'

/*
 * docs/protocol.md, "Receiving": a tap's way through its rules. Each is in a file of its own:
 *
 *   1 table.ts   2 strays.ts   3 sessions.ts, candidates.ts   4 attempts.ts (when: tracks.ts; how: readings.ts), decoder.ts
 *   5 budget.ts, queue.ts, codebooks.ts   7 explained.ts   8 far.ts
 *
 * 6, what becomes of an opened knock, is daemon/daemon.ts.
 */

/** What nearly every tap opens. */
const NONE: Knock[] = []
/** Ended sessions are looked for this often, in milliseconds. */
const SWEEP = 1_000
/** Candidates that are computed in one slice: a few milliseconds. */
const SLICE = 128

/**
 * Turns taps into opened knocks. It does no I/O and never looks at a clock; whatever strangers send, its memory and its work per tap are
 * bounded, by the constants of the files that it is made of.
 */
export class Listener {
  readonly #names: Names
  readonly #table: Table
  readonly #strays = new Strays()
  readonly #books: Codebooks
  readonly #queue: Queue
  readonly #candidates: Candidates
  readonly #attempts: Attempts
  readonly #sessions: Sessions
  readonly #explained: Explained
  readonly #decoder: Decoder
  readonly #far: Far
  readonly #datagrams: Datagrams
  /** Whether the table has all that it should have. */
  #complete = true
  #swept = 0

  /**
   * @param random numbers from 0 to 1, for settling ties, and for names; no stranger can foresee them
   * @param datagrams whether datagram knocks are heard, too
   */
  constructor(skew: number, random: () => number, datagrams = false) {
    const budget = new Budget()
    this.#names = new Names(random)
    this.#table = new Table(skew, datagrams)
    this.#books = new Codebooks(budget)
    this.#queue = new Queue(budget)
    this.#candidates = new Candidates(this.#table, this.#books)
    this.#attempts = new Attempts(skew, random, this.#table, this.#books, this.#queue)
    this.#sessions = new Sessions(this.#candidates, this.#attempts)
    this.#explained = new Explained(skew)
    this.#decoder = new Decoder(skew, this.#table, this.#books, this.#sessions, this.#explained)
    this.#far = new Far(budget, this.#attempts, this.#decoder, this.#explained)
    this.#datagrams = new Datagrams(skew, this.#table, budget, this.#queue)
  }

  /** Sets the keys that are listened for; keys that stay (the same objects) keep their place. {@link Listener.prepare} does the work. */
  setKeys(keys: readonly Key[]): void {
    this.#table.setKeys(keys)
  }

  /** Computes a slice of the table; returns whether it is complete. */
  prepare(now: Now): boolean {
    this.#complete = this.#table.sync(now.wall, SLICE)
    return this.#complete
  }

  /** Takes one tap; returns the knocks that it completed, nearly always none. */
  hear(tap: Tap, now: Now): Knock[] {
    if (tap.payload) return this.#datagrams.hear(tap, tap.payload, now)
    const name = this.#names.of(tap)
    // A port may be a symbol of one knock and a rendezvous of another, whose key's holder did not choose it: that it stays, whoever has said it.
    const said = this.#explained.has(name, tap.port, now)
    const known = this.#table.knows(tap.port)
    if (said && !known) return NONE
    const place = this.#sessions.find(name)
    if (!place && !known) {
      this.#strays.add(name, tap.port, now.steady)
      return NONE
    }
    const session = place ? this.#sessions.of(place) : this.#sessions.open(name, tap, this.#strays.take(name), said, now.steady)
    return session ? this.#touch(session, tap.port, said, now) : NONE
  }

  #touch(session: Session, port: number, said: boolean, now: Now): Knock[] {
    const before = this.#sessions.touch(session, port, now.steady, said)
    if (isForgotten(session)) return NONE
    // Before anything else: who keeps a session just alive must not keep it worn out.
    if (this.#candidates.prune(session)) {
      // However long its source goes on, with the last candidate a session starts anew.
      this.#attempts.renew(session)
      this.#sessions.settle(session)
    }
    if (!this.#candidates.find(session, port, before === null)) return NONE
    this.#sessions.settle(session)
    if (session.quorum.length === 0) return NONE
    if (!said) follow(session, port, before, this.#books)
    this.#attempts.schedule(session, port, now)
    return this.#serve(now)
  }

  /** Makes waiting attempts, one decode at a time, as long as the budget lasts. */
  #serve(now: Now): Knock[] {
    this.#queue.turn(now.steady)
    const knocks: Knock[] = []
    for (let next = this.#queue.take(); next; next = this.#queue.take()) {
      const knock = this.#decoder.try(next.session, next.attempt, now)
      if (knock) {
        knocks.push(knock)
        this.#attempts.goOn(next.session, now)
      } else this.#queue.enter(next.session)
    }
    return knocks
  }

  /** What time brings: the next windows, attempts that were waiting, sessions that have ended. Call it every few ten milliseconds. */
  due(now: Now): Knock[] {
    this.prepare(now)
    this.#queue.turn(now.steady)
    this.#attempts.due(now)
    if (now.steady - this.#swept >= SWEEP) this.#sweep(now.steady)
    return [...this.#serve(now), ...this.#far.tryNext(now)]
  }

  /** There will be no more taps: every session has ended. Call it when nothing is {@link Listener.busy} any more. */
  end(now: Now): Knock[] {
    this.#sweep(Infinity)
    const knocks: Knock[] = []
    // As if time passed, so that there is a budget for all of them.
    for (let passed = 0; this.#far.size > 0; passed += SLOT) {
      const then = { wall: now.wall + passed, steady: now.steady + passed }
      this.#queue.turn(then.steady)
      knocks.push(...this.#far.tryNext(then))
    }
    return knocks
  }

  /** Forgets sessions that have ended. @param at now, in steady milliseconds */
  #sweep(at: number): void {
    this.#swept = at
    for (const session of this.#sessions.sweep(at)) this.#far.add(session)
  }

  /** Whether a tap only says again what a knock from there has said: the rest of it, a second pass, a browser's SYNs. */
  repeats(tap: Tap, now: Now): boolean {
    return this.#explained.repeats(this.#names.of(tap), tap.port, now)
  }

  /** Whether something waits for a budget, for a burst to end or for its place in the table, so that {@link Listener.due} is wanted soon. */
  get busy(): boolean {
    return !this.#complete || this.#queue.busy || this.#attempts.busy || this.#far.size > 0
  }

  /** Whether no source is remembered, so that nothing of one can end. */
  get isEmpty(): boolean {
    return this.#sessions.size + this.#far.size === 0
  }

  /** Whether clients with a wrong clock can be named (not with more than some 350 keys). */
  get namesWrongClocks(): boolean {
    return this.#table.holdsFar
  }

  /** What is held right now, for the log and for tests of the bounds. */
  get sizes(): { sessions: number; taps: number; strays: number; explained: number; codebooks: number; tallies: number } {
    return {
      sessions: this.#sessions.size,
      taps: this.#sessions.taps,
      strays: this.#strays.size,
      explained: this.#explained.size,
      codebooks: this.#books.size,
      tallies: this.#candidates.tallies,
    }
  }
}
