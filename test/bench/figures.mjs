// Figures: samples to a row, rows to a table.

/** Whether all is to be tried rather than measured: --short, see bench.mjs. */
export const SHORT = process.argv.includes('--short')

/** What to measure with, and what will do where all is only tried. @template T @param {T} full @param {T} short */
export const times = (full, short) => (SHORT ? short : full)

/**
 * @typedef {{what: string, value: number}} Floor what can't be beaten, in the row's own unit
 * @typedef {{what: string, met: boolean}} Target
 * @typedef {object} Row
 * @property {string} what
 * @property {number | null} value null: could not be measured, and `note` says why
 * @property {string} unit a rate where it ends in /s, else a time or a size: less is better
 * @property {Floor} [floor]
 * @property {number} [ratio] how many times the floor
 * @property {Target} [target]
 * @property {string | undefined} [note]
 */

/** @param {readonly number[]} samples @param {number} part 0 to 1: the least sample that this part of them does not exceed */
export function quantile(samples, part) {
  const sorted = [...samples].sort((a, b) => a - b)
  return sorted[Math.max(0, Math.ceil(part * sorted.length) - 1)] ?? NaN
}

/** @param {readonly number[]} samples */
export const median = (samples) => quantile(samples, 0.5)

/**
 * A row beside its floor, by their medians. Both are measured in turn, so that a machine that is busy for a while slows both.
 * @param {string} what @param {string} unit @param {readonly number[]} samples
 * @param {{what: string, samples: readonly number[]}} [floor]
 * @returns {Row}
 */
export function row(what, unit, samples, floor) {
  const value = median(samples)
  if (!floor) return { what, value, unit }
  const beside = median(floor.samples)
  return { what, value, unit, floor: { what: floor.what, value: beside }, ratio: cost(unit, value) / cost(unit, beside) }
}

/** A rate as its inverse, so that a ratio is always a multiple of the floor's cost. @param {string} unit @param {number} value */
const cost = (unit, value) => (unit.endsWith('/s') ? 1 / value : value)

/** @param {number} value three digits of it, which is more than two runs share */
const digits = (value) => Number(value.toPrecision(3)).toLocaleString('en-US', { maximumSignificantDigits: 3 })

/** @param {number} value @param {string} unit */
const say = (value, unit) => `${digits(value)} ${unit}`

/** The rows as lines of text, under their columns' names. @param {readonly Row[]} rows */
export function table(rows) {
  const lines = rows.map(({ what, value, unit, floor, ratio, target, note }) => [
    what,
    value === null ? (note ?? '') : say(value, unit),
    floor ? `${floor.what} ${say(floor.value, unit)}` : '',
    ratio === undefined ? '' : `× ${digits(ratio)}`,
    target ? `${target.what}: ${target.met ? 'met' : 'MISSED'}` : '',
  ])
  const all = [['', 'measured', 'beside', 'ratio', 'target'], ...lines]
  const widths = all[0]?.map((_, i) => Math.max(...all.map((line) => line[i]?.length ?? 0))) ?? []
  return all.map((line) =>
    line
      .map((cell, i) => (i % 2 ? cell.padStart(widths[i] ?? 0) : cell.padEnd(widths[i] ?? 0)))
      .join('  ')
      .trimEnd(),
  )
}

/** A program inside which we measure: hands what it measures to the bench, or why it can't. @param {() => Promise<unknown>} measure */
export async function report(measure) {
  try {
    process.stdout.write(JSON.stringify(await measure()))
  } catch (error) {
    // What it has begun would keep it alive.
    process.stderr.write(error instanceof Error ? error.message : String(error), () => process.exit(1))
  }
}
