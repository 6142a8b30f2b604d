// Figures: samples to a row, rows to a table.

/** Whether everything is only tried, not measured: --short, see bench.ts. */
export const SHORT = process.argv.includes('--short')

/** Picks the number of samples: to measure with, or only to try. */
export const times = <T>(full: T, short: T) => (SHORT ? short : full)

/** what cannot be beaten, in the row's own unit */
export type Floor = { what: string; value: number }
export type Target = { what: string; met: boolean }
export interface Row {
  what: string
  /** null: could not be measured, and `note` has the reason */
  value: number | null
  /** a rate if it ends in /s, otherwise a time or a size: less is better */
  unit: string
  floor?: Floor
  /** how many times the floor */
  ratio?: number
  target?: Target
  note?: string | undefined
}

/** @param part 0 to 1: the least sample that this part of them does not exceed */
export function quantile(samples: readonly number[], part: number) {
  const sorted = [...samples].sort((a, b) => a - b)
  return sorted[Math.max(0, Math.ceil(part * sorted.length) - 1)] ?? NaN
}

export const median = (samples: readonly number[]) => quantile(samples, 0.5)

/** A row with its floor, by their medians. Both are measured in turn, so that a machine that is busy for a while slows both. */
export function row(
  what: string,
  unit: string,
  samples: readonly number[],
  floor?: { what: string; samples: readonly number[] },
): Row {
  const value = median(samples)
  if (!floor) return { what, value, unit }
  const beside = median(floor.samples)
  return { what, value, unit, floor: { what: floor.what, value: beside }, ratio: cost(unit, value) / cost(unit, beside) }
}

/** A rate as its inverse, so that a ratio is always a multiple of the floor's cost. */
const cost = (unit: string, value: number) => (unit.endsWith('/s') ? 1 / value : value)

/** @param value three digits of it, which is more than two runs share */
const digits = (value: number) => Number(value.toPrecision(3)).toLocaleString('en-US', { maximumSignificantDigits: 3 })

const say = (value: number, unit: string) => `${digits(value)} ${unit}`

/** The rows as lines of text, under their columns' names. */
export function table(rows: readonly Row[]) {
  const lines = rows.map(({ what, value, unit, floor, ratio, target, note }) => [
    what,
    value === null ? (note ?? '') : say(value, unit),
    floor ? `${floor.what} ${say(floor.value, unit)}` : '',
    ratio === undefined ? '' : `× ${digits(ratio)}`,
    target ? `${target.what}: ${target.met ? 'met' : 'MISSED'}` : '',
  ])
  const all = [['', 'measured', 'compared with', 'ratio', 'target'], ...lines]
  const widths = all[0]?.map((_, i) => Math.max(...all.map((line) => line[i]?.length ?? 0))) ?? []
  return all.map((line) =>
    line
      .map((cell, i) => (i % 2 ? cell.padStart(widths[i] ?? 0) : cell.padEnd(widths[i] ?? 0)))
      .join('  ')
      .trimEnd(),
  )
}

/** A program inside which we measure: passes its rows to the bench, or the reason why it cannot. */
export async function report(measure: () => Promise<unknown>) {
  try {
    process.stdout.write(JSON.stringify(await measure()))
  } catch (error) {
    // What it has started would keep it alive.
    process.stderr.write(error instanceof Error ? error.message : String(error), () => process.exit(1))
  }
}
