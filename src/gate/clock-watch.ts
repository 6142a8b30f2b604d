import type { Now } from './clock'
import { Quiet } from './quiet'

/** Milliseconds by which the wall clock must jump to be told: a usual window, which the skew forgives. */
const JUMP = 30_000
/** Milliseconds between two jumps in one direction that are told: a clock that is set to and fro must not fill the log. */
const QUIET = 60_000

/** Sees whether the wall clock jumps, by the monotonic one, from one look to the next. */
export class ClockWatch {
  readonly #quiet = new Quiet(QUIET)
  /** By how much the wall clock is ahead of the monotonic one; undefined before the first look. */
  #drift: number | undefined

  /** @returns by how many milliseconds the wall clock has jumped since the last look, below zero back; null where that is not to be told */
  look({ wall, steady }: Now): number | null {
    const jump = wall - steady - (this.#drift ?? wall - steady)
    this.#drift = wall - steady
    if (Math.abs(jump) < JUMP || !this.#quiet.may(jump < 0 ? 'back' : 'forward', steady)) return null
    return jump
  }
}
