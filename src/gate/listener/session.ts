import { QUORUM } from '../../protocol/codebook'
import type { Fullness } from './fullness'
import type { Place } from './half'
import type { Reading, Touch } from './readings'
import type { Candidate } from './table'
import type { Tally } from './tally'

/* docs/protocol.md, "Receiving" 3: what a session is. Its ports are kept by sessions.ts, its candidates by candidates.ts, its attempts by attempts.ts. */

/** A tap counts for this long, in milliseconds. */
export const TAP_LIFE = 10_000
/** Decodes of one session ("Receiving" 4). */
export const MAX_SESSION_DECODES = 256
/** A burst is given this long to arrive whole before ties are settled by chance, in milliseconds; doubled after each failure. */
export const PATIENCE = 50
/** The tracks of nearly every session: one map for all, which stays empty. */
export const UNTRACKED = new Map<Candidate, Track>()

/** What a source says, from its second tap on. */
export interface Session {
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
export interface Group {
  /** Attempts since some moment: first ones, and others. */
  firsts: number
  decodes: number
  since: number
}

/** How full the pages of a candidate are: with what was heard since its rendezvous, and with everything. */
export interface Track {
  wide: Fullness
  near: Fullness
  /** Since when `near` counts, in steady milliseconds. */
  start: number
  /** Lengths of request for which a first attempt has been made. */
  readonly attempted: Set<number>
}

/** `isFirst`: the first of a burst for its length of request, which a clean knock needs and a source has few of. */
export type Attempt = Reading & { readonly candidate: Candidate; readonly isFirst: boolean }

/** A session that has heard nothing yet, for a place that has none. */
export function newSession(place: Place<Session>): Session {
  const { source, destination } = place.tap
  return {
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
}

/** Whether a session is remembered no more: it was the oldest, or has ended. */
export function isForgotten({ place }: Session): boolean {
  return place.half === null
}

/** Whether a session has heard enough of a candidate's rendezvous ports. */
export function hasQuorum({ touches }: Session, { rendezvous }: Candidate): boolean {
  let seen = 0
  for (const port of rendezvous) if (touches.has(port)) seen++
  return seen >= QUORUM
}
