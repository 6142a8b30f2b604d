// npm run build: fills dist. Prints nothing unless a source is wrong, or the programs can't be run here.

import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { bundleForBrowsers, bundleForNode } from './bundle.mjs'
import { copyrightOf } from './licences.mjs'

/** The programs that bin/ starts. */
const PROGRAMS = ['knockturn', 'knockclient', 'knockdaemon']

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const LAUNCH = join(ROOT, 'bin/launch.cjs')

/** Runs a program once and has it keep what has been compiled for that. @param {string} program @param {string[]} args @param {string} [input] */
function keepCompiled(program, args, input = '') {
  // What the environment has Node load, or how, is not to be in it; and nobody's keys are looked for.
  const env = { PATH: process.env.PATH, HOME: '/nonexistent' }
  const { status, stdout, stderr } = spawnSync(process.execPath, [LAUNCH, program, ...args], { env, input, encoding: 'utf8' })
  if (status !== 0) throw new Error(`${program} ${args.join(' ')} exited with ${status}: ${stderr}`)
  return stdout
}

/** Has each program do what it mostly does: a key is made, a knock printed, and heard. */
function keepAllCompiled() {
  const folder = mkdtempSync(join(tmpdir(), 'knockturn-build-'))
  try {
    const key = join(folder, 'keys', 'gate.key')
    const config = join(folder, 'knockturn.toml')
    writeFileSync(
      config,
      'server = "gate.example"\nkeys = "keys"\n[taps]\nsource = "stdin"\n[firewall]\nbackend = "dry-run"\n[ledger]\npath = "ledger"\n',
      // Whatever the umask: what others may write, the programs refuse.
      { mode: 0o600 },
    )
    mkdirSync(dirname(key), { mode: 0o700 })
    keepCompiled('knockturn', ['key', 'new', 'gate', '--services', '22/tcp', '--host', '127.0.0.1', '--config', config])
    const ports = keepCompiled('knockclient', ['-k', key, '-r', '127.0.0.1', '-p', '22', '--dry-run']).trim().split('\n')
    const taps = ports.map(
      (port) => `KNOCK: IN=lo OUT= SRC=127.0.0.1 DST=127.0.0.1 LEN=60 TTL=64 ID=0 DF PROTO=TCP SPT=1024 DPT=${port} SYN`,
    )
    keepCompiled('knockdaemon', ['--config', config, '--new-ledger', '--allow-root'], `${taps.join('\n')}\n`)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

async function build() {
  // First the page: `knockturn page` has its script as a text.
  const page = await bundleForBrowsers({ metafile: true, entryPoints: ['src/browser/main.ts'], outfile: 'dist/page.txt' })
  const programs = await bundleForNode({
    metafile: true,
    entryPoints: PROGRAMS.map((name) => `src/cli/${name}.ts`),
    outdir: 'dist',
    outExtension: { '.js': '.cjs' },
    // Less to read for each start. Names stay: a stack trace has them.
    minifyWhitespace: true,
    minifySyntax: true,
    // One byte a character in V8, too.
    charset: 'ascii',
  })
  const inputs = [page, programs].flatMap(({ metafile }) => Object.keys(metafile?.inputs ?? {}))
  writeFileSync(join(ROOT, 'dist/copyright'), copyrightOf(ROOT, inputs))
  try {
    keepAllCompiled()
  } catch (error) {
    // The clock, the temporary folder or the system is none for them. They are there, and start as well without, only later.
    process.stderr.write(`build: warning: the programs will start more slowly: ${/** @type {Error} */ (error).message.trim()}\n`)
  }
}

build().catch((error) => {
  // Of a source's faults esbuild has told already.
  if (!error.errors) throw error
  process.exitCode = 1
})
