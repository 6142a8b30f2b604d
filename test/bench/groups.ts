// The groups of rows. Each is measured by itself; what is measured inside a process of ours runs in its own, bundled as dist is, so
// that none runs in another's warm code.

import { execFile } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { BIN, ROOT } from '../root'
import { openRows, ruleRows } from './doors'
import { type Row, row, SHORT, times } from './figures'
import { fleetRows } from './fleet'
import { sshRows } from './ssh'
import { startRows } from './start'
import { statusRows } from './status'
import { wayRows } from './way'

const RUN = join(ROOT, 'test/run.mjs')
/** A program that takes longer than this many milliseconds is taken to hang. */
const LIMIT = 120_000

/** In the order of the table, with a folder for what they write. */
export const GROUPS: Record<string, (folder: string) => Promise<Row[]>> = {
  taps: () => inside('taps.ts'),
  keys: keyRows,
  load: loadRows,
  knock: () => inside('knock.ts'),
  ledger: (folder) => inside('ledger.ts', ownFolder(folder, 'ledger')),
  start: startRows,
  open: openRows,
  way: wayRows,
  rule: () => ruleRows('iptables'),
  element: () => ruleRows('nftables'),
  status: (folder) => statusRows(folder, (count) => inside('leases.ts', 'fill', `${count}`)),
  leases: leaseRows,
  fleet: fleetRows,
  ssh: sshRows,
  memory: (folder) => inside('memory.ts', ownFolder(folder, 'memory'), join(BIN, 'knockdaemon')),
}

// ---- programs inside which we measure

/** Runs a program of ours in a process of its own. */
async function inside(program: string, ...args: string[]) {
  const argv = ['--expose-gc', RUN, join(ROOT, 'test/bench', program), ...args, ...(SHORT ? ['--short'] : [])]
  const { stdout } = await promisify(execFile)(process.execPath, argv, { timeout: LIMIT }).catch((error) => {
    throw new Error(error.killed ? `${program} did not end after ${LIMIT / 1000} s` : error.stderr.trim() || error.message)
  })
  return JSON.parse(stdout)
}

function ownFolder(folder: string, name: string) {
  mkdirSync(join(folder, name))
  return join(folder, name)
}

// ---- many leases

/** Leases beside which one more is opened. */
const FEW_LEASES = 10
const MANY_LEASES = times(100_000, 100)
/** Beside the most of them, one more may cost so many times what it costs beside the fewest. */
const MOST_BESIDE = 1.5

/** A process for each: what fills the kernel's sets has used much memory, and starts other programs the slower for it. */
async function leaseRows(): Promise<Row[]> {
  const beside = async (count: number): Promise<number[]> => {
    await inside('leases.ts', 'fill', `${count}`)
    return inside('leases.ts', 'measure', `${count}`)
  }
  const [few, many] = [await beside(FEW_LEASES), await beside(MANY_LEASES)]
  const what = `nftables: a lease more, beside ${MANY_LEASES.toLocaleString('en')} others`
  const one = row(what, 'ms', many, { what: `beside ${FEW_LEASES}`, samples: few })
  return [{ ...one, target: { what: `≤ × ${MOST_BESIDE}`, met: (one.ratio ?? Infinity) <= MOST_BESIDE } }]
}

// ---- many keys

const COUNTS = times([10, 100, 1_000, 10_000], [10, 100])
const KEY_RUNS = times(3, 1)
/** With the most keys, a tap of one source may cost this many times what it costs with the fewest. */
const MOST_RATIO = 3

/** A process for each number of keys, in turn: the keys of one would disturb another's garbage collector. */
async function keyRows() {
  const runs: Record<string, number>[][] = COUNTS.map(() => [])
  for (let i = 0; i < KEY_RUNS; i++)
    for (const [at, count] of COUNTS.entries()) runs[at]?.push(await inside('keys.ts', String(count)))
  return Object.keys(runs[0]?.[0] ?? {}).flatMap((sources) => {
    const [fewest = [], ...more] = runs.map((run) => run.map((medians) => medians[sources] ?? NaN))
    const what = (count: number | undefined) => `a tap with ${count?.toLocaleString('en-US')} keys, ${sources}`
    const floor = { what: `${COUNTS[0]} keys`, samples: fewest }
    const rows = [row(what(COUNTS[0]), 'ns', fewest), ...more.map((samples, i) => row(what(COUNTS[i + 1]), 'ns', samples, floor))]
    const last = rows.at(-1) as Row
    if (sources === 'one source') last.target = { what: `≤ × ${MOST_RATIO}`, met: (last.ratio ?? Infinity) <= MOST_RATIO }
    return rows
  })
}

/** Starts of a daemon with many keys: each is a cold start. */
const LOADS = times(4, 1)
const LOADED = times(10_000, 100)
const MOST_LOAD_MS = 3_000
const MOST_HELD_UP_MS = 20

async function loadRows(folder: string) {
  const keys = join(folder, 'keys')
  await inside('load.ts', 'make', keys, String(LOADED))
  const runs: Record<string, { ms: number; heldUp: number }>[] = []
  for (let i = 0; i < LOADS; i++) runs.push(await inside('load.ts', 'measure', keys, String(LOADED)))
  const load = row(
    `${LOADED.toLocaleString('en-US')} keys: from files to table`,
    'ms',
    runs.map((run) => run.load.ms),
    { what: 'files read', samples: runs.map((run) => run.floor.ms) },
  )
  // The least of the runs' longest: what we cause happens in each of them, what another program causes happens in some.
  const heldUp = (what: string, part: string) => {
    const ms = Math.min(...runs.map((run) => run[part].heldUp))
    return { ...row(what, 'ms', [ms]), target: { what: `≤ ${MOST_HELD_UP_MS} ms`, met: ms <= MOST_HELD_UP_MS } }
  }
  return [
    { ...load, target: { what: `< ${MOST_LOAD_MS} ms`, met: (load.value ?? Infinity) < MOST_LOAD_MS } },
    heldUp(`  longest block of the event loop, least of ${LOADS} runs`, 'load'),
    heldUp('  longest block when a window begins', 'turn'),
  ]
}
