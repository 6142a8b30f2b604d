import { MAX_SECONDS } from '../protocol/request'
import { Fault } from './fault'

/** No machine that runs this has a true clock before this year; one that says so has lost its battery. */
const FIRST_YEAR = 2020

const UNITS: Record<string, number> = { d: 24 * 3600, h: 3600, m: 60, s: 1 }

/** Milliseconds on a clock that never jumps. */
export const steadyNow = (): number => performance.now()

/**
 * Reads a duration with units, largest first: `90s`, `15m`, `1h30m`, `1d`.
 * @returns seconds, or null where the text is no such duration
 */
export function parseDuration(text: string): number | null {
  if (!/^(?=\d)(\d{1,8}d)?(\d{1,8}h)?(\d{1,8}m)?(\d{1,8}s)?$/.test(text)) return null
  let seconds = 0
  for (const [, count, unit] of text.matchAll(/(\d+)([dhms])/g)) seconds += Number(count) * UNITS[unit]
  return seconds
}

/** Reads a duration that a request can carry: more than nothing and at most 2^24-1 seconds; null for any other text. */
export function parseLifetime(text: string): number | null {
  const seconds = parseDuration(text)
  return seconds !== null && seconds > 0 && seconds <= MAX_SECONDS ? seconds : null
}

/** Seconds as a text that {@link parseDuration} reads back: in hours at most, which every version of it knows. */
export function formatDuration(seconds: number): string {
  const [h, m, s] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60]
  return `${h ? `${h}h` : ''}${m ? `${m}m` : ''}${s || seconds === 0 ? `${s}s` : ''}`
}

/** The last moment that a Date can tell, in Unix milliseconds, and below zero the first: a file may say anything, and be of any time. */
const LAST_MOMENT = 8.64e15

/** Unix milliseconds as ISO 8601 in UTC, whole seconds; of later ones, the last moment that there is, and of earlier ones the first. */
export function isoTime(milliseconds: number): string {
  return `${new Date(Math.max(-LAST_MOMENT, Math.min(milliseconds, LAST_MOMENT))).toISOString().slice(0, -5)}Z`
}

/** Whether the clock can be true. @param wall Unix milliseconds */
export const isClockPossible = (wall: number): boolean => new Date(wall).getUTCFullYear() >= FIRST_YEAR

/** @param hint what to do about it @throws {Fault} when the clock can't be true: everything here depends on it */
export function checkClock(wall: number, hint: string): void {
  if (isClockPossible(wall)) return
  throw new Fault(`the clock is wrong: expected ${FIRST_YEAR} or later, got ${isoTime(wall)}`, { hint })
}
