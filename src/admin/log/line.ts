import * as v from 'valibot'
import { printable } from '../../system/fault'

/** Longest line that is read: the daemon's longest, with a whole grant of services in it, has some 3,000 characters. */
export const MAX_LINE = 16 * 1024
/** Levels of pino's, from which on a line is that grave. */
const WARNING = 40
const ERROR = 50

/** A line of the daemon's log. */
export interface AuditLine {
  /** Unix milliseconds. */
  readonly at: number
  readonly level: 'info' | 'warning' | 'error'
  readonly msg: string
  /** All else that it says, as it came: whatever wrote the line may have put anything there. */
  readonly fields: Readonly<Record<string, unknown>>
  /** The line itself, safe to show. */
  readonly text: string
}

const schema = v.objectWithRest(
  {
    level: v.pipe(v.number(), v.integer()),
    time: v.pipe(v.string(), v.isoTimestamp()),
    msg: v.pipe(v.string(), v.minLength(1)),
  },
  v.unknown(),
)

/** Reads a line of the daemon's log. @returns null where it is none: plain text, what was cut off, another program's JSON */
export function readAuditLine(text: string): AuditLine | null {
  if (text.length > MAX_LINE || !text.startsWith('{')) return null
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return null
  }
  const read = v.safeParse(schema, value)
  if (!read.success) return null
  const { level, time, msg, ...fields } = read.output
  const at = Date.parse(time)
  if (Number.isNaN(at)) return null
  return {
    at,
    level: level >= ERROR ? 'error' : level >= WARNING ? 'warning' : 'info',
    msg,
    fields,
    text: printable(text),
  }
}

/** Which lines are asked for. */
export interface Wanted {
  /** Those about a key, by its id. */
  readonly key?: string | undefined
  /** Those from then on, in Unix milliseconds. */
  readonly since?: number | undefined
  /** Those about what was refused, and those that say that not all of that is in the log. */
  readonly refused?: boolean | undefined
}

/** Lines about refusals. */
const REFUSED = [
  'refused',
  'too many refusals of this key: some were not logged',
  'too many wrong passcodes: none is accepted before the next window',
]

/** Whether a line is asked for. */
export function isWanted({ at, msg, fields }: AuditLine, { key, since, refused }: Wanted): boolean {
  if (since !== undefined && at < since) return false
  if (refused && !REFUSED.includes(msg)) return false
  return key === undefined || fields.key === key || (Array.isArray(fields.keys) && fields.keys.includes(key))
}
