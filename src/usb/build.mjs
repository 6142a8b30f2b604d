// npm run usb: one executable that is the client and all that it needs but a C library: dist/usb/knockclient.
//
// Node's single executable application: a copy of the Node that runs this, with a start-up snapshot of the built client
// in it, the heap as it is once everything has been loaded. It starts from there. Nothing is fetched.

import { spawnSync } from 'node:child_process'
import {
  chmodSync,
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
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
/** By names that say nothing of the builder: they stay in the executable. */
const BLOB = 'knockclient.blob'
const CONFIG = 'knockclient.json'
/** What Node looks for in itself (its documentation, "Single executable applications"). */
const FUSE = 'NODE_SEA_FUSE_fce680ab2cc467b6e072b8b5df1996b2'
const RESOURCE = 'NODE_SEA_BLOB'
/** A snapshot takes a second, and LIEF some 4 s. */
const TIME_LIMIT = 120_000

/** A failure whose message is all that the user needs, with what to do about it. */
class Plain extends Error {
  /** @param {string} message @param {string} [hint] */
  constructor(message, hint) {
    super(message)
    this.hint = hint
  }
}

/** Makes the snapshot. @param {string} folder where to, and where its settings may be written @returns {Buffer} */
function snapshot(folder) {
  // `execArgvExtension` is for later Nodes, see withoutOptions().
  writeFileSync(
    join(folder, CONFIG),
    JSON.stringify({
      main: '/proc/self/fd/3',
      output: BLOB,
      disableExperimentalSEAWarning: true,
      useSnapshot: true,
      execArgvExtension: 'none',
    }),
  )
  // What the environment has Node load is not to be in the snapshot. Warnings: it says that some of Node's own modules are unverified in
  // snapshots, which test/e2e/usb.test.ts is for.
  const env = { ...process.env, NODE_OPTIONS: '', NODE_NO_WARNINGS: '1', KNOCKTURN_SNAPSHOT: '1' }
  const main = openSync(PROGRAM, 'r')
  const { status, stderr } = spawnSync(process.execPath, ['--experimental-sea-config', CONFIG], {
    cwd: folder,
    // By its name alone: it would stay in the executable with the path to it.
    argv0: 'node',
    env,
    stdio: ['ignore', 'ignore', 'pipe', main],
    encoding: 'utf8',
    timeout: TIME_LIMIT,
  })
  closeSync(main)
  if (status !== 0) throw new Plain(`the snapshot failed:\n${stderr}`)
  return readFileSync(join(folder, BLOB))
}

/** A copy of this Node, without its symbols where there is a strip(1): 13 MB less. @param {string} path */
function copyNode(path) {
  const node = readFileSync(process.execPath)
  if (!node.includes(FUSE))
    throw new Plain(
      `${process.execPath}: this Node is not in one file, but in a shared library`,
      'run this with a Node in one file, such as the one from nodejs.org',
    )
  writeFileSync(path, withoutOptions(node), { mode: 0o755 })
  chmodSync(path, 0o755)
  spawnSync('strip', [path], { timeout: TIME_LIMIT })
}

/**
 * Has a Node take no options from the environment, where those of a borrowed machine's developer would be obeyed: the variable whose name is
 * empty does not exist. @param {Buffer} node is changed
 */
function withoutOptions(node) {
  const [literal] = /[^\0]\0NODE_OPTIONS\0/.exec(node.toString('latin1')) ?? []
  // With its neighbour: in Node's own snapshot the name stands, too, behind its length.
  if (literal) node[node.indexOf(literal, 0, 'latin1') + 2] = 0
  return node
}

async function build() {
  // Elsewhere an executable has to be signed, and nobody has tried it.
  if (process.platform !== 'linux')
    throw new Plain(`expected Linux, got ${process.platform}`, 'use bin/knockclient with Node there')
  if (!existsSync(PROGRAM)) throw new Plain(`${PROGRAM}: the built program is missing`, 'run "npm run build"')
  mkdirSync(FOLDER, { recursive: true })
  // A folder of its own: two of these may run at a time.
  const folder = mkdtempSync(join(FOLDER, 'making-'))
  try {
    const blob = snapshot(folder)
    const next = join(folder, 'knockclient')
    copyNode(next)
    // LIEF, in there, does not know all of the notes in Node's executable, and says so on the console.
    const { warn } = console
    console.warn = () => {}
    await inject(next, RESOURCE, blob, { sentinelFuse: FUSE })
    console.warn = warn
    const { status, stderr } = spawnSync(next, ['--version'], {
      env: { ...process.env, NODE_OPTIONS: '--no-such-option' },
      encoding: 'utf8',
      timeout: TIME_LIMIT,
    })
    if (status !== 0)
      throw new Plain(`the executable does not start, or it obeys NODE_OPTIONS: ${stderr.trim()}`, 'run this with another Node')
    renameSync(next, EXECUTABLE)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
  const { size } = statSync(EXECUTABLE)
  process.stdout.write(`made ${EXECUTABLE}: ${Math.round(size / 1e6)} MB, with Node ${process.versions.node}\n`)
}

build().catch((error) => {
  if (!(error instanceof Plain)) throw error
  process.stderr.write(`usb: error: ${error.message}\n${error.hint ? `hint: ${error.hint}\n` : ''}`)
  process.exitCode = 1
})
