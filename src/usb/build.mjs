// npm run usb: one executable that is the client and all that it needs but a C library: dist/usb/knockclient.
//
// Node's single executable application: a copy of the Node that runs this, with a start-up snapshot of the built client
// in it, the heap as it is once everything has been loaded. It starts from there. Nothing is fetched.

import { spawnSync } from 'node:child_process'
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
// @ts-expect-error it has no types
import { inject } from 'postject'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const PROGRAM = join(ROOT, 'dist', 'knockclient.cjs')
const FOLDER = join(ROOT, 'dist', 'usb')
const EXECUTABLE = join(FOLDER, 'knockclient')
/** What Node looks for in itself (its documentation, "Single executable applications"). */
const FUSE = 'NODE_SEA_FUSE_fce680ab2cc467b6e072b8b5df1996b2'
const RESOURCE = 'NODE_SEA_BLOB'
/** A snapshot takes a second, and LIEF some 4 s. */
const TIME_LIMIT = 120_000

/** A failure whose message is all that the user needs. */
class Plain extends Error {}

/** Makes the snapshot. @param {string} blob where to @param {string} config where its settings may be written */
function snapshot(blob, config) {
  writeFileSync(config, JSON.stringify({ main: PROGRAM, output: blob, disableExperimentalSEAWarning: true, useSnapshot: true }))
  // What the environment has Node load is not to be in the snapshot. Warnings: it says that some of Node's own modules are unverified in
  // snapshots, which test/e2e/usb.test.ts is for.
  const env = { ...process.env, NODE_OPTIONS: '', NODE_NO_WARNINGS: '1', KNOCKTURN_SNAPSHOT: '1' }
  const { status, stderr } = spawnSync(process.execPath, ['--experimental-sea-config', config], {
    env,
    encoding: 'utf8',
    timeout: TIME_LIMIT,
  })
  if (status !== 0) throw new Plain(`the snapshot has failed:\n${stderr}`)
}

/** A copy of this Node, without its symbols where there is a strip(1): 13 MB less. @param {string} path */
function copyNode(path) {
  copyFileSync(process.execPath, path)
  chmodSync(path, 0o755)
  if (!readFileSync(path).includes(FUSE))
    throw new Plain(
      `${process.execPath}: expected a Node in one file, as from nodejs.org, got one that lies in a shared library: run this with another Node`,
    )
  spawnSync('strip', [path], { timeout: TIME_LIMIT })
}

async function build() {
  // Elsewhere an executable has to be signed, and nobody has tried it.
  if (process.platform !== 'linux')
    throw new Plain(`expected Linux, got ${process.platform}: use bin/knockclient with Node there`)
  if (!existsSync(PROGRAM)) throw new Plain(`${PROGRAM}: expected the built program, and it is missing: run "npm run build"`)
  mkdirSync(FOLDER, { recursive: true })
  const [blob, config, next] = ['blob', 'json', 'new'].map((suffix) => join(FOLDER, `knockclient.${suffix}`))
  try {
    snapshot(blob, config)
    copyNode(next)
    // LIEF, in there, does not know all of the notes in Node's executable, and says so on the console.
    const { warn } = console
    console.warn = () => {}
    await inject(next, RESOURCE, readFileSync(blob), { sentinelFuse: FUSE })
    console.warn = warn
    const { status, stderr } = spawnSync(next, ['--version'], { encoding: 'utf8', timeout: TIME_LIMIT })
    if (status !== 0) throw new Plain(`the executable does not start: ${stderr}`)
    renameSync(next, EXECUTABLE)
  } finally {
    for (const path of [blob, config, next]) rmSync(path, { force: true })
  }
  const { size } = statSync(EXECUTABLE)
  process.stdout.write(`made ${EXECUTABLE}: ${Math.round(size / 1e6)} MB, with Node ${process.versions.node} in it\n`)
}

build().catch((error) => {
  if (!(error instanceof Plain)) throw error
  process.stderr.write(`usb: error: ${error.message}\n`)
  process.exitCode = 1
})
