// npm run bench: every figure that Knockturn promises, with the floor that it cannot beat, in one table.
//
//     node test/run.mjs test/bench/bench.ts [--json] [--short] [--only GROUP,...]
//
// --short takes one small sample of each, to see that everything works: its figures mean nothing. Run by test/bootstrap.mjs, in namespaces of
// its own. Exit status 1 if a group has failed; the other groups still run.

import { mkdtempSync, rmSync } from 'node:fs'
import { cpus, loadavg, tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { type Row, SHORT, table } from './figures'
import { GROUPS } from './groups'

/** What has failed, in one line for each group. */
const failures: string[] = []

/** An error's message, without where it was thrown. */
const inOneLine = (text: string) =>
  text
    .replace(/\n\s+at .*/g, '')
    .trim()
    .replace(/\s*\n\s*/g, '; ')

/** Measures a group; one that fails has a row that shows this. */
async function rowsOf(name: string, folder: string): Promise<Row[]> {
  const began = performance.now()
  try {
    return (await GROUPS[name]?.(folder)) ?? []
  } catch (error) {
    failures.push(`${name} failed: ${inOneLine(error instanceof Error ? error.message : String(error))}`)
    return [{ what: name, value: null, unit: '', note: 'failed' }]
  } finally {
    console.error(`${name}: ${((performance.now() - began) / 1000).toFixed(1)} s`)
  }
}

const names = Object.keys(GROUPS)
const { values: options } = parseArgs({
  options: { json: { type: 'boolean' }, short: { type: 'boolean' }, only: { type: 'string', default: names.join() } },
})
const wanted = options.only.split(',')
const unknown = wanted.filter((name) => !names.includes(name))
if (unknown.length > 0) {
  console.error(`no group ${unknown.join()} (there are: ${names.join()})`)
  process.exitCode = 2
} else {
  bench()
}

async function bench(): Promise<void> {
  // What else was running: with much of it, times depend on the machine, and ratios to peers that only wait are no better.
  const machine = { node: process.version, cores: cpus().length, cpu: cpus()[0]?.model, load: loadavg()[0] }
  const folder = mkdtempSync(join(tmpdir(), 'knockturn-bench-'))
  const rows: Row[] = []
  for (const name of names) if (wanted.includes(name)) rows.push(...(await rowsOf(name, folder)))
  // Figures that mean nothing meet or miss no target.
  if (SHORT) for (const row of rows) delete row.target
  rmSync(folder, { recursive: true, force: true })
  const missed = rows.filter(({ target }) => target && !target.met).length
  const skipped = rows.filter(({ value, note }) => value === null && note !== 'failed').length
  if (options.json) console.log(JSON.stringify({ ...machine, rows }, null, 2))
  else
    console.log(
      [
        ...table(rows),
        '',
        `node ${machine.node}, ${machine.cores} × ${machine.cpu}, load before: ${machine.load}`,
        `figures: ${rows.length - skipped - failures.length}; not measured: ${skipped}; ${SHORT ? '--short: the figures mean nothing' : `targets missed: ${missed}`}`,
      ].join('\n'),
    )
  for (const failure of failures) console.error(`bench: error: ${failure}`)
  if (failures.length > 0) process.exitCode = 1
}
