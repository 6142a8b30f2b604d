// Runs a program of the tests that is TypeScript, bundled as dist is:
//
//     node test/run.mjs test/e2e/demo.ts [options]
//
// Its options stand where they would if Node ran it itself.

import { mkdtempSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { basename, join, resolve } from 'node:path'
import { bundleForNode } from '../src/build/bundle.mjs'

const [, , program = ''] = process.argv
const folder = mkdtempSync(join(tmpdir(), 'knockturn-run-'))
try {
  const outfile = join(folder, `${basename(program, '.ts')}.cjs`)
  // A bundle is none of the folders that its parts come from; root.ts alone asks for its own.
  const define = { 'import.meta.dirname': JSON.stringify(import.meta.dirname) }
  await bundleForNode({ entryPoints: [resolve(program)], outfile, define })
  process.argv.splice(1, 2, program)
  createRequire(import.meta.url)(outfile)
} finally {
  rmSync(folder, { recursive: true })
}
