import { constants, type Stats } from 'node:fs'
import { stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import * as v from 'valibot'
import { REFUSALS, type Refusal } from '../../gate/policy'
import { Fault } from '../../system/fault'
import { checkOwned, decodeText, ReadFault, readHead, tooLong } from '../../system/files'
import { count, readBy } from '../../system/json'
import type { Config } from '../config'
import { fleetSchema, type StateFleet } from './fleet'

/* What a daemon writes down of itself, so that others can see how it is: a file, and no socket. */

/** The form of the file that this program writes, and the latest that it reads. */
export const STATE_VERSION = 1
/** Longest state in bytes: 65,536 leases at some 230 bytes, the locks, and 100,000 keys at some 300, with room. */
export const MAX_STATE = 64 * 1024 * 1024
/** A daemon touches its state every five seconds: one whose file is older than so many milliseconds has hung or ended. */
export const FRESH = 15_000

/** Whether a state is of now. @param written when, and `now`, in Unix milliseconds: after a clock was set back, a file is of the future */
export const isFresh = (written: number, now: number): boolean => Math.abs(now - written) <= FRESH

/** Hours that are read of what a day is made of: one more than it has. */
const MAX_HOURS = 25

/** How it stands with a daemon's hearing. `waiting`: it does not hear yet. `unknown`: no probe has arrived yet, or none is sent. */
export type StateHearing = 'waiting' | 'well' | 'alone' | 'deaf' | 'unknown'

/**
 * The daemon's state, as `state.json` has it. Times are ISO 8601 in UTC, whole seconds; null stands for never, for not known, and in `until` for
 * until closed. No secrets.
 */
export interface State {
  readonly version: 1
  /** Version and commit, as --version has them. */
  readonly program: string
  readonly pid: number
  readonly started: string
  /** The path of the config that it has read. */
  readonly config: string
  readonly ledger: string
  readonly server: string
  readonly backend: string
  /** Of taps. */
  readonly source: string
  readonly hearing: StateHearing
  /** Of probes, none. */
  readonly lastTap: string | null
  readonly lastKnock: StateKnock | null
  /** Since the start. `dropped`: by the kernel, before the daemon could see them; null where nobody can tell. */
  readonly taps: { readonly seen: number; readonly ignored: number; readonly unreadable: number; readonly dropped: number | null }
  /** Ports as `guard` writes them. */
  readonly guard: readonly string[]
  readonly keys: readonly StateKey[]
  readonly leases: readonly StateLease[]
  readonly locks: readonly StateLock[]
  readonly day: StateDay
  /** Null where it is in no fleet; older daemons do not say. */
  readonly fleet: StateFleet | null
}

/** The newest knock that was understood, whatever came of it. */
export interface StateKnock {
  readonly at: string
  readonly key: string
  readonly source: string
  readonly action: string
  readonly outcome: 'accepted' | Refusal
}

/** A key that the daemon has. */
export interface StateKey {
  readonly id: string
  readonly fingerprint: string
  readonly expires: string | null
  readonly services: readonly string[]
  /** Its last knock that was accepted. `windowsOff`: by how many windows the sender's clock was ahead; below zero, behind. */
  readonly lastUse: { readonly at: string; readonly source: string; readonly action: string; readonly windowsOff: number } | null
}

/** A lease in force. */
export interface StateLease {
  readonly id: string
  readonly key: string
  readonly fingerprint: string
  /** An address, or a block such as `198.51.100.0/24`. */
  readonly address: string
  /** Such as `22/tcp`. */
  readonly service: string
  readonly once: boolean
  readonly opened: string | null
  readonly until: string | null
}

/** A lock in force. */
export interface StateLock {
  readonly id: string
  readonly key: string
  readonly fingerprint: string
  readonly address: string
  readonly until: string
}

/** What came about in the last 24 hours, kept by the hour. */
export interface StateDay {
  /** From when on it is known. */
  readonly since: string
  readonly accepted: number
  /** As often as the log says it, and what it leaves out for want of a key's share. */
  readonly refused: { readonly [refusal in Refusal]?: number | undefined }
  /** Without probes. */
  readonly taps: number
  readonly dropped: number
  /** The minute with the most taps. */
  readonly busiest: { readonly at: string; readonly taps: number } | null
}

/** Longest name, and path, that is believed: one that is longer would make each row of a table as long. */
const name = v.pipe(v.string(), v.maxLength(255))
const file = v.pipe(v.string(), v.maxLength(4_096))
/** The form is looked at by itself: Date.parse skips whatever stands in brackets, such as what a terminal obeys. */
const TIME = /^[+-]?\d{4,6}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,3})?Z$/
/** As isoTime and toISOString write it, of years beyond 9999, too. */
export const time = v.pipe(
  v.string(),
  v.check((text) => TIME.test(text) && !Number.isNaN(Date.parse(text))),
)
const moment = v.nullable(time)

const lease = v.object({
  id: name,
  key: name,
  fingerprint: name,
  address: name,
  service: name,
  once: v.boolean(),
  opened: moment,
  until: moment,
})
const lock = v.object({ id: name, key: name, fingerprint: name, address: name, until: time })

const refusedCounts = v.object(
  Object.fromEntries(REFUSALS.map((refusal) => [refusal, v.optional(count)])) as {
    [refusal in Refusal]: v.OptionalSchema<typeof count, undefined>
  },
)

const hour = {
  accepted: count,
  refused: refusedCounts,
  taps: count,
  dropped: count,
  busiest: v.nullable(v.object({ at: time, taps: count })),
}

/** Entries that a later program adds without another version are left out. */
const schema = v.object({
  version: v.literal(STATE_VERSION),
  program: file,
  pid: count,
  started: time,
  config: file,
  ledger: file,
  server: name,
  backend: name,
  source: name,
  hearing: v.picklist(['waiting', 'well', 'alone', 'deaf', 'unknown']),
  lastTap: moment,
  lastKnock: v.nullable(
    v.object({
      at: time,
      key: name,
      source: name,
      action: name,
      outcome: v.picklist(['accepted', ...REFUSALS]),
    }),
  ),
  taps: v.object({ seen: count, ignored: count, unreadable: count, dropped: v.nullable(count) }),
  guard: v.array(name),
  keys: v.array(
    v.object({
      id: name,
      fingerprint: name,
      expires: moment,
      services: v.array(name),
      lastUse: v.nullable(v.object({ at: time, source: name, action: name, windowsOff: v.pipe(v.number(), v.safeInteger()) })),
    }),
  ),
  leases: v.array(lease),
  locks: v.array(lock),
  day: v.object({ since: time, ...hour }),
  fleet: v.optional(v.nullable(fleetSchema(time)), null),
})

/** Of what a day is made. Only the next daemon wants it. */
const hoursSchema = v.object({ hours: v.pipe(v.array(v.object({ at: time, ...hour })), v.maxLength(MAX_HOURS)) })

/** What reads leases and locks in an answer, too. */
export const leaseSchema = lease
export const lockSchema = lock

/** Where a daemon's state is. @param ledger the ledger's path */
export const statePath = (ledger: string): string => join(dirname(ledger), 'state.json')

/**
 * Reads the state of the daemon that has, or has had, the ledger of a config. It may be stale: see {@link isFresh}.
 * @returns the state, and when its file was last written or touched, in Unix milliseconds; null where there is none, or it is of another ledger
 * @throws {Fault} where it can't be read, is no state, is too long or of a later version
 */
export async function readState(
  config: Pick<Config, 'ledger'>,
): Promise<{ readonly state: State; readonly written: number } | null> {
  const found = await readAll(config.ledger.path)
  return found && { state: found.state, written: found.written }
}

/** Reads a state as {@link readState}, and the hours of its day; none where they can't be told. */
export async function readAll(ledger: string): Promise<Found | null> {
  const path = statePath(ledger)
  const found = await readGiven(path, MAX_STATE)
  if (found === null) return null
  const { state, json } = parseState(path, found.text)
  if (state.ledger !== ledger) return null
  return { state, written: found.stats.mtimeMs, hours: readBy(hoursSchema, json)?.hours ?? [] }
}

/** A state with what only the next daemon wants. */
interface Found {
  readonly state: State
  readonly written: number
  readonly hours: readonly (Omit<StateDay, 'since'> & { readonly at: string })[]
}

function parseState(path: string, text: string): { state: State; json: unknown } {
  const hint = 'delete the file: a daemon that runs writes it anew'
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch {
    throw new Fault(`${path}: is not JSON`, { hint })
  }
  const version = (json as { version?: unknown } | null)?.version
  if (typeof version === 'number' && version > STATE_VERSION)
    throw new Fault(`${path}: is of a later version of Knockturn (${version})`, { hint: 'use the program that the daemon is of' })
  const state = readBy(schema, json)
  if (!state) throw new Fault(`${path}: is damaged`, { hint })
  return { state, json }
}

/**
 * Reads a file that a daemon has written in its own folder, which root may read and must not be led by: through no link, and no other name of a
 * file that belongs to somebody else.
 * @returns null where there is none
 * @throws {Fault} where it can't be read, is somebody else's, or longer than `max` bytes
 */
export async function readGiven(path: string, max: number): Promise<{ readonly text: string; readonly stats: Stats } | null> {
  const folder = dirname(path)
  try {
    const { uid } = await stat(folder).catch((error) => Promise.reject(new ReadFault(folder, error)))
    const { bytes, stats } = await readHead(path, max, constants.O_NOFOLLOW)
    if (stats.nlink > 1 || (stats.uid !== 0 && stats.uid !== uid))
      throw new Fault(`${path}: is not the daemon's own file`, { hint: 'look who has put it there, and delete it' })
    checkOwned(path, stats)
    if (stats.size > max) throw tooLong(path, max, stats.size)
    return { text: decodeText(path, bytes), stats }
  } catch (error) {
    if (!(error instanceof ReadFault)) throw error
    if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return null
    if (error.code === 'ELOOP')
      throw new Fault(`${path}: is a link, and is not followed`, { hint: 'look who has put it there, and delete it' })
    throw new Fault(error.message, { hint: error.code === 'EACCES' ? 'run this as root' : error.hint })
  }
}
