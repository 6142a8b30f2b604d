import { expect, it } from 'vitest'
import { type Cell, cellName, drawMatrix } from './matrix'

const ROWS = ['open', 'close']
const COLUMNS = ['iptables', 'dry-run']
const all = (cell: Cell = 'held') =>
  new Map<string, Cell>(ROWS.flatMap((row) => COLUMNS.map((column) => [cellName(row, column), cell])))

it('a table whose tests have all run is complete, whatever came of them', () => {
  const cells = all().set('close: iptables', 'failed').set('close: dry-run', { nothing: 'nothing is open' })
  expect(drawMatrix(ROWS, COLUMNS, cells)).toEqual({
    text: `
       iptables  dry-run
open   ✓         ✓
close  ✗         — 1
1: nothing is open`.slice(1),
    empty: [],
  })
})

it('a cell without a test is empty, and so is each of a new backend and of a new row', () => {
  const cells = all()
  cells.delete('close: dry-run')
  expect(drawMatrix(ROWS, COLUMNS, cells).empty).toEqual(['close: dry-run'])
  expect(drawMatrix(ROWS, [...COLUMNS, 'new'], all()).empty).toEqual(['open: new', 'close: new'])
  expect(drawMatrix([...ROWS, 'lock'], COLUMNS, all()).empty).toEqual(['lock: iptables', 'lock: dry-run'])
})

it('a dash that is not explained is empty', () => {
  expect(drawMatrix(ROWS, COLUMNS, all().set('open: dry-run', { nothing: '' })).empty).toEqual(['open: dry-run'])
})

it('dashes for the same reason have the same footnote', () => {
  expect(drawMatrix(ROWS, COLUMNS, all({ nothing: 'no kernel' })).text.match(/^\d: .*$/gm)).toEqual(['1: no kernel'])
})
