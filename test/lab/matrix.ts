/* What every backend has to do, as a table of rows and columns in which nothing may be left out. */

/** How a cell's test has ended: it held, it did not, or there is nothing that could hold, and why. */
export type Cell = 'held' | 'failed' | { readonly nothing: string }

/** A table of what was tested. */
export interface Matrix {
  /** To be printed, with a footnote for each dash. */
  readonly text: string
  /** Cells in which no test has run to its end, as `row: column`: the table is complete when there are none. */
  readonly empty: readonly string[]
}

/** The name of a cell, and of its test. */
export const cellName = (row: string, column: string): string => `${row}: ${column}`

/**
 * Draws a table.
 * @param cells what has come of tests, by {@link cellName}
 */
export function drawMatrix(rows: readonly string[], columns: readonly string[], cells: ReadonlyMap<string, Cell>): Matrix {
  const notes: string[] = []
  const empty: string[] = []
  const signOf = (row: string, column: string): string => {
    const name = cellName(row, column)
    const cell = cells.get(name)
    if (cell === 'held') return '✓'
    if (cell === 'failed') return '✗'
    // A dash that nobody explains is a gap.
    if (!cell?.nothing) {
      empty.push(name)
      return '?'
    }
    if (!notes.includes(cell.nothing)) notes.push(cell.nothing)
    return `— ${notes.indexOf(cell.nothing) + 1}`
  }
  const table = [['', ...columns], ...rows.map((row) => [row, ...columns.map((column) => signOf(row, column))])]
  const widths = ['', ...columns].map((_, i) => Math.max(...table.map((line) => line[i]?.length ?? 0)))
  const lines = table.map((line) =>
    line
      .map((text, i) => text.padEnd(widths[i] ?? 0))
      .join('  ')
      .trimEnd(),
  )
  return { text: [...lines, ...notes.map((note, i) => `${i + 1}: ${note}`)].join('\n'), empty }
}
