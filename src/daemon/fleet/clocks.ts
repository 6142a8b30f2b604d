import type { Now } from '../../gate/clock'

/** Beats of which the least delay is taken: some hiccups of etcd are outlasted. */
const BEATS = 8

/** How far the clock of another gateway is ahead, by what it says at each beat. Delay makes it seem less: the least of some beats counts. */
export class ClockOfOther {
  /** Their steady clock less ours, at each receipt. */
  #delays: number[] = []
  /** Their wall clock less their steady one. */
  #drift = 0

  /** Hears a beat. @param said both clocks of the other one, at sending @param now at receipt */
  hear(said: Now, now: Now): void {
    this.#drift = said.wall - said.steady
    this.#delays = [...this.#delays, said.steady - now.steady].slice(-BEATS)
  }

  /** Forgets what was heard: it has begun anew, or was quiet for long, and may have slept. */
  forget(): void {
    this.#delays = []
  }

  /** By how many milliseconds it is ahead, below zero behind; null: it has not been heard. */
  ahead({ wall, steady }: Now): number | null {
    if (this.#delays.length === 0) return null
    return this.#drift + Math.max(...this.#delays) - (wall - steady)
  }
}

/** The clock of another gateway. */
export interface OtherClock {
  readonly name: string
  /** Milliseconds by which it is ahead of this one, below zero behind. */
  readonly offset: number
  readonly synchronised: boolean | null
}

/** What becomes of a gateway by its clock. Each in a line; null: nothing. */
export interface ClockJudgement {
  /** Why it accepts nothing. */
  readonly stops: string | null
  /** What is to be told, though it goes on. */
  readonly says: string | null
}

const WELL: ClockJudgement = { stops: null, says: null }

/**
 * Judges this gateway's clock by those of the others. Of three and more, whoever is off the median by a window stops. Of two nobody knows which is
 * right: the one stops that its kernel calls unsynchronised.
 * @param synchronised whether this one is; null: nobody says
 * @param others those that speak now
 * @param window milliseconds
 */
export function judgeClocks(synchronised: boolean | null, others: readonly OtherClock[], window: number): ClockJudgement {
  const [other] = others
  if (!other) return WELL
  return others.length === 1 ? judgeTwo(synchronised, other, window) : judgeMany(others, window)
}

function judgeTwo(
  synchronised: boolean | null,
  { name, offset, synchronised: their }: OtherClock,
  window: number,
): ClockJudgement {
  if (Math.abs(offset) < window) return WELL
  const differ = `the clocks differ: this one is ${from(-offset)} that of ${name}`
  // Where neither is known to be wrong, both say so and go on: what is spent at one is spent at the other all the same.
  const isWrong = synchronised === false || (synchronised === null && their === true)
  return isWrong
    ? { stops: `${differ}, and it is not synchronised`, says: null }
    : { stops: null, says: `${differ}, and nobody knows which is right` }
}

function judgeMany(others: readonly OtherClock[], window: number): ClockJudgement {
  const median = medianOf([0, ...others.map(({ offset }) => offset)])
  if (Math.abs(median) >= window)
    return { stops: `this clock is ${from(-median)} the median of ${others.length + 1} gateways`, says: null }
  const far = others.filter(({ offset }) => Math.abs(offset - median) >= window)
  const names = far.map(({ name, offset }) => `${name} (${formatOffset(offset - median)})`).join(', ')
  return far.length === 0 ? WELL : { stops: null, says: `clocks are off the median of ${others.length + 1} gateways: ${names}` }
}

/** Of an even number, what is between the two in the middle: where half of them are far off, none is taken for right. */
function medianOf(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  const half = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2
}

const from = (ms: number): string => `${formatOffset(ms)}${ms < 0 ? '' : ' of'}`

/** By how much a clock is off, in words. @param ms milliseconds, above zero ahead */
export const formatOffset = (ms: number): string => `${(Math.abs(ms) / 1_000).toFixed(1)} s ${ms < 0 ? 'behind' : 'ahead'}`

/**
 * By how many milliseconds the latest clock is ahead by which a knock may have been taken for timely; 0: none is ahead. Whoever is near the median, as
 * this gateway is, is not two windows from it.
 * @param window milliseconds
 */
export const latestOf = (others: readonly Pick<OtherClock, 'offset'>[], window: number): number =>
  Math.max(0, ...others.map(({ offset }) => offset).filter((offset) => offset < 2 * window))

/** Milliseconds by which two clocks that agree may differ: delays on the way are among it. */
const AGREE = 2_000

/**
 * Whether this gateway's clock may say from when on the fleet knows the past: it is known to be synchronised, and another gateway's agrees with it.
 * @param window milliseconds
 */
export function maySetBase(synchronised: boolean | null, others: readonly OtherClock[], window: number): boolean {
  const near = Math.min(AGREE, window / 2)
  return synchronised === true && others.some(({ offset }) => Math.abs(offset) <= near)
}
