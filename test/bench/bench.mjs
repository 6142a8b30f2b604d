// npm run bench: every figure that Knockturn promises, beside the floor that it can't beat, in one table.
//
//     node test/bench/bench.mjs [--json] [--only GROUP,...]
//
// Run by test/bootstrap.mjs, in namespaces of its own. Each group of rows is a process of its own, so that none runs in
// another's warm code; what is measured inside a process is bundled as dist is.

import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { cpus, loadavg, tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { openRows, ruleRows } from './doors.mjs'
import { row, table } from './figures.mjs'
import { sshRows } from './ssh.mjs'
import { startRows } from './start.mjs'

const HERE = fileURLToPath(new URL('.', import.meta.url))
const ROOT = fileURLToPath(new URL('../../', import.meta.url))
/** A program that takes longer than this many milliseconds hangs. */
const LIMIT = 120_000

/** @typedef {import('./figures.mjs').Row} Row */

/** The groups of rows, in the order of the table. @type {Record<string, () => Row[] | Promise<Row[]>>} */
const GROUPS = {
  taps: () => inside('taps.ts'),
  keys: keyRows,
  load: loadRows,
  knock: () => inside('knock.ts'),
  ledger: () => inside('ledger.ts', ownFolder('ledger')),
  start: startRows,
  open: openRows,
  rule: ruleRows,
  ssh: sshRows,
  memory: () => inside('memory.ts', join(ROOT, 'bin/knockdaemon'), ownFolder('memory')),
}

// ---- programs inside which we measure

const folder = mkdtempSync(join(tmpdir(), 'knockturn-bench-'))

/** Runs a program of ours in a process of its own, bundled with the flags of the build. @param {string} program @param {string[]} args */
function inside(program, ...args) {
  const { scripts } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'))
  const flags = scripts.build.split(' ').filter((/** @type {string} */ word) => /^--(?!out)/.test(word))
  const bundle = join(folder, program.replace('.ts', '.cjs'))
  execFileSync(join(ROOT, 'node_modules/.bin/esbuild'), [join(HERE, program), ...flags, `--outfile=${bundle}`], {
    stdio: 'inherit',
  })
  const output = execFileSync(process.execPath, ['--expose-gc', bundle, ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
    timeout: LIMIT,
    encoding: 'utf8',
  })
  return output ? JSON.parse(output) : []
}

/** @param {string} name */
function ownFolder(name) {
  mkdirSync(join(folder, name))
  return join(folder, name)
}

// ---- many keys

const COUNTS = [10, 100, 1_000, 10_000]
const KEY_RUNS = 3
/** With the most keys a tap of one source costs at most so many times what it costs with the fewest. */
const MOST_RATIO = 3

/** A process for each number of keys, in turn: the keys of one would be in the way of another's garbage collector. */
function keyRows() {
  /** @type {Record<string, number>[][]} */
  const runs = COUNTS.map(() => [])
  for (let i = 0; i < KEY_RUNS; i++) for (const [at, count] of COUNTS.entries()) runs[at]?.push(inside('keys.ts', String(count)))
  return Object.keys(runs[0]?.[0] ?? {}).flatMap((sources) => {
    const [fewest = [], ...more] = runs.map((run) => run.map((medians) => medians[sources] ?? NaN))
    const what = (/** @type {number | undefined} */ count) => `a tap with ${count?.toLocaleString('en-US')} keys, ${sources}`
    const floor = { what: `${COUNTS[0]} keys`, samples: fewest }
    const rows = [row(what(COUNTS[0]), 'ns', fewest), ...more.map((samples, i) => row(what(COUNTS[i + 1]), 'ns', samples, floor))]
    const last = /** @type {Row} */ (rows.at(-1))
    if (sources === 'one source') last.target = { what: `≤ × ${MOST_RATIO}`, met: (last.ratio ?? Infinity) <= MOST_RATIO }
    return rows
  })
}

/** Starts of a daemon with many keys: each is a cold one. */
const LOADS = 4
const MOST_LOAD_MS = 3_000
const MOST_HELD_UP_MS = 20

function loadRows() {
  const keys = join(folder, 'keys')
  inside('load.ts', 'make', keys)
  const runs = Array.from({ length: LOADS }, () => inside('load.ts', 'measure', keys))
  const load = row(
    '10,000 keys: files to table',
    'ms',
    runs.map((run) => run.load.ms),
    { what: 'files read', samples: runs.map((run) => run.floor.ms) },
  )
  // The least of the runs' longest: what is our doing happens in each of them, what another program does happens in some.
  const heldUp = (/** @type {string} */ what, /** @type {string} */ part) => {
    const ms = Math.min(...runs.map((run) => run[part].heldUp))
    return { ...row(what, 'ms', [ms]), target: { what: `≤ ${MOST_HELD_UP_MS} ms`, met: ms <= MOST_HELD_UP_MS } }
  }
  return [
    { ...load, target: { what: `< ${MOST_LOAD_MS} ms`, met: (load.value ?? Infinity) < MOST_LOAD_MS } },
    heldUp(`  longest hold-up of the loop, least of ${LOADS} runs`, 'load'),
    heldUp('  longest hold-up as a window turns', 'turn'),
  ]
}

// ---- the table

/**
 * Measures a group; one that fails has a row that says so, and the others go on.
 * @param {string} name @param {() => Row[] | Promise<Row[]>} measure @returns {Promise<Row[]>}
 */
async function rowsOf(name, measure) {
  const began = performance.now()
  try {
    return await measure()
  } catch (error) {
    console.error(error)
    process.exitCode = 1
    return [{ what: name, value: null, unit: '', note: 'failed' }]
  } finally {
    console.error(`${name}: ${((performance.now() - began) / 1000).toFixed(1)} s`)
  }
}

const names = Object.keys(GROUPS)
const { values: options } = parseArgs({ options: { json: { type: 'boolean' }, only: { type: 'string', default: names.join() } } })
const wanted = options.only.split(',')
const unknown = wanted.filter((name) => !names.includes(name))
if (unknown.length > 0) {
  console.error(`--only expected some of ${names.join()}, got ${unknown.join()}`)
  process.exitCode = 2
} else {
  // What else was running: with much of it, times are the machine's, and ratios to peers that only wait are no better.
  const machine = { node: process.version, cores: cpus().length, cpu: cpus()[0]?.model, load: loadavg()[0] }
  /** @type {Row[]} */
  const rows = []
  for (const [name, measure] of Object.entries(GROUPS)) if (wanted.includes(name)) rows.push(...(await rowsOf(name, measure)))
  if (options.json) console.log(JSON.stringify({ ...machine, rows }, null, 2))
  else
    console.log(
      [...table(rows), '', `node ${machine.node}, ${machine.cores} × ${machine.cpu}, load ${machine.load} before`].join('\n'),
    )
}
rmSync(folder, { recursive: true, force: true })
