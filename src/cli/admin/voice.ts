import { relativeTime } from '../../system/calendar'
import { warnOf } from '../voice'

/* How knockturn's commands print, and under which name. */

export const NAME = 'knockturn'

/** Warnings of one kind that are printed: a local user can have a socket on each port of the pool, and each would be a line of the log. */
const MAX_WARNINGS = 10

/** Prints a result on standard output. */
export function print(text: string): void {
  process.stdout.write(`${text}\n`)
}

/** Prints on standard error what is no fault but should be known. */
export function warn(message: string): void {
  warnOf(NAME, message)
}

/**
 * Prints warnings of one kind, {@link MAX_WARNINGS} of them at most.
 * @param more how to see the rest
 */
export function warnEach(lines: readonly string[], more = 'run "ss -tuan" to see them'): void {
  for (const line of lines.slice(0, MAX_WARNINGS)) warn(line)
  if (lines.length > MAX_WARNINGS) warn(`${lines.length - MAX_WARNINGS} more warnings of this kind: ${more}`)
}

/** How a moment is told: in words and as ISO 8601. @param at ISO 8601 @param now Unix milliseconds */
export const told = (at: string, now: number): string => `${relativeTime(Date.parse(at), now)} (${at})`

/** The end of a lease or a lock, likewise. @param until null: until closed */
export const toldEnd = (until: string | null, now: number): string => (until === null ? 'until closed' : told(until, now))
