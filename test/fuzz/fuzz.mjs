// npm run fuzz: feeds damaged input to every reader of bytes from outside, for as long as you like.
//
//     node test/fuzz/fuzz.mjs [--seconds N] [--seed N] [--case N] [TARGET...]
//
// Each target has --seconds (10) to itself. The first input that breaks a promise, hangs or takes all memory is printed in
// base64 with the command that repeats it, and the exit code is 1. Without --seed each run has another seed.

import { mkdtempSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { Worker } from 'node:worker_threads'
import { bundleForNode } from '../../src/build/bundle.mjs'

const HERE = fileURLToPath(new URL('.', import.meta.url))
/** A case that takes longer than this many milliseconds is taken to hang. */
const HANGS = 10_000
/** Memory of a target in MiB: many times what any reader may keep. */
const MEMORY = 128

const folder = mkdtempSync(join(tmpdir(), 'knockturn-fuzz-'))
process.on('exit', () => rmSync(folder, { recursive: true, force: true }))
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(1))
// What the targets write is in there, too: a thread that is ended cleans nothing up.
process.env.TMPDIR = folder

/** @param {string} program @returns the path of its bundle */
async function bundled(program) {
  const outfile = join(folder, program.replace('.ts', '.cjs'))
  await bundleForNode({ entryPoints: [join(HERE, program)], outfile })
  return outfile
}

/**
 * Fuzzes one target.
 * @param {{name: string, seed: number, from: number, seconds: number}} how
 * @returns {Promise<{cases: number, broken: string | null}>}
 */
function fuzz({ name, seed, from, seconds }) {
  const progress = new Int32Array(new SharedArrayBuffer(4))
  const until = Date.now() + 1000 * seconds
  const worker = new Worker(workerBundle, {
    workerData: { name, seed, from, until, progress },
    resourceLimits: { maxOldGenerationSizeMb: MEMORY },
  })
  return new Promise((resolve) => {
    /** @type {string | null} */
    let broken = null
    let last = -1
    const watch = setInterval(() => {
      const now = Atomics.load(progress, 0)
      if (now === last) {
        broken = `it did not end after ${HANGS / 1000} s`
        worker.terminate()
      }
      last = now
    }, HANGS)
    worker.on('message', (message) => (broken = message))
    worker.on('error', (error) => (broken = error.message))
    worker.on('exit', () => {
      clearInterval(watch)
      resolve({ cases: Atomics.load(progress, 0) - from + (broken ? 0 : 1), broken })
    })
  })
}

const workerBundle = await bundled('worker.ts')
/** @type {typeof import('./targets') & typeof import('./mutate')} */
const { targets, inputOf } = {
  ...createRequire(import.meta.url)(await bundled('targets.ts')),
  ...createRequire(import.meta.url)(await bundled('mutate.ts')),
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { seconds: { type: 'string', default: '10' }, seed: { type: 'string' }, case: { type: 'string' } },
})
const names = targets.map(({ name }) => name)
const seed = Number(values.seed ?? Date.now() % 2 ** 31)
const from = Number(values.case ?? 0)
const seconds = values.case === undefined ? Number(values.seconds) : 0
const wrong = positionals.find((name) => !names.includes(name)) ?? [seed, from, seconds].find((n) => !(n >= 0))
if (wrong !== undefined) {
  console.error(
    `expected targets, and numbers for --seconds, --seed and --case; got ${wrong} (there are the targets ${names.join(' ')})`,
  )
  process.exitCode = 2
} else {
  for (const target of targets.filter(({ name }) => positionals.length === 0 || positionals.includes(name))) {
    const began = performance.now()
    const { cases, broken } = await fuzz({ name: target.name, seed, from, seconds })
    const taken = (performance.now() - began) / 1000
    console.log(
      `${target.name.padEnd(10)} ${cases.toLocaleString('en-US').padStart(11)} cases, ${Math.round(cases / taken).toLocaleString('en-US')}/s`,
    )
    if (!broken) continue
    const n = from + cases
    console.log(`${broken}\n\n${inputOf(target, seed, n).input.toString('base64')}\n`)
    console.log(`repeat: npm run fuzz -- --seed ${seed} --case ${n} ${target.name}`)
    process.exitCode = 1
    break
  }
}
