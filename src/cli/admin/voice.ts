import { warnOf } from '../voice'

/* What knockturn's commands say, and under which name. */

export const NAME = 'knockturn'

/** Warnings of one kind that are said: a local user can have a socket on each port of the pool, and each would be a line of the log. */
const MAX_WARNINGS = 10

/** Says on standard output what has come about. */
export function print(text: string): void {
  process.stdout.write(`${text}\n`)
}

/** Says on standard error what is no fault but should be known. */
export function warn(message: string): void {
  warnOf(NAME, message)
}

/**
 * Says warnings of one kind, {@link MAX_WARNINGS} of them at most.
 * @param more where to read the rest
 */
export function warnEach(lines: readonly string[], more = 'see "ss -tuan"'): void {
  for (const line of lines.slice(0, MAX_WARNINGS)) warn(line)
  if (lines.length > MAX_WARNINGS) warn(`and so for ${lines.length - MAX_WARNINGS} more: ${more}`)
}
