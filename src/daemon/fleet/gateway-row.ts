import { sha256 } from '@noble/hashes/sha2.js'
import { bytesToHex, utf8ToBytes } from '@noble/hashes/utils.js'
import * as v from 'valibot'
import { count, readJson } from '../../system/json'

/** What a gateway says of itself at each beat. */
export interface GatewayWord {
  /** Random, one for each run: two gateways of one name are told apart by it. */
  readonly life: string
  /** Counts beats, through all runs. */
  readonly beat: number
  /** Both clocks at sending, in milliseconds: a clock that is set is seen by their difference, however long a beat is on its way. */
  readonly wall: number
  readonly steady: number
  /** Whether its clock is synchronised, as its kernel or whoever keeps the clock says; null: nobody says. */
  readonly synchronised: boolean | null
  /** The epoch of the base that it goes by. */
  readonly epoch: number
  /** It has found etcd restored, and waits for a later base. */
  readonly restored: boolean
  /** Version and commit. */
  readonly program: string
  /** The server's label, and the skew: one for all gateways. */
  readonly server: string
  readonly skew: number
  /** How many keys it has, and what their fingerprints come to: two that have the same keys say the same. */
  readonly keys: { readonly count: number; readonly digest: string }
  /** Unix milliseconds of its last tap; null: none yet. */
  readonly lastTap: number | null
  readonly leases: number
  readonly locks: number
}

const text = v.pipe(v.string(), v.maxLength(255))

/** A beat every two seconds comes to so many in 70,000 years: whoever says more would have the next one, and the memory of it, be no number any more. */
const MAX_BEAT = 2 ** 40

const wordSchema = v.object({
  life: v.pipe(v.string(), v.regex(/^[0-9a-f]{16}$/)),
  beat: v.pipe(count, v.maxValue(MAX_BEAT)),
  wall: v.pipe(v.number(), v.finite()),
  steady: v.pipe(v.number(), v.finite()),
  synchronised: v.nullable(v.boolean()),
  epoch: count,
  restored: v.boolean(),
  program: text,
  server: text,
  skew: count,
  keys: v.object({ count, digest: text }),
  lastTap: v.nullable(v.pipe(v.number(), v.finite())),
  leases: count,
  locks: count,
})

/** The value of a gateway's row, as {@link parseWord} reads it. */
export const formatWord = (word: GatewayWord): string => JSON.stringify(word)
/** Reads a gateway's row; null where it is none. */
export const parseWord = (value: string): GatewayWord | null => readJson(wordSchema, value)

/** Fingerprints that a row of keys names: more are counted only, so that a row stays far below etcd's limit of 1.5 MB. */
const MAX_NAMED_KEYS = 4_096

const keysSchema = v.object({ fingerprints: v.pipe(v.array(text), v.maxLength(MAX_NAMED_KEYS)) })

/** The row of a gateway's keys. @param fingerprints in order */
export const formatKeys = (fingerprints: readonly string[]): string =>
  JSON.stringify({ fingerprints: fingerprints.slice(0, MAX_NAMED_KEYS) })
/** Reads what {@link formatKeys} wrote; null where it is none. */
export const parseKeys = (value: string): readonly string[] | null => readJson(keysSchema, value)?.fingerprints ?? null

/** What a gateway says of its keys: at each beat what they come to, and in a row of its own which they are. */
export interface KeysWord {
  readonly count: number
  /** Two gateways that have the same keys say the same. */
  readonly digest: string
  /** The text of the row. */
  readonly row: string
}

/** @param fingerprints in any order */
export function keysWord(fingerprints: readonly string[]): KeysWord {
  const sorted = fingerprints.toSorted()
  const digest = bytesToHex(sha256(utf8ToBytes(sorted.join('\n')))).slice(0, 16)
  return { count: sorted.length, digest, row: formatKeys(sorted) }
}
