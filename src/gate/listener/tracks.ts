import { QUORUM } from '../../protocol/codebook'
import { PARITY } from '../../protocol/knock'
import { SEALED_LENGTHS } from '../../protocol/seal'
import type { Codebooks } from './codebooks'
import { Fullness } from './fullness'
import { rendezvousStart, type Touch } from './readings'
import { type Session, type Track, UNTRACKED } from './session'
import type { Candidate } from './table'

/* docs/protocol.md, "Receiving" 4: when a burst has settled as many pages as are needed, so that it is tried at once. */

/** Candidates of a session whose pages are counted, those whose rendezvous was heard last: as many as users of one address knock at once. */
export const MAX_TRACKS = 8
/**
 * Taps within which a burst says its rendezvous and all the rest. Where a candidate's quorum took longer it is likely a scan that came
 * across it, as it does with thousands of keys, and waits for its thorough attempts.
 */
const BURST_TAPS = 96
/** A burst that was tried with all pages that it needs and failed is tried again with so many more: two can tell of one that is wrong. */
const EAGER_STEP = 2

/** A candidate whose burst is worth an attempt for a length of request. */
export interface Ready {
  readonly candidate: Candidate
  readonly k: number
  readonly isFirst: boolean
}

/** The pages of a candidate; null where counting them is more than may be done for it now. */
export function trackOf(session: Session, candidate: Candidate, books: Codebooks): Track | null {
  const { touches, quorum } = session
  const there = session.tracks.get(candidate)
  if (there) return there
  const book = books.of(candidate)
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

/**
 * Counts a tap in the pages of a session's candidates.
 * @param before when the port was touched before; null where it is new to the session
 */
export function follow({ touches, tracks }: Session, port: number, before: number | null, books: Codebooks): void {
  const count = (touches.get(port) as Touch).count
  for (const [candidate, track] of tracks) {
    const book = books.get(candidate)
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
export function unfollow({ tracks }: Session, port: number, { count, last }: Touch, books: Codebooks): void {
  for (const [candidate, { wide, near, start }] of tracks) {
    const book = books.get(candidate)
    if (!book) {
      tracks.delete(candidate)
      continue
    }
    wide.remove(book, port, count)
    if (last >= start) near.remove(book, port, count)
  }
}

/** Whether a candidate's quorum lies within the latest taps of a session. */
export function isBurst({ touches, heard }: Session, { rendezvous }: Candidate): boolean {
  let recent = 0
  for (const port of rendezvous) {
    const touch = touches.get(port)
    if (touch && touch.number >= heard - BURST_TAPS) recent++
  }
  return recent >= QUORUM
}

/**
 * What a burst has become ready for with its last tap: with all the pages that a length of request needs, and then with some more each
 * time, up to what a client sends by default. What can't be settled so waits until it has had time to arrive.
 */
export function readyFor(candidate: Candidate, { near, wide, attempted }: Track): Ready[] {
  const counts = [near, wide].filter(({ settled, tried }) => settled > tried)
  const isReady = (k: number, settled: number) => settled >= k && settled <= k + PARITY && (settled - k) % EAGER_STEP === 0
  const ready = SEALED_LENGTHS.filter((k) => counts.some(({ settled }) => isReady(k, settled)))
  if (ready.length > 0) for (const counted of counts) counted.tried = counted.settled
  return ready.map((k) => ({ candidate, k, isFirst: !attempted.has(k) }))
}
