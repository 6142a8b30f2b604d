import { DateTime, Duration } from 'luxon'

/** Seconds in words, for people: `1 hour, 30 minutes`. */
export function humanDuration(seconds: number): string {
  return Duration.fromObject({ seconds }).rescale().toHuman()
}

/**
 * Reads a date or an instant as ISO 8601; without an offset it is UTC, a bare date is its beginning.
 * @returns Unix milliseconds, or null
 */
export function parseInstant(text: string): number | null {
  const instant = DateTime.fromISO(text, { zone: 'utc' })
  return instant.isValid ? instant.toMillis() : null
}
