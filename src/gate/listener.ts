import { bytesToHex } from '@noble/hashes/utils.js'
import { type Codebook, codebook, QUORUM } from '../protocol/codebook'
import { hintOf, openDatagram } from '../protocol/datagram'
import type { Key } from '../protocol/key'
import { identity, open, symbolPorts } from '../protocol/knock'
import type { Request } from '../protocol/request'
import { SEALED_LENGTHS } from '../protocol/seal'
import { acceptedWindows, type Now } from './clock'
import { Explained } from './explained'
import { PortFilter } from './port-filter'
import { type Reading, readings, type Touch } from './readings'
import { Strays } from './strays'
import { type Candidate, Table } from './table'

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
/** Decodes a second: in all, and for one (key, window). */
export const MAX_DECODES = 2_000
export const MAX_CANDIDATE_DECODES = 500
/** Of both, what datagrams may use: half, so that who has heard hints leaves the other half to those who knock on ports. */
export const MAX_DATAGRAMS = MAX_DECODES / 2
export const MAX_KEY_DATAGRAMS = MAX_CANDIDATE_DECODES / 2
/** Readings of one attempt that settle ties by chance. */
const GUESSES = 64
/** Codebooks that are kept, 0.1 MB each. */
const MAX_CODEBOOKS = 256
/** Sessions with a quorum for far windows only that are tried a second: as many as one sweep puts aside. */
const MAX_FAR = 10

/* Implementation */

/** Budgets are handed out in slots of this many milliseconds, so that none waits long for the next. */
const SLOT = 100
/** A burst is given this long to arrive whole before ties are settled by chance, in milliseconds; doubled after each failure. */
const PATIENCE = 50
/** Attempts of one session that new ports may cause while its burst arrives; the rest is kept for the thorough attempts. */
const MAX_EAGER = 64
/**
 * Taps within which a burst says its rendezvous and all the rest. Where a candidate's quorum took longer it is likely a scan that came
 * across it, as it does with thousands of keys, and waits for its thorough attempts.
 */
const BURST_TAPS = 96
/** Sessions that have a filter at a time, 8 KB each; the others have theirs made anew at their next tap. */
const MAX_FILTERS = 1_024
/** What nearly every tap opens. */
const NONE: Knock[] = []
/** Ended sessions are looked for this often, in milliseconds. */
const SWEEP = 1_000
/** Candidates that are computed in one slice: a few milliseconds. */
const SLICE = 128

/** One packet seen on one port: what a tap source delivers. Addresses are canonical text (RFC 5952, IPv4-mapped as IPv4). */
export interface Tap {
  readonly source: string
  readonly destination: string
  readonly port: number
  /** What a UDP datagram carried, where it may be a knock by itself: a copy of its 36 or 48 bytes. Such a tap says nothing by its port. */
  readonly payload?: Uint8Array
}

/** A knock that was opened: authentic, and not yet judged by ledger and policy. */
export interface Knock {
  readonly key: Key
  readonly window: number
  readonly request: Request
  /** V in hex: the knock's identity within key and window. */
  readonly v: string
  readonly source: string
  readonly destination: string
  /** When its newest tap arrived, in steady milliseconds. */
  readonly heard: number
  /** Whether its window was accepted then. */
  readonly arrival: 'timely' | 'stale' | 'future'
  /** Set where a passcode has said it, and no sealed request. */
  readonly by?: 'passcode'
}

interface Session {
  readonly name: string
  readonly source: string
  readonly destination: string
  /** port → touch, the least recently touched first */
  readonly touches: Map<number, Touch>
  /** Where it is held; null once forgotten. */
  half: Half | null
  newest: number
  /** Taps so far. */
  heard: number
  /** Whether candidates have been counted: only from 32 ports on. */
  counted: boolean
  filter: PortFilter | null
  /** Ports that are still in the filter and no longer in the session. */
  gone: number
  /** Candidates that have their quorum, the last heard first; where it is shaken, one of them has lost a port. */
  quorum: readonly Candidate[]
  shaken: boolean
  /** Decodes since some moment, and how many there may be when the attempt in hand ends. */
  decodes: number
  since: number
  limit: number
  eager: number
  patience: number
  attempts: Iterator<Attempt> | null
  /** The next attempt, kept while its candidate has no budget left. */
  held: Attempt | null
}

type Attempt = Reading & { readonly candidate: Candidate }

/** An opened knock, and every port that its symbols may use. */
interface Found {
  readonly knock: Knock
  readonly ports: ReadonlySet<number>
}

/** Half of the sessions: those without a quorum, or those with one. A flood of either kind can't push out the other. */
class Half {
  sessions = 0
  taps = 0
  /**
   * Sessions by age, with those that have gone since the last tidying. A Map gives its oldest entry, too, but walks over
   * everything that was ever deleted in front of it: under a flood that is the whole cost of a tap.
   */
  #byAge: Session[] = []
  #oldest = 0

  add(session: Session): void {
    session.half = this
    this.sessions++
    this.taps += session.touches.size
    this.#byAge.push(session)
  }

  remove(session: Session): void {
    session.half = null
    this.sessions--
    this.taps -= session.touches.size
  }

  /** The session to give up, oldest first: fewest taps first would push out the honest newcomer. */
  get surplus(): Session | undefined {
    if (this.sessions <= MAX_SESSIONS / 2 && this.taps <= MAX_TAPS / 2) return undefined
    while (this.#byAge[this.#oldest].half !== this) this.#oldest++
    return this.#byAge[this.#oldest]
  }

  /** Lets go of what has gone. */
  tidy(): void {
    this.#byAge = [...new Set(this.#byAge)].filter(({ half }) => half === this)
    this.#oldest = 0
  }
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
  readonly #sessions = new Map<string, Session>()
  readonly #without = new Half()
  readonly #with = new Half()
  /** Sessions with a filter, and some that have lost theirs, the oldest first. */
  readonly #filtered: Session[] = []
  readonly #books = new Map<Candidate, Codebook>()
  /** Sessions with an attempt to make, by the decodes that they have had: fewest are served first. */
  readonly #waiting: Set<Session>[] = Array.from({ length: MAX_SESSION_DECODES }, () => new Set())
  /** Nobody waits who has had fewer decodes than this. */
  #fewest = MAX_SESSION_DECODES
  /** Sessions whose candidate has had its share of this slot. */
  readonly #parked = new Set<Session>()
  /** When sessions get a thorough attempt: their burst has had time to arrive then. In steady milliseconds. */
  readonly #patient = new Map<Session, number>()
  /** Ended sessions with a quorum that never came to a decode: a wrong clock, perhaps. */
  readonly #ended: Session[] = []
  /** Whether the table has all that it should have. */
  #complete = true
  /** The first destination that was heard. Nearly always the only one: sessions with it are named by their source alone. */
  #home: string | null = null
  #slot = -1
  #decodes = 0
  /** Whether the slot's budget ran out before the waiting sessions did. */
  #starved = false
  readonly #candidateDecodes = new Map<Candidate, number>()
  /** Datagrams that were decoded in this slot: in all, of each key, and of windows that are over. */
  #datagrams = 0
  readonly #keyDatagrams = new Map<Key, number>()
  #staleDatagrams = 0
  #swept = 0

  /**
   * @param random numbers from 0 to 1, for settling ties; nothing secret hangs on them
   * @param datagrams whether datagram knocks are heard, too
   */
  constructor(skew: number, random: () => number, datagrams = false) {
    this.#skew = skew
    this.#random = random
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
  get sizes(): { sessions: number; taps: number; strays: number; explained: number; codebooks: number } {
    return {
      sessions: this.#sessions.size,
      taps: this.#without.taps + this.#with.taps,
      strays: this.#strays.size,
      explained: this.#explained.size,
      codebooks: this.#books.size,
    }
  }

  /** Takes one tap; returns the knocks that it completed, nearly always none. */
  hear(tap: Tap, now: Now): Knock[] {
    if (tap.payload) return this.#hearDatagram(tap, tap.payload, now)
    const name = this.#nameOf(tap)
    // A port may be a symbol of one knock and a rendezvous of another, whose key's holder did not choose it: that it stays, whoever has said it.
    const said = this.#explained.has(name, tap.port, now)
    if (said && !this.#table.knows(tap.port)) return NONE
    let session = this.#sessions.get(name)
    if (!session) {
      if (!this.#table.knows(tap.port)) {
        this.#strays.add(name, tap.port, now.steady)
        return NONE
      }
      session = this.#begin(name, tap, now)
    }
    const fresh = this.#touch(session, tap.port, now.steady, said)
    if (session.half === null) return NONE
    // Before anything else: who keeps a session just alive must not keep it worn out.
    this.#prune(session)
    if (session.touches.size < MIN_PORTS) {
      // What is heard from here on is not counted, so that everything must be when the ports are enough again.
      session.counted = false
      return NONE
    }
    this.#count(session, tap.port, fresh)
    if (session.quorum.length === 0) return NONE
    this.#schedule(session, tap.port, fresh, now)
    return this.#serve(now)
  }

  /** Whether a tap only says again what a knock from there has said: the rest of it, a second pass, a browser's SYNs. */
  repeats(tap: Tap, now: Now): boolean {
    return this.#explained.repeats(this.#nameOf(tap), tap.port, now)
  }

  /** What time brings: the next windows, attempts that were waiting, sessions that have ended. Call it every few ten milliseconds. */
  due(now: Now): Knock[] {
    this.prepare(now)
    for (const [session, thoroughAt] of this.#patient) {
      if (thoroughAt > now.steady) continue
      this.#patient.delete(session)
      session.patience *= 2
      // At most half of what is left, so that something is always left for the second pass of an honest knock.
      const left = MAX_SESSION_DECODES - session.decodes
      const guesses = Math.min(GUESSES, Math.floor(left / 2 / session.quorum.length))
      this.#enqueue(session, session.quorum, guesses, session.decodes + Math.ceil(left / 2), now)
    }
    if (now.steady - this.#swept >= SWEEP) this.#sweep(now.steady)
    return [...this.#serve(now), ...this.#tryEnded(now)]
  }

  /** Whether something waits for a budget, for a burst to end or for its place in the table, so that {@link Listener.due} is wanted soon. */
  get busy(): boolean {
    return !this.#complete || this.#starved || this.#patient.size + this.#parked.size + this.#ended.length > 0
  }

  /** There will be no more taps: every session has ended. Call it when nothing is {@link Listener.busy} any more. */
  end(now: Now): Knock[] {
    this.#sweep(Infinity)
    const knocks: Knock[] = []
    while (this.#ended.length > 0) knocks.push(...this.#tryEnded(now))
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
    const arrival = this.#arrival(candidate, now.steady, now)
    if (!this.#mayOpen(candidate, arrival, now)) return NONE
    const { key, window } = candidate
    const opened = openDatagram(key, window, payload)
    if (!opened) return NONE
    const v = bytesToHex(identity(opened.sealed))
    return [{ key, window, request: opened.request, v, source, destination, heard: now.steady, arrival }]
  }

  /** Takes one decode of a datagram out of the budgets, or says that there is none left in this slot. */
  #mayOpen(candidate: Candidate, arrival: Knock['arrival'], now: Now): boolean {
    this.#turn(now)
    const slots = 1000 / SLOT
    const ofKey = this.#keyDatagrams.get(candidate.key) ?? 0
    const ofCandidate = this.#candidateDecodes.get(candidate) ?? 0
    if (this.#decodes >= MAX_DECODES / slots || this.#datagrams >= MAX_DATAGRAMS / slots) return false
    if (ofKey >= MAX_KEY_DATAGRAMS / slots || ofCandidate >= MAX_CANDIDATE_DECODES / slots) return false
    // The hints of windows past are known to everybody who has listened: they tell of a wrong clock, and are worth no more than that.
    if (arrival === 'stale' && this.#staleDatagrams++ >= MAX_FAR / slots) return false
    this.#decodes++
    this.#datagrams++
    this.#keyDatagrams.set(candidate.key, ofKey + 1)
    this.#candidateDecodes.set(candidate, ofCandidate + 1)
    return true
  }

  #nameOf({ source, destination }: Tap): string {
    this.#home ??= destination
    // A name that need not be made: under a flood from many sources that is a sixth of the work.
    return destination === this.#home ? source : `${source} ${destination}`
  }

  #begin(name: string, tap: Tap, now: Now): Session {
    const session: Session = {
      name,
      source: tap.source,
      destination: tap.destination,
      touches: new Map(),
      half: null,
      newest: now.steady,
      heard: 0,
      counted: false,
      filter: null,
      gone: 0,
      quorum: [],
      shaken: false,
      decodes: 0,
      since: now.steady,
      limit: 0,
      eager: 0,
      patience: PATIENCE,
      attempts: null,
      held: null,
    }
    this.#sessions.set(name, session)
    this.#without.add(session)
    for (const { port, at } of this.#strays.take(name)) {
      if (at >= now.steady - TAP_LIFE) this.#touch(session, port, at)
    }
    return session
  }

  /** Notes a touch; returns whether the port is new to the session. */
  #touch(session: Session, port: number, at: number, said = false): boolean {
    const { touches, half } = session
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
    return touch === undefined
  }

  #drop(session: Session, port: number): void {
    session.touches.delete(port)
    session.gone++
    session.shaken ||= session.quorum.some(({ rendezvous }) => rendezvous.includes(port))
  }

  #relieve(half: Half): void {
    for (let surplus = half.surplus; surplus; surplus = half.surplus) this.#forget(surplus)
  }

  /** Finds candidates with a quorum: all of them when the session reaches 32 ports, then those of each new port. */
  #count(session: Session, port: number, fresh: boolean): void {
    if (!session.counted) {
      session.counted = true
      session.filter = null
      for (const touched of session.touches.keys()) this.#consider(session, touched)
    } else if (fresh) this.#consider(session, port)
  }

  #consider(session: Session, port: number): void {
    for (const candidate of this.#table.suspects(port, this.#filter(session, port))) {
      if (session.quorum.includes(candidate) || !hasQuorum(session, candidate)) continue
      if (session.quorum.length === 0) {
        this.#without.remove(session)
        this.#with.add(session)
        this.#relieve(this.#with)
      }
      session.quorum = [candidate, ...session.quorum]
    }
  }

  /** The session's filter, with a port that it has touched. */
  #filter(session: Session, port: number): PortFilter {
    if (session.filter && session.gone <= MAX_PORTS) {
      session.filter.add(port)
      return session.filter
    }
    if (!session.filter) this.#filtered.push(session)
    if (this.#filtered.length > MAX_FILTERS) (this.#filtered.shift() as Session).filter = null
    session.filter = new PortFilter(session.touches.keys())
    session.gone = 0
    return session.filter
  }

  /** Candidates whose rendezvous is over are given up; with the last of them the session starts anew, however long its source goes on. */
  #prune(session: Session): void {
    if (!session.shaken) return
    session.shaken = false
    session.quorum = session.quorum.filter((candidate) => hasQuorum(session, candidate))
    if (session.quorum.length > 0) return
    this.#renew(session)
    session.half?.remove(session)
    this.#without.add(session)
    this.#relieve(this.#without)
  }

  #renew(session: Session): void {
    this.#unwait(session)
    session.decodes = 0
    session.since = session.newest
    session.eager = 0
    session.patience = PATIENCE
  }

  /** A new port is tried at once; what can't be settled that way is tried thoroughly when the burst has had time to arrive. */
  #schedule(session: Session, port: number, fresh: boolean, now: Now): void {
    // Whoever forges an address could wear its session out once, and keep it so with a tap a second.
    if (session.newest - session.since > TAP_LIFE) this.#renew(session)
    if (fresh && session.eager < MAX_EAGER && session.decodes < MAX_SESSION_DECODES / 2) {
      const bursting = session.quorum.filter((candidate) => isBurst(session, candidate))
      if (bursting.length > 0) {
        session.eager++
        this.#enqueue(session, bursting, 0, MAX_SESSION_DECODES / 2, now)
      }
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

  #enqueue(session: Session, candidates: readonly Candidate[], guesses: number, limit: number, now: Now): void {
    // Future ones, too: what is not written down before its window comes could be played by somebody else then.
    const wanted = candidates.filter((candidate) => this.#arrival(candidate, session.newest, now) !== 'stale')
    if (wanted.length === 0) return
    session.attempts = this.#attempts(session, wanted, guesses)
    session.held = null
    session.limit = limit
    this.#wait(session)
  }

  #wait(session: Session): void {
    if (!session.half || session.decodes >= session.limit) return
    this.#waiting[session.decodes].add(session)
    this.#fewest = Math.min(this.#fewest, session.decodes)
  }

  *#attempts(session: Session, candidates: Iterable<Candidate>, guesses: number): Generator<Attempt, void> {
    for (const candidate of candidates) {
      if (!this.#table.has(candidate.key) || !hasQuorum(session, candidate)) continue
      const { touches, newest } = session
      for (const reading of readings(touches, newest, this.#book(candidate), guesses, this.#random)) {
        yield { ...reading, candidate }
      }
    }
  }

  /** Makes waiting attempts, one decode at a time, fewest decodes first, as long as the budget lasts. */
  #serve(now: Now): Knock[] {
    this.#turn(now)
    const knocks: Knock[] = []
    for (;;) {
      this.#starved = this.#decodes >= (MAX_DECODES * SLOT) / 1000
      const session = this.#starved ? undefined : this.#fewestDecodes()
      if (!session) break
      const knock = this.#try(session, now)
      if (knock) knocks.push(knock)
    }
    return knocks
  }

  /** Hands out the budgets anew where a slot has begun. */
  #turn(now: Now): void {
    const slot = Math.floor(now.steady / SLOT)
    if (slot === this.#slot) return
    this.#slot = slot
    this.#decodes = 0
    this.#candidateDecodes.clear()
    this.#datagrams = 0
    this.#keyDatagrams.clear()
    this.#staleDatagrams = 0
    for (const session of this.#parked) this.#wait(session)
    this.#parked.clear()
  }

  #fewestDecodes(): Session | undefined {
    for (; this.#fewest < MAX_SESSION_DECODES; this.#fewest++) {
      const sessions = this.#waiting[this.#fewest]
      for (const session of sessions) {
        sessions.delete(session)
        return session
      }
    }
    return undefined
  }

  /** One decode of a session, which goes on waiting while it has attempts left. */
  #try(session: Session, now: Now): Knock | null {
    const attempt = session.held ?? session.attempts?.next().value
    if (!attempt) {
      // It was work all the same, if none of the session's own.
      this.#decodes++
      return null
    }
    const used = this.#candidateDecodes.get(attempt.candidate) ?? 0
    if (used >= (MAX_CANDIDATE_DECODES * SLOT) / 1000) {
      session.held = attempt
      this.#parked.add(session)
      return null
    }
    session.held = null
    this.#candidateDecodes.set(attempt.candidate, used + 1)
    this.#decodes++
    session.decodes++
    const found = this.#decode(session, attempt, now)
    if (!found) {
      this.#wait(session)
      return null
    }
    this.#explain(session, attempt.candidate, found)
    session.decodes = 0
    session.eager = 0
    // What is left may hold another knock of the same source.
    this.#enqueue(session, session.quorum, 0, MAX_SESSION_DECODES / 2, now)
    return found.knock
  }

  #decode(session: Session, { candidate, places, symbols, k }: Attempt, now: Now): Found | null {
    const { key, window } = candidate
    const opened = open(key, window, places, symbols, k)
    if (!opened) return null
    const ports = new Set(symbolPorts(this.#book(candidate), opened.sealed))
    const times = [...ports, ...candidate.rendezvous].map((port) => session.touches.get(port)?.last ?? -Infinity)
    const heard = Math.max(...times)
    const arrival = this.#arrival(candidate, heard, now)
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
      if (session.half) session.half.taps--
    }
    this.#explained.add({ session: session.name, candidate, v: knock.v, ports })
  }

  /** Forgets sessions whose last tap is over; a quorum that never came to a decode is put aside for step 8. */
  #sweep(steady: number): void {
    this.#swept = steady
    for (const session of this.#sessions.values()) {
      if (session.newest >= steady - TAP_LIFE) continue
      if (session.quorum.length > 0 && session.decodes === 0 && this.#ended.length < MAX_FAR) this.#ended.push(session)
      this.#forget(session)
    }
    for (const half of [this.#without, this.#with]) half.tidy()
  }

  /** Step 8: an authentic knock of a far window tells its user of a wrong clock. */
  #tryEnded(now: Now): Knock[] {
    const session = this.#ended.shift()
    if (!session) return []
    for (const attempt of this.#attempts(session, session.quorum, 0)) {
      const found = this.#decode(session, attempt, now)
      if (found) return this.#explained.knows(session.name, attempt.candidate, found.knock.v) ? [] : [found.knock]
    }
    return []
  }

  #forget(session: Session): void {
    this.#unwait(session)
    this.#sessions.delete(session.name)
    session.half?.remove(session)
  }

  #unwait(session: Session): void {
    this.#patient.delete(session)
    this.#parked.delete(session)
    this.#waiting[session.decodes]?.delete(session)
  }

  /** Judged by the arrival of the newest tap, however late the budget lets it be decoded. */
  #arrival({ key, window }: Candidate, newest: number, now: Now): Knock['arrival'] {
    const { first, last } = acceptedWindows(now.wall - (now.steady - newest), key.period, this.#skew)
    return window < first ? 'stale' : window > last ? 'future' : 'timely'
  }

  #book(candidate: Candidate): Codebook {
    const book = this.#books.get(candidate) ?? codebook(candidate.key, candidate.window)
    // Deleted and set again, so that the map stays in order of the latest use.
    this.#books.delete(candidate)
    this.#books.set(candidate, book)
    if (this.#books.size > MAX_CODEBOOKS) this.#books.delete(this.#books.keys().next().value as Candidate)
    return book
  }
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
