import { bytesToHex } from '@noble/hashes/utils.js'
import { addressBytes } from '../../protocol/address'
import { type Codebook, codebook, QUORUM } from '../../protocol/codebook'
import { hintOf, openDatagram } from '../../protocol/datagram'
import type { Key } from '../../protocol/key'
import { identity, open, PARITY, symbolPorts } from '../../protocol/knock'
import { SEALED_LENGTHS } from '../../protocol/seal'
import type { Now } from '../clock'
import { arrivalOf, type Knock } from '../knock'
import { type Name, Names, type Tap } from '../tap'
import { Budget, FIRST_ATTEMPTS, MAX_FAR, SLOT } from './budget'
import { Explained } from './explained'
import { Fullness } from './fullness'
import { Half, type Place } from './half'
import { PortFilter } from './port-filter'
import { eagerReadings, type Reading, readings, rendezvousStart, type Touch } from './readings'
import { Strays } from './strays'
import { type Candidate, Table } from './table'
import type { Tally } from './tally'

/* Specification (docs/protocol.md, "Receiving") */

/** A tap counts for this long, in milliseconds. */
const TAP_LIFE = 10_000
/** Distinct ports that a session keeps, the latest. */
export const MAX_PORTS = 256
/** Fewer distinct ports can't open: 4 rendezvous ports and 28 symbols. */
const MIN_PORTS = QUORUM + SEALED_LENGTHS[0]
/** Sessions and taps in all; each half (without and with a quorum) has one half of them. */
export const MAX_SESSIONS = 65_536
export const MAX_TAPS = 2 ** 20
/** Decodes of one session. */
export const MAX_SESSION_DECODES = 256
/**
 * Of those, what is kept for thorough attempts that a rendezvous port has asked for: a scan from the knock's own address must not use up by
 * attempts that nothing new speaks for what the next pass needs. Each takes half of what is left, so that it serves for six.
 */
const PASS_RESERVE = 64
/** Readings of one attempt that settle ties by chance. */
const GUESSES = 64
/** Codebooks that are kept, 0.1 MB each. */
const MAX_CODEBOOKS = 256

/* Implementation */

/** A burst is given this long to arrive whole before ties are settled by chance, in milliseconds; doubled after each failure. */
const PATIENCE = 50
/** A burst that was tried with all pages that it needs and failed is tried again with so many more: two can tell of one that is wrong. */
const EAGER_STEP = 2
/** Rows of waiting sessions: first attempts by their number, and then the others by the decodes that their group has had. */
const ROWS = FIRST_ATTEMPTS + MAX_SESSION_DECODES
/** Candidates of a session whose pages are counted, those whose rendezvous was heard last: as many as users of one address knock at once. */
const MAX_TRACKS = 8
/** Decodes of an ended session, which tell of a wrong clock. */
const MAX_ENDED_DECODES = 16
/**
 * Taps within which a burst says its rendezvous and all the rest. Where a candidate's quorum took longer it is likely a scan that came
 * across it, as it does with thousands of keys, and waits for its thorough attempts.
 */
const BURST_TAPS = 96
/** Bytes of tallies at a time: with 10,000 keys those of 1,024 sessions. The others do without: one that had to be made for each tap would cost ten times as much. */
export const MAX_TALLIES = 16 * 2 ** 20
/** The tracks of nearly every session: one map for all, which stays empty. */
const UNTRACKED = new Map<Candidate, Track>()
/** What nearly every tap opens. */
const NONE: Knock[] = []
/** Ended sessions are looked for this often, in milliseconds. */
const SWEEP = 1_000
/** Candidates that are computed in one slice: a few milliseconds. */
const SLICE = 128

/** What a source says, from its second tap on. */
interface Session {
  readonly place: Place<Session>
  readonly source: string
  readonly destination: string
  /** port → touch, the least recently touched first */
  readonly touches: Map<number, Touch>
  newest: number
  /** Taps so far. */
  heard: number
  /** Whether candidates have been counted: only from 32 ports on. */
  counted: boolean
  /** Counts what is in `touches`, once candidates have been counted; null where there is no room for it. */
  tally: Tally | null
  /** Candidates that have their quorum, the last heard first; where it is shaken, one of them has lost a port. */
  quorum: readonly Candidate[]
  shaken: boolean
  /** Decodes since some moment, and how many there may be when the attempt in hand ends. */
  decodes: number
  since: number
  limit: number
  patience: number
  /** How full the pages of its candidates are, those that have a quorum. */
  tracks: Map<Candidate, Track>
  attempts: Iterator<Attempt> | null
  /** The next attempt, kept while its candidate has no budget left. */
  held: Attempt | null
  /** Whom attempts are charged to that come to nothing, until one has been made. */
  payer: Candidate | null
  /** Where it waits. */
  row: number
  /** Null until it has an attempt to make, as nearly none has. */
  group: Group | null
}

/** Sources that are served as one: an IPv4 address, or the /64 of an IPv6 address, which one host has whole. */
interface Group {
  /** Attempts since some moment: first ones, and others. */
  firsts: number
  decodes: number
  since: number
}

/** How full the pages of a candidate are: with what was heard since its rendezvous, and with everything. */
interface Track {
  wide: Fullness
  near: Fullness
  /** Since when `near` counts, in steady milliseconds. */
  start: number
  /** Lengths of request for which a first attempt has been made. */
  readonly attempted: Set<number>
}

/** `isFirst`: the first of a burst for its length of request, which a clean knock needs and a source has few of. */
type Attempt = Reading & { readonly candidate: Candidate; readonly isFirst: boolean }

/** An opened knock, and every port that its symbols may use. */
interface Found {
  readonly knock: Knock
  readonly ports: ReadonlySet<number>
}

/**
 * Turns taps into opened knocks (docs/protocol.md, "Receiving" 1-5, 7, 8). It does no I/O and never looks at a clock;
 * whatever strangers send, its memory and its work per tap are bounded by the constants above.
 */
export class Listener {
  readonly #skew: number
  readonly #random: () => number
  readonly #table: Table
  readonly #strays = new Strays()
  readonly #explained: Explained
  readonly #names: Names
  readonly #places = new Map<Name, Place<Session>>()
  /** Sessions without a quorum, and those with one. */
  readonly #without = new Half<Session>(MAX_SESSIONS / 2, MAX_TAPS / 2)
  readonly #with = new Half<Session>(MAX_SESSIONS / 2, MAX_TAPS / 2)
  /** Of all sessions, in bytes. */
  #tallies = 0
  /** For those that have none. */
  readonly #filter = new PortFilter()
  readonly #books = new Map<Candidate, Codebook>()
  /** Groups of the IPv6 addresses that have sessions, and how many each has. */
  readonly #groups = new Map<string, { readonly group: Group; sessions: number }>()
  /** Sessions with an attempt to make, by what their groups have had: first attempts come first, and of the others who has had fewest. */
  readonly #waiting: Set<Session>[] = Array.from({ length: ROWS }, () => new Set())
  /** No row in front of this one has anybody in it. */
  #front = ROWS
  /** Sessions whose candidate has had its share of this slot. */
  readonly #parked = new Set<Session>()
  /** When sessions get a thorough attempt: their burst has had time to arrive then. In steady milliseconds. */
  readonly #patient = new Map<Session, number>()
  /** Ended sessions with a quorum that never came to a decode: a wrong clock, perhaps. */
  readonly #ended: Session[] = []
  /** Whether the table has all that it should have. */
  #complete = true
  /** Whether the slot's budget ran out before the waiting sessions did. */
  #starved = false
  readonly #budget = new Budget()
  #swept = 0

  /**
   * @param random numbers from 0 to 1, for settling ties, and for names; no stranger can foresee them
   * @param datagrams whether datagram knocks are heard, too
   */
  constructor(skew: number, random: () => number, datagrams = false) {
    this.#skew = skew
    this.#random = random
    this.#names = new Names(random)
    this.#table = new Table(skew, datagrams)
    this.#explained = new Explained(skew)
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

  /** Whether clients with a wrong clock can be named (not with more than some 350 keys). */
  get namesWrongClocks(): boolean {
    return this.#table.holdsFar
  }

  /** What is held right now, for the log and for tests of the bounds. */
  get sizes(): { sessions: number; taps: number; strays: number; explained: number; codebooks: number; tallies: number } {
    return {
      sessions: this.#places.size,
      taps: this.#without.taps + this.#with.taps,
      strays: this.#strays.size,
      explained: this.#explained.size,
      codebooks: this.#books.size,
      tallies: this.#tallies,
    }
  }

  /** Takes one tap; returns the knocks that it completed, nearly always none. */
  hear(tap: Tap, now: Now): Knock[] {
    if (tap.payload) return this.#hearDatagram(tap, tap.payload, now)
    const name = this.#names.of(tap)
    // A port may be a symbol of one knock and a rendezvous of another, whose key's holder did not choose it: that it stays, whoever has said it.
    const said = this.#explained.has(name, tap.port, now)
    const known = this.#table.knows(tap.port)
    if (said && !known) return NONE
    const place = this.#places.get(name)
    if (!place && !known) {
      this.#strays.add(name, tap.port, now.steady)
      return NONE
    }
    const session = place ? (place.session ?? this.#begin(place)) : this.#arrive(name, tap, said, now)
    if (!session) return NONE
    const before = this.#touch(session, tap.port, now.steady, said)
    if (session.place.half === null) return NONE
    // Before anything else: who keeps a session just alive must not keep it worn out.
    this.#prune(session)
    if (session.touches.size < MIN_PORTS) {
      // What is heard from here on is not counted, so that everything must be when the ports are enough again.
      session.counted = false
      this.#dropTally(session)
      session.tracks = UNTRACKED
      return NONE
    }
    this.#count(session, tap.port, before === null)
    if (session.quorum.length === 0) return NONE
    if (!said) this.#follow(session, tap.port, before)
    this.#schedule(session, tap.port, now)
    return this.#serve(now)
  }

  /** Whether a tap only says again what a knock from there has said: the rest of it, a second pass, a browser's SYNs. */
  repeats(tap: Tap, now: Now): boolean {
    return this.#explained.repeats(this.#names.of(tap), tap.port, now)
  }

  /** What time brings: the next windows, attempts that were waiting, sessions that have ended. Call it every few ten milliseconds. */
  due(now: Now): Knock[] {
    this.prepare(now)
    this.#turn(now)
    for (const [session, thoroughAt] of this.#patient) {
      if (thoroughAt > now.steady) continue
      this.#patient.delete(session)
      if (this.#waitsFirst(session)) {
        this.#patient.set(session, now.steady + PATIENCE)
        continue
      }
      const reserve = session.patience === PATIENCE ? 0 : PASS_RESERVE
      session.patience *= 2
      const worth = this.#wanted(session, now).filter((candidate) => {
        const track = this.#track(session, candidate)
        return track !== null && track.wide.filled >= SEALED_LENGTHS[0]
      })
      // At most half of what is left, so that something is always left for the second pass of an honest knock.
      const left = Math.max(0, MAX_SESSION_DECODES - reserve - session.decodes)
      const guesses = Math.min(GUESSES, Math.floor(left / 2 / session.quorum.length))
      this.#enqueue(session, worth, this.#attempts(session, worth, guesses), session.decodes + Math.ceil(left / 2))
    }
    if (now.steady - this.#swept >= SWEEP) this.#sweep(now.steady)
    return [...this.#serve(now), ...this.#tryEnded(now)]
  }

  /** Whether something waits for a budget, for a burst to end or for its place in the table, so that {@link Listener.due} is wanted soon. */
  get busy(): boolean {
    return !this.#complete || this.#starved || this.#patient.size + this.#parked.size + this.#ended.length > 0
  }

  /** Whether no source is remembered, so that nothing of one can end. */
  get isEmpty(): boolean {
    return this.#places.size + this.#ended.length === 0
  }

  /** There will be no more taps: every session has ended. Call it when nothing is {@link Listener.busy} any more. */
  end(now: Now): Knock[] {
    this.#sweep(Infinity)
    const knocks: Knock[] = []
    // As if time passed, so that there is a budget for all of them.
    for (let passed = 0; this.#ended.length > 0; passed += SLOT)
      knocks.push(...this.#tryEnded({ wall: now.wall + passed, steady: now.steady + passed }))
    return knocks
  }

  /**
   * A knock in one datagram (docs/protocol.md, "Datagram knock"): its hint says by which key and window to try it, once. It leaves nothing
   * behind; where the budget is out, it is dropped: its sender says it again.
   */
  #hearDatagram({ source, destination }: Tap, payload: Uint8Array, now: Now): Knock[] {
    const hint = hintOf(payload)
    const candidate = hint === null ? undefined : this.#table.announced(hint)
    if (!candidate || !this.#table.has(candidate.key)) return NONE
    const arrival = arrivalOf(candidate, now.steady, now, this.#skew)
    this.#turn(now)
    if (!this.#budget.takeDatagram(candidate, arrival === 'stale')) return NONE
    const { key, window } = candidate
    const opened = openDatagram(key, window, payload)
    if (!opened) return NONE
    const v = bytesToHex(identity(opened.sealed))
    return [{ key, window, request: opened.request, v, source, destination, heard: now.steady, arrival }]
  }

  /** A place for a source. @returns its session, where there is more to be noted than its first tap */
  #arrive(name: Name, tap: Tap, said: boolean, now: Now): Session | null {
    const place: Place<Session> = { name, tap, at: now.steady, session: null, half: null, seat: 0 }
    const strays = this.#strays.take(name)
    const session = said || strays.length > 0 ? this.#open(place) : null
    this.#places.set(name, place)
    this.#without.add(place)
    this.#relieve(this.#without)
    if (!session) return null
    for (const { port, at } of strays) if (at >= now.steady - TAP_LIFE) this.#touch(session, port, at)
    return session
  }

  /** The session of a place that has had one tap. */
  #begin(place: Place<Session>): Session {
    const session = this.#open(place)
    session.touches.set(place.tap.port, { count: 1, last: place.at, number: session.heard++, said: false })
    return session
  }

  #open(place: Place<Session>): Session {
    const { source, destination } = place.tap
    const session: Session = {
      place,
      source,
      destination,
      touches: new Map(),
      newest: place.at,
      heard: 0,
      counted: false,
      tally: null,
      quorum: [],
      shaken: false,
      decodes: 0,
      since: place.at,
      limit: 0,
      patience: PATIENCE,
      tracks: UNTRACKED,
      attempts: null,
      held: null,
      payer: null,
      row: 0,
      group: null,
    }
    place.session = session
    return session
  }

  /** Notes a touch. @returns when the port was touched before, in steady milliseconds; null where it is new to the session */
  #touch(session: Session, port: number, at: number, said = false): number | null {
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

  #drop(session: Session, port: number): void {
    const touch = session.touches.get(port)
    session.touches.delete(port)
    if (session.tally) this.#table.forget(port, session.tally)
    if (touch && !touch.said) this.#unfollow(session, port, touch)
    session.shaken ||= session.quorum.some(({ rendezvous }) => rendezvous.includes(port))
  }

  #relieve(half: Half<Session>): void {
    for (let surplus = half.surplus; surplus; surplus = half.surplus) this.#forget(surplus)
  }

  /** Finds candidates with a quorum: all of them when the session reaches 32 ports, then those of each new port. */
  #count(session: Session, port: number, fresh: boolean): void {
    const { counted, tally } = session
    if (counted && !fresh) return
    session.counted = true
    if (counted && tally && this.#table.isCurrent(tally)) {
      this.#consider(session, this.#table.suspects(port, tally))
      return
    }
    const anew = this.#newTally(session)
    if (!anew) this.#filter.fill(session.touches.keys())
    // Where nothing was counted, what is counted now finds all; without a tally, each port finds its own.
    for (const touched of counted && !anew ? [port] : session.touches.keys())
      this.#consider(session, anew ? this.#table.suspects(touched, anew) : this.#table.suspectsAmong(touched, this.#filter))
  }

  #consider(session: Session, suspects: readonly Candidate[]): void {
    for (const candidate of suspects) {
      if (session.quorum.includes(candidate) || !hasQuorum(session, candidate)) continue
      if (session.quorum.length === 0) {
        this.#without.remove(session.place)
        this.#with.add(session.place)
        this.#relieve(this.#with)
      }
      session.quorum = [candidate, ...session.quorum]
    }
  }

  /** A tally in the place of the one that it may have; null where there is no room. */
  #newTally(session: Session): Tally | null {
    this.#dropTally(session)
    if (this.#tallies >= MAX_TALLIES || session.place.half === null) return null
    session.tally = this.#table.newTally()
    this.#tallies += session.tally.size
    return session.tally
  }

  #dropTally(session: Session): void {
    this.#tallies -= session.tally?.size ?? 0
    session.tally = null
  }

  /** Candidates whose rendezvous is over are given up; with the last of them the session starts anew, however long its source goes on. */
  #prune(session: Session): void {
    if (!session.shaken) return
    session.shaken = false
    session.quorum = session.quorum.filter((candidate) => hasQuorum(session, candidate))
    if (session.quorum.length > 0) return
    this.#renew(session)
    session.place.half?.remove(session.place)
    this.#without.add(session.place)
    this.#relieve(this.#without)
  }

  #renew(session: Session): void {
    this.#unwait(session)
    this.#patient.delete(session)
    session.decodes = 0
    session.since = session.newest
    session.patience = PATIENCE
    session.tracks = UNTRACKED
  }

  /**
   * Counts a tap in the pages of the session's candidates.
   * @param before when the port was touched before; null where it is new to the session
   */
  #follow(session: Session, port: number, before: number | null): void {
    const { touches, tracks } = session
    const count = (touches.get(port) as Touch).count
    for (const [candidate, track] of tracks) {
      const book = this.#books.get(candidate)
      if (!book) tracks.delete(candidate)
      else if (candidate.rendezvous.includes(port)) {
        // A further pass, or the end of the first rendezvous: what was heard before it is cut off anew.
        track.start = rendezvousStart(touches, candidate.rendezvous)
        track.near = Fullness.of(touches, book, track.start)
      } else {
        track.wide.add(book, port, count, before === null)
        track.near.add(book, port, count, before === null || before < track.start)
        if (track.wide.isStale) track.wide = Object.assign(Fullness.of(touches, book, -Infinity), { tried: track.wide.tried })
        if (track.near.isStale) track.near = Object.assign(Fullness.of(touches, book, track.start), { tried: track.near.tried })
      }
    }
  }

  /** Takes a tap that counts no more out of them. */
  #unfollow({ tracks }: Session, port: number, { count, last }: Touch): void {
    for (const [candidate, { wide, near, start }] of tracks) {
      const book = this.#books.get(candidate)
      if (!book) {
        tracks.delete(candidate)
        continue
      }
      wide.remove(book, port, count)
      if (last >= start) near.remove(book, port, count)
    }
  }

  /** The pages of a candidate; null where counting them is more than may be done for it now. */
  #track(session: Session, candidate: Candidate): Track | null {
    const { touches, quorum } = session
    const there = session.tracks.get(candidate)
    if (there) return there
    const book = this.#books.get(candidate) ?? this.#newBook(candidate, true)
    if (!book) return null
    const start = rendezvousStart(touches, candidate.rendezvous)
    const tracks = session.tracks === UNTRACKED ? new Map<Candidate, Track>() : session.tracks
    session.tracks = tracks
    tracks.set(candidate, {
      wide: Fullness.of(touches, book, -Infinity),
      near: Fullness.of(touches, book, start),
      start,
      attempted: new Set(),
    })
    // Those whose rendezvous was heard last come first in the quorum.
    const kept = quorum.slice(0, MAX_TRACKS)
    if (tracks.size > MAX_TRACKS) for (const other of tracks.keys()) if (!kept.includes(other)) tracks.delete(other)
    return tracks.get(candidate) ?? null
  }

  /** A burst is tried as soon as it has symbols enough; what can't be settled that way is tried thoroughly when it has had time to arrive. */
  #schedule(session: Session, port: number, now: Now): void {
    // Whoever forges an address could wear its session out once, and keep it so with a tap a second.
    if (session.newest - session.since > TAP_LIFE) this.#renew(session)
    this.#turn(now)
    const ready: Ready[] = []
    for (let i = 0; i < session.quorum.length && i < MAX_TRACKS; i++) {
      const candidate = session.quorum[i]
      if (!session.tracks.has(candidate) && !this.#isWanted(session, candidate, now)) continue
      // Before its pages are counted: a scan comes across many a rendezvous, and each would cost a codebook.
      if (!isBurst(session, candidate)) continue
      const track = this.#track(session, candidate)
      if (track) ready.push(...readyFor(candidate, track))
    }
    // First attempts first: they have a share of the budget to themselves. One that still waits will see this tap, too.
    ready.sort((a, b) => Number(b.isFirst) - Number(a.isFirst) || a.k - b.k)
    const isWorth = ready.length > 0 && (ready[0].isFirst || !this.#waitsFirst(session))
    if (isWorth && session.decodes < MAX_SESSION_DECODES / 2) {
      const candidates = ready.map(({ candidate }) => candidate).filter((candidate) => this.#isWanted(session, candidate, now))
      this.#enqueue(session, candidates, this.#eager(session, ready), MAX_SESSION_DECODES / 2, ready[0].isFirst)
    }
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
    this.#wait(session, isFirst)
  }

  /** Candidates that are worth an attempt. Future ones, too: what is not written down before its window comes could be played by somebody else then. */
  #wanted(session: Session, now: Now): Candidate[] {
    return session.quorum.filter((candidate) => this.#isWanted(session, candidate, now))
  }

  #isWanted(session: Session, candidate: Candidate, now: Now): boolean {
    return arrivalOf(candidate, session.newest, now, this.#skew) !== 'stale'
  }

  /** Whether a session waits for a first attempt. */
  #waitsFirst(session: Session): boolean {
    const isParked = this.#parked.has(session) && session.held?.isFirst
    return isParked || (session.row < FIRST_ATTEMPTS && this.#waiting[session.row].has(session))
  }

  /** Has a session wait in the row where it belongs now. */
  #wait(session: Session, isFirst = session.held?.isFirst ?? false): void {
    this.#unwait(session)
    if (!session.place.half || session.decodes >= session.limit) return
    const group = this.#groupOf(session)
    if (session.newest - group.since > TAP_LIFE) Object.assign(group, { firsts: 0, decodes: 0, since: session.newest })
    session.row = rowOf(group, isFirst)
    this.#waiting[session.row].add(session)
    this.#front = Math.min(this.#front, session.row)
  }

  *#attempts(session: Session, candidates: Iterable<Candidate>, guesses: number): Generator<Attempt, void> {
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
  #bookFor(session: Session, candidate: Candidate): Codebook | null {
    if (!this.#table.has(candidate.key) || !hasQuorum(session, candidate)) return null
    const book = this.#books.get(candidate) ?? this.#newBook(candidate, true)
    if (book) {
      // Deleted and set again, so that the map stays in order of the latest use.
      this.#books.delete(candidate)
      this.#books.set(candidate, book)
    }
    return book
  }

  /** Makes waiting attempts, one decode at a time, of the groups with the fewest decodes first, as long as the budget lasts. */
  #serve(now: Now): Knock[] {
    this.#turn(now)
    const knocks: Knock[] = []
    this.#starved = false
    while (!this.#starved) {
      const session = this.#next()
      if (!session) break
      const knock = this.#try(session, now)
      if (knock) knocks.push(knock)
    }
    return knocks
  }

  /** Hands out the budgets anew where a slot has begun. */
  #turn(now: Now): void {
    if (!this.#budget.turn(now.steady)) return
    for (const session of this.#parked) this.#wait(session)
    this.#parked.clear()
  }

  #next(): Session | undefined {
    for (; this.#front < ROWS; this.#front++) {
      for (const session of this.#waiting[this.#front]) {
        this.#waiting[this.#front].delete(session)
        // Others of its group have been served since it came here.
        if (session.row < rowOf(this.#groupOf(session), session.row < FIRST_ATTEMPTS))
          this.#wait(session, session.row < FIRST_ATTEMPTS)
        else return session
      }
    }
    return undefined
  }

  /** One decode of a session, which goes on waiting while it has attempts left. */
  #try(session: Session, now: Now): Knock | null {
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
      this.#wait(session)
      return null
    }
    session.decodes++
    if (attempt?.isFirst) session.tracks.get(attempt.candidate)?.attempted.add(attempt.k)
    if (isFirst) group.firsts++
    else group.decodes++
    session.payer = null
    session.held = null
    // To find out that there is nothing to decode was work all the same.
    if (!attempt) return null
    const found = this.#decode(session, attempt, now)
    if (!found) {
      this.#wait(session)
      return null
    }
    this.#explain(session, attempt.candidate, found)
    session.decodes = 0
    Object.assign(group, { firsts: 0, decodes: 0 })
    session.tracks = UNTRACKED
    // What is left may hold another knock of the same source.
    const wanted = this.#wanted(session, now)
    this.#enqueue(session, wanted, this.#attempts(session, wanted, 0), MAX_SESSION_DECODES / 2)
    session.payer = null
    return found.knock
  }

  #decode(session: Session, { candidate, places, symbols, k }: Attempt, now: Now): Found | null {
    const { key, window } = candidate
    const opened = open(key, window, places, symbols, k)
    if (!opened) return null
    const ports = new Set(symbolPorts(this.#books.get(candidate) ?? codebook(key, window), opened.sealed))
    const times = [...ports, ...candidate.rendezvous].map((port) => session.touches.get(port)?.last ?? -Infinity)
    const heard = Math.max(...times)
    const arrival = arrivalOf(candidate, heard, now, this.#skew)
    const { source, destination } = session
    const knock: Knock = {
      key,
      window,
      request: opened.request,
      v: bytesToHex(identity(opened.sealed)),
      source,
      destination,
      heard,
      arrival,
    }
    return { knock, ports }
  }

  /** Step 7: what has been said is taken out, and is not heard again. */
  #explain(session: Session, candidate: Candidate, { knock, ports }: Found): void {
    for (const port of ports) {
      const touch = session.touches.get(port)
      if (!touch) continue
      if (this.#table.knows(port)) {
        session.touches.set(port, { ...touch, said: true })
        continue
      }
      this.#drop(session, port)
      if (session.place.half) session.place.half.taps--
    }
    this.#explained.add({ name: session.place.name, candidate, v: knock.v, ports })
  }

  /** Forgets sessions whose last tap is over; a quorum that never came to a decode is put aside for step 8. */
  #sweep(steady: number): void {
    this.#swept = steady
    for (const place of this.#places.values()) {
      const { session, at } = place
      if ((session?.newest ?? at) >= steady - TAP_LIFE) continue
      if (session && session.quorum.length > 0 && session.decodes === 0 && this.#ended.length < MAX_FAR) this.#ended.push(session)
      this.#forget(place)
    }
    for (const half of [this.#without, this.#with]) half.tidy()
  }

  /** Step 8: an authentic knock of a far window tells its user of a wrong clock. */
  #tryEnded(now: Now): Knock[] {
    const [session] = this.#ended
    if (!session) return []
    this.#turn(now)
    session.attempts ??= this.#attempts(session, session.quorum, 0)
    for (;;) {
      const attempt = session.held ?? session.attempts.next().value
      session.held = attempt ?? null
      if (!attempt || session.decodes >= MAX_ENDED_DECODES) break
      // The rest of it in the next slot.
      if (this.#budget.takeAttempt(attempt.candidate, false)) return []
      session.held = null
      session.decodes++
      const found = this.#decode(session, attempt, now)
      if (!found) continue
      this.#ended.shift()
      return this.#explained.knows(session.place.name, attempt.candidate, found.knock.v) ? [] : [found.knock]
    }
    this.#ended.shift()
    return []
  }

  #forget(place: Place<Session>): void {
    this.#places.delete(place.name)
    place.half?.remove(place)
    if (!place.session) return
    this.#unwait(place.session)
    this.#patient.delete(place.session)
    this.#dropTally(place.session)
    this.#leave(place.session)
  }

  #unwait(session: Session): void {
    this.#parked.delete(session)
    this.#waiting[session.row].delete(session)
  }

  // ---- groups of sources

  #groupOf(session: Session): Group {
    if (session.group) return session.group
    const prefix = prefixOf(session.source)
    const there = prefix === null ? undefined : this.#groups.get(prefix)
    const group = there?.group ?? { firsts: 0, decodes: 0, since: session.newest }
    if (prefix !== null) this.#groups.set(prefix, { group, sessions: 1 + (there?.sessions ?? 0) })
    session.group = group
    return group
  }

  #leave({ source, group }: Session): void {
    const prefix = group && prefixOf(source)
    const there = prefix === null ? undefined : this.#groups.get(prefix)
    if (there && --there.sessions === 0) this.#groups.delete(prefix as string)
  }

  /** Computes a codebook, where it can be afforded; the one that was used longest ago is forgotten for it. */
  #newBook(candidate: Candidate, isFirst: boolean): Codebook | null {
    if (this.#budget.takeBook(candidate, isFirst)) return null
    const book = codebook(candidate.key, candidate.window)
    this.#books.set(candidate, book)
    if (this.#books.size > MAX_CODEBOOKS) this.#books.delete(this.#books.keys().next().value as Candidate)
    return book
  }
}

/** A candidate whose burst is worth an attempt for a length of request. */
interface Ready {
  readonly candidate: Candidate
  readonly k: number
  readonly isFirst: boolean
}

/**
 * What a burst has become ready for with its last tap: with all the pages that a length of request needs, and then with some more each
 * time, up to what a client sends by default. What can't be settled so waits until it has had time to arrive.
 */
function readyFor(candidate: Candidate, { near, wide, attempted }: Track): Ready[] {
  const counts = [near, wide].filter(({ settled, tried }) => settled > tried)
  const isReady = (k: number, settled: number) => settled >= k && settled <= k + PARITY && (settled - k) % EAGER_STEP === 0
  const ready = SEALED_LENGTHS.filter((k) => counts.some(({ settled }) => isReady(k, settled)))
  if (ready.length > 0) for (const counted of counts) counted.tried = counted.settled
  return ready.map((k) => ({ candidate, k, isFirst: !attempted.has(k) }))
}

function rowOf({ firsts, decodes }: Group, isFirst: boolean): number {
  return isFirst && firsts < FIRST_ATTEMPTS ? firsts : Math.min(FIRST_ATTEMPTS + decodes, ROWS - 1)
}

/** The /64 of an IPv6 address, or null for IPv4, where each address is one by itself. */
function prefixOf(source: string): string | null {
  if (!source.includes(':')) return null
  const bytes = addressBytes(source)
  return bytes ? bytes.subarray(0, 8).join(':') : null
}

/** Whether a candidate's quorum lies within the latest taps. */
function isBurst(session: Session, candidate: Candidate): boolean {
  let recent = 0
  for (const port of candidate.rendezvous) {
    const touch = session.touches.get(port)
    if (touch && touch.number >= session.heard - BURST_TAPS) recent++
  }
  return recent >= QUORUM
}

function hasQuorum(session: Session, candidate: Candidate): boolean {
  let seen = 0
  for (const port of candidate.rendezvous) if (session.touches.has(port)) seen++
  return seen >= QUORUM
}
