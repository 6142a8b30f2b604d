// How we bundle: here and nowhere else. What bundles programs of its own (bench, attacks, fuzzer, tests) runs what the built programs run.

import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'
import { commitOf } from './commit.mjs'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
/** What age-encryption can do and is never asked for, see src/build/age-unused.ts. */
const UNUSED = ['@noble/post-quantum/hybrid.js', '@noble/curves/nist.js', '@noble/curves/ed25519.js']

/** @type {import('esbuild').BuildOptions} */
const EVERY = {
  bundle: true,
  alias: Object.fromEntries(UNUSED.map((name) => [name, join(ROOT, 'src/build/age-unused.ts')])),
  // Paths in options are those in this clone, wherever we are called.
  absWorkingDir: ROOT,
  // Paths of libraries are in what is built: they must not depend on where node_modules really lies.
  preserveSymlinks: true,
  logLevel: 'warning',
}

/**
 * What runs on Node takes its cryptography from there (see src/protocol/primitives.ts), and loads what starts processes when it starts one.
 * @type {import('esbuild').Plugin}
 */
const NODE = {
  name: 'node',
  setup({ onResolve }) {
    onResolve({ filter: /\/primitives$/ }, () => ({ path: join(ROOT, 'src/build/node-primitives.ts') }))
    // Our own way there goes by here, too: esbuild takes a file's settings from its first importer, whichever that is today.
    onResolve({ filter: /^node:child_process$|\/child-process$/ }, ({ path, importer }) =>
      path.startsWith('.') || importer.includes('/commander/') ? { path: join(ROOT, 'src/system/child-process.ts') } : null,
    )
  },
}

/** @typedef {import('esbuild').BuildOptions} Options what goes in and where it comes out, and what else differs */

/**
 * Bundles for Node. Where a source is wrong, esbuild says so on standard error, and the error has `errors`.
 * @param {Options} options
 */
export const bundleForNode = (options) =>
  build({
    ...EVERY,
    platform: 'node',
    // The least Node, as package.json says, too.
    target: 'node20.19',
    loader: Object.fromEntries(['.html', '.css', '.service', '.timer', '.conf'].map((kind) => [kind, 'text'])),
    plugins: [NODE],
    // See src/cli/version.ts.
    define: { BUILT_FROM: JSON.stringify(commitOf(ROOT).name) },
    ...options,
  })

/** Bundles a script for browsers, likewise. @param {Options} options */
export const bundleForBrowsers = (options) => build({ ...EVERY, minify: true, format: 'iife', target: 'es2022', ...options })
