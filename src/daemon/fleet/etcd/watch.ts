import { parseJson, readBy } from '../../../system/json'
import { Unavailable, type Watching } from './etcd'
import { type Form, watchSchema } from './json'
import { Lines } from './lines'
import type { Member } from './member'
import { CODE, Refused, streamError } from './refused'

/** Longest line of a watch, in bytes: etcd sends at most 2 MiB at a time where it is asked to, and base64 and names come on top. */
const MAX_LINE = 8 * 1024 * 1024
/** Milliseconds until a watch has begun, which etcd says at once. */
const BEGIN = 2_000
/**
 * Milliseconds without a word, after which a watch counts as broken: a network that is gone says nothing. Whoever watches sees to it that
 * something is written more often; gateways beat every two seconds.
 */
export const WATCH_SILENCE = 6_000

/** What is watched, and who hears of it. */
export interface Watched {
  readonly form: Form
  readonly from: string
  readonly to: string
  readonly revision: number
  /** Once, at first. */
  begun(): void
  readonly changed: Watching['changed']
}

/**
 * Follows a watch at one member, as long as it lasts.
 * @returns never @throws {Unavailable} when it is over
 */
export async function follow(member: Member, token: string | null, watched: Watched, signal: AbortSignal): Promise<never> {
  const { endpoint } = member
  const over = new AbortController()
  let silence: string | null = null
  const within = (time: number, why: string) =>
    setTimeout(() => {
      silence = why
      over.abort()
    }, time)
  let timer = within(BEGIN, 'no watch has begun in time')
  const lines = new Lines(MAX_LINE, hearing(endpoint, watched))
  const { form, from, to, revision } = watched
  const range = { key: form.name(from), range_end: form.name(to), start_revision: String(revision) }
  const body = JSON.stringify({ create_request: { ...range, fragment: true } })
  const heard = (piece: Buffer) => {
    clearTimeout(timer)
    timer = within(WATCH_SILENCE, `nothing was heard for ${WATCH_SILENCE / 1_000} s`)
    lines.push(piece)
  }
  try {
    const call = { method: 'POST', path: '/v3/watch', body, token, most: MAX_LINE, needsLeader: true } as const
    await member.stream(call, () => heard, AbortSignal.any([signal, over.signal]))
    lines.end()
    throw new Unavailable(`${endpoint}: the watch was ended`, 'unreachable', false)
  } catch (error) {
    if (silence !== null) throw new Unavailable(`${endpoint}: ${silence}`, 'timeout', false)
    throw error instanceof RangeError ? new Unavailable(`${endpoint}: ${error.message}`, 'strange', false) : error
  } finally {
    clearTimeout(timer)
  }
}

/** Hears a watch line by line. @returns what throws {@link Unavailable} where the watch is over, or is none */
export function hearing(endpoint: string, { form, begun, changed, revision }: Watched): (line: string) => void {
  let isBegun = false
  // What has been heard is never heard again: once begun, it is not asked for again by us.
  const ended = (error: Refused) => (isBegun ? new Unavailable(error.message, error.trouble, false) : error)
  const strange = (got: string) => new Unavailable(`${endpoint}: expected a watch, got ${got}`, 'strange', false)
  return (line) => {
    const words = parseJson(line)
    const error = streamError(endpoint, words)
    if (error) throw ended(error)
    const read = readBy(watchSchema, words)
    if (!read) throw strange('something else')
    const { created, canceled, cancel_reason, compact_revision, events } = read.result
    if (compact_revision > 0)
      throw new Unavailable(
        `${endpoint}: its history begins at revision ${compact_revision} only, not at ${revision}`,
        'strange',
        false,
      )
    if (canceled) throw ended(refusedFor(endpoint, cancel_reason))
    if (created === isBegun) throw strange(created ? 'a second one' : 'a change before it had begun')
    if (created) begun()
    isBegun = true
    const changes = events.map(({ type, kv }) => {
      const row = form.row(kv)
      if (row === null || row.modified < revision) throw strange('a row that was not asked for')
      return type === 'PUT' ? { put: row } : { removed: row.row }
    })
    if (changes.length > 0) changed(changes)
  }
}

/** Why etcd does not watch: a token that is over is "permission denied" there. */
function refusedFor(endpoint: string, reason: string): Refused {
  return new Refused(endpoint, reason.includes('permission denied') ? CODE.unauthenticated : 0, reason)
}
