import { TomlDate } from 'smol-toml'
import * as v from 'valibot'

/* Kinds of entries that several files of ours have, for the schemas of readToml; each fault is worded to follow "expected" (what begins with "requires" or "must" stands alone). */

/** A string that `read` understands; its RangeError, if it throws one, is the message. */
export const text = <T>(read: (input: string) => T | null, expected: string) =>
  v.pipe(
    v.string(),
    v.rawTransform(({ dataset, addIssue, NEVER }) => {
      try {
        const value = read(dataset.value)
        if (value !== null) return value
        addIssue({ message: expected })
      } catch (error) {
        addIssue({ message: (error as RangeError).message.replace(/^expected /, '') })
      }
      return NEVER
    }),
  )

/** A whole number within bounds. */
export const whole = (low: number, high: number) => {
  const rule = `a whole number from ${low} to ${high}`
  return v.pipe(v.number(), v.integer(rule), v.minValue(low, rule), v.maxValue(high, rule))
}

const INSTANT = 'an offset date-time such as 2026-01-31T12:00:00Z'
/** A moment, in Unix milliseconds. */
export const instant = v.pipe(
  v.date(INSTANT),
  // A local time is another instant in each zone, and a bare date or time is none.
  v.check((date) => date instanceof TomlDate && date.isDateTime() && !date.isLocal(), INSTANT),
  v.transform((date) => date.getTime()),
)
