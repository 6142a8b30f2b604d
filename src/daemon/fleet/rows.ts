import { timingSafeEqual } from 'node:crypto'
import { bytesToHex, utf8ToBytes } from '@noble/hashes/utils.js'
import * as v from 'valibot'
import { isLease, type Lease, type Lock, readEntry } from '../../gate/firewall'
import type { Knock } from '../../gate/knock'
import { deriveSubkey, type Key } from '../../protocol/key'
import { hmacSha256 } from '../../protocol/primitives'
import { count, readJson } from '../../system/json'

/*
 * What a fleet keeps in etcd, below its prefix. The ledger is asked row by row; what is shared is watched whole.
 *
 *     ledger/spent/FINGERPRINT/PERIOD/WINDOW/V     a knock that is spent
 *     ledger/floor/FINGERPRINT/PERIOD              a key's floor, as WINDOW is written
 *     shared/base                                  from when on the fleet knows the past
 *     shared/revoked/FINGERPRINT                   a key that is revoked
 *     shared/lease/FINGERPRINT/tcp/22/ADDRESS      a lease
 *     shared/lock/FINGERPRINT/ADDRESS              a lock
 *     shared/gateway/NAME                          a gateway's own word of how it is
 *     shared/keys/NAME                             the fingerprints of its keys
 *     shared/compacted                             when history was last let go of
 *
 * Leases and locks carry a code by their key's secret: whoever can write to etcd, and has no key, opens nothing.
 */

/** Where all that is shared begins. */
export const SHARED = 'shared/'
/** The row of the {@link Base}. */
export const BASE = `${SHARED}base`
/** The row that says when history was last let go of. */
export const COMPACTED = `${SHARED}compacted`

const WINDOW_DIGITS = 16

/** A window in fixed-width hex, so that etcd's comparison of bytes is one of numbers. */
export const formatWindow = (window: number): string => Math.max(0, window).toString(16).padStart(WINDOW_DIGITS, '0')
/** Reads what {@link formatWindow} wrote; null where it is nothing of the kind. */
export function parseWindow(text: string): number | null {
  const window = /^[0-9a-f]{16}$/.test(text) ? Number.parseInt(text, 16) : NaN
  return Number.isSafeInteger(window) ? window : null
}

/** The rows of one (fingerprint, period): those of a window stand behind its number. */
export const spentRange = (fingerprint: string, period: number): string => `ledger/spent/${fingerprint}/${period}/`
/** The row of a spent knock. */
export const spentRow = ({ key, window, v }: Pick<Knock, 'key' | 'window' | 'v'>, fingerprint: string): string =>
  `${spentRange(fingerprint, key.period)}${formatWindow(window)}/${v}`
/** The row of a key's floor. @param period seconds */
export const floorRow = (fingerprint: string, period: number): string => `ledger/floor/${fingerprint}/${period}`
/** The row of a key that is revoked. */
export const revokedRow = (fingerprint: string): string => `${SHARED}revoked/${fingerprint}`
/** The row in which a gateway says how it is. */
export const gatewayRow = (name: string): string => `${SHARED}gateway/${name}`
/** The row in which a gateway says which keys it has. */
export const keysRow = (name: string): string => `${SHARED}keys/${name}`
/** The row of a lease. */
export const leaseRow = ({
  fingerprint,
  protocol,
  port,
  address,
}: Pick<Lease, 'fingerprint' | 'protocol' | 'port' | 'address'>) => `${SHARED}lease/${fingerprint}/${protocol}/${port}/${address}`
/** The row of a lock. */
export const lockRow = ({ fingerprint, address }: Pick<Lock, 'fingerprint' | 'address'>): string =>
  `${SHARED}lock/${fingerprint}/${address}`

/** Where the leases of one key begin. */
export const leasesOfKey = (fingerprint: string): string => `${SHARED}lease/${fingerprint}/`
/** Where the locks of one key begin. */
export const locksOfKey = (fingerprint: string): string => `${SHARED}lock/${fingerprint}/`
/** The row of a lease or a lock. */
export const rowOf = (entry: Lease | Lock): string => (isLease(entry) ? leaseRow(entry) : lockRow(entry))

/**
 * The place of a lease or a lock, by the name of its row: an entry that is there has more to say. Null where it names none. A name that is longer than any
 * address or block makes it is none: etcd takes a megabyte and more, and each is kept.
 */
export function placeOf(row: string): Lease | Lock | null {
  const lease = /^shared\/lease\/([0-9a-f]{32})\/(tcp|udp)\/(\d{1,5})\/(.{1,64})$/.exec(row)
  const lock = /^shared\/lock\/([0-9a-f]{32})\/(.{1,64})$/.exec(row)
  if (lease) {
    const [, fingerprint, protocol, port, address] = lease
    return { id: '', key: '', fingerprint, address, protocol: protocol as 'tcp', port: Number(port), once: false, until: 0 }
  }
  return lock && { id: '', key: '', fingerprint: lock[1], address: lock[2], until: 0 }
}

/** What a shared row is of; null where it is none that this program knows. */
export function readShared(
  row: string,
): { readonly kind: 'base' | 'compacted' | 'revoked' | 'lease' | 'lock' | 'gateway' | 'keys'; readonly rest: string } | null {
  const [, kind, rest = ''] = /^shared\/(base|compacted|revoked|lease|lock|gateway|keys)(?:\/(.+))?$/.exec(row) ?? []
  return kind === undefined ? null : { kind: kind as 'base', rest }
}

// ---- the base

/** A base, and its text as etcd has it: claims name that. */
export interface BaseRow {
  readonly base: Base
  readonly value: string
}

/** From when on a fleet knows the past: every floor starts `ahead` windows beyond `seconds` at least. */
export interface Base {
  /** Names the fleet, once for all. */
  readonly fleet: string
  /** The server's label, which all gateways have. */
  readonly server: string
  /** Counts the bases: one that is raised is a later one. */
  readonly epoch: number
  /** Unix seconds, and windows, as of the file's base record. */
  readonly seconds: number
  readonly ahead: number
}

const text = v.pipe(v.string(), v.maxLength(255))
const baseSchema = v.object({
  fleet: v.pipe(v.string(), v.regex(/^[0-9a-f]{16}$/)),
  server: text,
  epoch: count,
  seconds: count,
  ahead: count,
})

/** A base's text, as {@link parseBase} reads it. */
export const formatBase = ({ fleet, server, epoch, seconds, ahead }: Base): string =>
  JSON.stringify({ fleet, server, epoch, seconds, ahead })
/** Reads a base; null where it is none. */
export const parseBase = (value: string): Base | null => readJson(baseSchema, value)

/** The floor that a base is for a period. */
export const baseFloor = ({ seconds, ahead }: Pick<Base, 'seconds' | 'ahead'>, period: number): number =>
  Math.floor(seconds / period) + ahead

// ---- a spent knock

/** The row of a spent knock. */
export interface Spent {
  /** Random: whoever has made this attempt knows that the row is its own. */
  readonly attempt: string
  readonly gateway: string
  /** A code of the source, so that its own retransmits are told from replays; nobody reads an address from it. */
  readonly source: string
  /** Until when what it asks for would be open at most, in Unix seconds; null: until closed. 0: it opens nothing. */
  readonly until: number | null
}

const spentSchema = v.object({ attempt: text, gateway: text, source: text, until: v.nullable(count) })

/** The value of a spent knock's row, as {@link parseSpent} reads it. */
export const formatSpent = ({ attempt, gateway, source, until }: Spent): string =>
  JSON.stringify({ attempt, gateway, source, until })
/** Reads the row of a spent knock; null where it is none: that it is there counts all the same. */
export const parseSpent = (value: string): Spent | null => readJson(spentSchema, value)

// ---- leases and locks

/** A lease or a lock as its row has it. */
export interface SharedEntry<Entry extends Lease | Lock> {
  readonly entry: Entry
  /** The gateway that has heard the knock. */
  readonly gateway: string
  /** Of the base by which it was written. A restored etcd may bring back what was closed since: that is of an earlier one. */
  readonly epoch: number
  /** Seconds that it was for when it was written; null: until closed. Nobody keeps it longer from when they first see it. */
  readonly seconds: number | null
}

/** @param row the row's name @param fleet of {@link Base} @param key the entry's own */
export function formatEntry<Entry extends Lease | Lock>(
  row: string,
  shared: SharedEntry<Entry>,
  fleet: string,
  key: Key,
): string {
  const { gateway, epoch, seconds } = shared
  const body = JSON.stringify({ ...shared.entry, gateway, epoch, seconds })
  return JSON.stringify({ body, code: codeOf(key, fleet, row, body) })
}

const sealedSchema = v.object({ body: v.string(), code: v.string() })
const entrySchema = v.object({
  id: text,
  key: text,
  fingerprint: text,
  address: text,
  protocol: v.optional(v.string()),
  port: v.optional(v.number()),
  once: v.optional(v.boolean(), false),
  until: v.nullable(count),
  gateway: text,
  epoch: count,
  seconds: v.nullable(count),
})

/** No row of a lease or a lock comes near to it, in characters: what is longer is not read, nor kept. */
export const MAX_ENTRY = 1_024

/**
 * Reads the row of a lease or a lock.
 * @returns null where it is none, has another name than it says, or its code is not by this key
 */
export function parseEntry(row: string, value: string, fleet: string, key: Key): SharedEntry<Lease> | SharedEntry<Lock> | null {
  const sealed = value.length > MAX_ENTRY ? null : readJson(sealedSchema, value)
  if (!sealed || !isSame(sealed.code, codeOf(key, fleet, row, sealed.body))) return null
  const said = readJson(entrySchema, sealed.body)
  if (!said || said.fingerprint !== bytesToHex(key.fingerprint)) return null
  if ((said.seconds === null) !== (said.until === null)) return null
  const kind = readShared(row)?.kind
  const entry = readEntry({ ...said, protocol: said.protocol, port: said.port, kind })
  if (!entry || rowOf(entry) !== row) return null
  const { gateway, epoch, seconds } = said
  return { entry, gateway, epoch, seconds } as SharedEntry<Lease> | SharedEntry<Lock>
}

/** What a source is called in the row of a knock. */
export const sourceCode = (key: Key, { source, window, v }: Pick<Knock, 'source' | 'window' | 'v'>): string =>
  bytesToHex(hmacSha256(fleetKey(key), utf8ToBytes(`source ${window} ${v} ${source}`))).slice(0, 32)

const codeOf = (key: Key, fleet: string, row: string, body: string): string =>
  bytesToHex(hmacSha256(fleetKey(key), utf8ToBytes(`row ${fleet} ${row} ${body}`)))

/** In a time that tells nothing of where two codes differ. */
function isSame(code: string, own: string): boolean {
  const [a, b] = [utf8ToBytes(code), utf8ToBytes(own)]
  return a.length === b.length && timingSafeEqual(a, b)
}

const fleetKeys = new WeakMap<Key, Uint8Array>()

/** A key's own subkey for what its gateways tell each other. */
function fleetKey(key: Key): Uint8Array {
  const known = fleetKeys.get(key) ?? deriveSubkey(key, 'fleet', 32)
  fleetKeys.set(key, known)
  return known
}
