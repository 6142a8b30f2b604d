// npm run test:full: a bare Debian that boots, installed by the manual, and the tests by each newer Node in it.

import { spawnSync } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { VERSIONS } from '../nodes.mjs'

/** Two runs at the same time share one image. The lock is beside the images' folder, which may be deleted. */
const LOCK = '/var/cache/knockturn.lock'
/** The machine itself has Debian's own 20. */
const NEWER = VERSIONS.filter((version) => !version.startsWith('20.'))
/** On the newest, the tests of all rooms, by the beginnings of their files' names: what Node has changed since is in there. */
const NEWEST = NEWER.at(-1)
const ROOMS = ['browser', 'cli', 'client', 'daemon', 'gate', 'keys', 'protocol', 'system'].map((room) => `test/${room}/`)
/** On the others, those of the programs as they are called: all of it twice more takes as long as the rest of npm run test:full. */
const PROGRAMS = ['test/cli/daemon', 'test/cli/client.', 'test/cli/knockturn']
const E2E = ['open', 'once', 'round-trip', 'replay', 'passcode', 'datagram', 'privileges'].map(
  (name) => `test/e2e/${name}.test.ts`,
)
/** Knocks at each fleet that is attacked: more than npm test has time for. */
const FLEET_KNOCKS = '300'
/** The tests that do not, and why. */
const LEFT_OUT = [
  `the tests of all rooms, but for ${PROGRAMS.join(', ')}, which run on ${NEWEST} only`,
  'test/replay, which attacks a model and does not depend on Node',
  'test/docs, floors, links, systemd and nodes, which check texts and give the same with every Node',
  'test/bench and fuzz, which are tools for development',
  `of test/e2e all but ${E2E.length} files, which are about kernels, firewalls and networks: npm test runs them, with the programs on each Node`,
]

/** A mount and process namespace with this machine's network: what fetches something is mounted and ends in there. @param {string[]} argv */
const apart = (argv) => {
  const furnish = 'mount -t proc proc /proc && exec "$@"'
  return ['unshare', '--mount', '--pid', '--fork', '--kill-child', 'sh', '-c', furnish, 'sh', ...argv]
}

/**
 * @typedef {{label: string, passed: number, failed: number, skipped: number, failures: string[]}} Result
 * @param {{
 *   scratch: string,
 *   step: (argv: string[], options?: {show: boolean}) => Promise<void>,
 *   enter: (argv: string[]) => string[],
 *   projects: (names: string[], enter: (argv: string[]) => string[], options: {label: string, more?: string[], env?: NodeJS.ProcessEnv}) => Promise<Result>,
 * }} tools bootstrap.mjs's own: a temporary folder; a step of the preparation, which throws if it fails; the way into
 *   namespaces; one of vitest's projects, run and counted
 * @returns {Promise<Result[]>}
 */
export async function full({ scratch, step, enter, projects }) {
  const node = process.execPath
  const installed = join(scratch, 'installed')
  const group = `knockturn-${process.pid}`
  const results = []
  await step(apart(['flock', LOCK, node, 'test/full/image.mjs']), { show: true })
  await step(apart([node, 'test/full/install.mjs', installed]))
  await step(['npm', 'run', '--silent', 'deb'])
  try {
    const env = { KNOCKTURN_INSTALLED: installed, KNOCKTURN_CGROUP: group }
    results.push(await projects(['full'], enter, { label: 'machine', env }))
    const more = ['test/e2e/attacks/fleet.test.ts']
    results.push(
      await projects(['e2e'], enter, { label: 'attacks on a fleet', more, env: { KNOCKTURN_FLEET_KNOCKS: FLEET_KNOCKS } }),
    )
    for (const version of NEWER) {
      const workshop = (/** @type {string[]} */ [, ...argv]) => enter([node, 'test/full/workshop.mjs', version, ...argv])
      const more = [...(version === NEWEST ? ROOMS : PROGRAMS), '--maxWorkers=2']
      results.push(await projects(['unit', 'long'], workshop, { label: `unit on Node ${version}`, more }))
      results.push(await projects(['e2e'], workshop, { label: `e2e on Node ${version}`, more: E2E }))
    }
  } finally {
    await discardGroup(group, join(scratch, 'groups'))
  }
  for (const what of LEFT_OUT) console.log(`not run on each Node: ${what}`)
  return results
}

/** Removes the groups that the machines' systemds have made, when no process is left in them. @param {string} group @param {string} place */
async function discardGroup(group, place) {
  mkdirSync(place, { recursive: true })
  const script = 'mount -t cgroup2 none "$0" && { test ! -e "$0/$1" || find "$0/$1" -depth -type d -exec rmdir {} +; }'
  for (let tries = 50; tries > 0; tries--) {
    if (spawnSync('unshare', ['--mount', 'sh', '-c', script, place, group], { stdio: 'ignore' }).status === 0) return
    await sleep(100)
  }
  console.error(`cannot remove the cgroup ${group}`)
}
