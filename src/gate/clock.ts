/** A moment on both clocks, in milliseconds: decisions take it as an argument and never look at a clock themselves. */
export interface Now {
  /** Unix time: decides windows, expiries and what is written. It may jump. */
  readonly wall: number
  /** A monotonic clock: decides how long something has been held. It never jumps. */
  readonly steady: number
}

/** A skew of 0 leaves a window acceptable for this long after its end, in seconds (docs/protocol.md, "Constants"). */
const GRACE_WITHOUT_SKEW = 10

/**
 * The windows that are accepted at a moment, first and last (docs/protocol.md, "Constants": skew).
 * @param wall Unix time in milliseconds
 */
export function acceptedWindows(wall: number, period: number, skew: number): { first: number; last: number } {
  const seconds = wall / 1000
  const grace = skew === 0 ? GRACE_WITHOUT_SKEW : 0
  return { first: Math.floor((seconds - grace) / period) - skew, last: Math.floor(seconds / period) + skew }
}
