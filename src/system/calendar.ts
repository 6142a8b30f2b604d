import { DateTime, Duration } from 'luxon'

/** Seconds in words, for people: `1 hour, 30 minutes`. */
export function humanDuration(seconds: number): string {
  return Duration.fromObject({ seconds }).rescale().toHuman()
}

/**
 * When something is, for people, as it is told at another moment: `in 4 min`, `2 hr ago`.
 * @param at and `now`: Unix milliseconds
 */
export function relativeTime(at: number, now: number): string {
  const base = DateTime.fromMillis(now)
  // Luxon abbreviates with a full stop, which nothing here ends with.
  return DateTime.fromMillis(at).toRelative({ base, style: 'short', locale: 'en' })?.replaceAll('.', '') ?? ''
}

/**
 * Reads a date or an instant as ISO 8601; without an offset it is UTC, a bare date is its beginning.
 * @returns Unix milliseconds, or null
 */
export function parseInstant(text: string): number | null {
  const instant = DateTime.fromISO(text, { zone: 'utc' })
  return instant.isValid ? instant.toMillis() : null
}
