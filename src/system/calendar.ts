import { DateTime, Duration } from 'luxon'

/** A log's clock may be ahead of ours, and of another time zone: so many milliseconds are not yet another year. */
const A_DAY = 86_400_000

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

/**
 * Reads the time that a log has in front of a line, by this machine's time zone where it names none: ISO 8601 (rsyslog, journalctl), syslog's own
 * form, which has no year (it is the last one in which that was not yet to come), or that of `dmesg -T`.
 * @param now Unix milliseconds
 * @returns Unix milliseconds, or null
 */
export function parseLogTime(text: string, now: number): number | null {
  const iso = DateTime.fromISO(text.replace(' ', 'T'))
  if (iso.isValid) return iso.toMillis()
  const plain = text.replace(/ +/g, ' ')
  for (const form of ['LLL d HH:mm:ss', 'LLL d HH:mm:ss.u', 'ccc LLL d HH:mm:ss yyyy']) {
    const read = DateTime.fromFormat(plain, form, { locale: 'en' })
    if (!read.isValid) continue
    if (form.endsWith('yyyy')) return read.toMillis()
    const thisYear = read.set({ year: DateTime.fromMillis(now).year })
    return (thisYear.toMillis() > now + A_DAY ? thisYear.minus({ years: 1 }) : thisYear).toMillis()
  }
  return null
}
