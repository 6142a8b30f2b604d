import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vitest/config'

/** Attacks in one process and programs as they are called: unit tests, too, but they take minutes. */
const LONG = ['test/replay/**/*.test.ts', 'test/cli/**/*.test.ts']
const E2E = ['test/e2e/**/*.test.ts']
const FULL = ['test/full/**/*.test.ts']
/** Floods: as much as this machine can send; and scans among which users are to be heard. What is beside them loses packets, and so do they. */
const ALONE = [
  'test/e2e/attacks/flood.test.ts',
  'test/e2e/attacks/scan.test.ts',
  // It looks for what is left of processes, namespaces and files: those of other tests come and go.
  'test/e2e/live-traces.test.ts',
]

/** Milliseconds after which a test hangs, on the busiest machine. */
const LIMITS = { testTimeout: 300_000, hookTimeout: 300_000 }
/** Files of e2e at a time, and of machines that boot, on two cores: mostly they wait. */
const SIDE_BY_SIDE = 5
const MACHINES = 3

/**
 * Attempts at a test after one that has failed. Many have real processes, packets and clocks, and a machine that others share may stand still for
 * seconds. What held at the second attempt only is told by told.mjs.
 */
const MORE_ATTEMPTS = 1

const project = (name: string, include: string[], exclude: string[], maxWorkers: number, retry = MORE_ATTEMPTS) => ({
  extends: true as const,
  test: { name, include, exclude, maxWorkers, retry },
})

/** `unit` and `long` need nothing but Node; `e2e` and `alone` work on real firewalls, `full` boots machines. test/bootstrap.mjs says in which order. */
export default defineConfig({
  root: fileURLToPath(new URL('..', import.meta.url)),
  test: {
    ...LIMITS,
    projects: [
      // What decides by an argument comes out the same each time.
      project('unit', ['test/**/*.test.ts'], [...E2E, ...LONG, ...FULL], 2, 0),
      project('long', LONG, [], 2),
      project('e2e', E2E, ALONE, SIDE_BY_SIDE),
      project('alone', ALONE, [], 1),
      // Its machines go through one life each: no step can be taken twice.
      project('full', FULL, [], MACHINES, 0),
    ],
  },
})
