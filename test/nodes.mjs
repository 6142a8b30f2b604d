// The Nodes that are supported, and that test/e2e/nodes.test.ts runs the programs with.
//
//     node test/nodes.mjs     # fetches those that are not there yet, from the npm registry
//
// They lie in node_modules/.cache/knockturn, each as one executable, and go with node_modules.

import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

/** The least that package.json allows, and the newest of each later line with long-term support: npm's digests of node-linux-…, by architecture. */
const PINNED = {
  '20.19.0': {
    x64: 'sha512-HzVYgEgabV/n3nP2F9mcxS0Nxgg99jynX9CMovakLmSYTuTdQRbbtw0yadY8+qKcqXfiDAtb2hmtR7nDPzclGA==',
    arm64: 'sha512-kT7jX7frbsrMrXMsBaFt3Th1SWs5VjxTzd0U8vxcmdCFkaqeu5hFK0+QoYfIo5drmr3DmwJfLtO2gnD/7hNE/Q==',
  },
  '22.23.5': {
    x64: 'sha512-3jhC+wcoWxKZxcRqF2sUSl0c9HEXFnur/nuIPx6O6CWKV0jOUWQm7Htw5SuXqqlMCEhi0cJqybFPEb5hhcBiMw==',
    arm64: 'sha512-e1LOUGKVruPGuLVutn8+Cgm5pI1APm4Kvh+zbb/qe/ZpD9s+TQby5iUgZOWmPpbSKpj0Td8DP1N0NEnXasHizg==',
  },
  '24.22.3': {
    x64: 'sha512-KHsob+Fv9YerATvYujMbiyJqnRCvLtrcr/eTNqRqiOSGp97EOiRP1yP47+knGgQ/xnc3XY8xzkW587dlZzNqRA==',
    arm64: 'sha512-IZx0J52/1NDwAsY2iyWR9nlPIYuYviTWetjj8+ElvYQh2+XRhLfCfkbFEF/2O5vGI2hcUbyPNHV+nz342FbJXw==',
  },
  '26.12.1': {
    x64: 'sha512-jk5LMAmgHlPlPMWpsUrSOqNaEZG+11UNd35hWQ+p5/XGaelWuTqJ69IcAy/5xtPPN4d5ZRBNOGB6gLMCh2kL9A==',
    arm64: 'sha512-8Oxs6Y7rDcKufVIM/zYRSwytj46WOrZk7yFCLTKDcs17bBjAeD9HMAqo97hMfMyxozIud0S4vZCs5WB/3iavNQ==',
  },
}
export const VERSIONS = /** @type {(keyof typeof PINNED)[]} */ (Object.keys(PINNED))

const CACHE = fileURLToPath(new URL('../node_modules/.cache/knockturn/', import.meta.url))
/** Milliseconds for 60 MB. */
const TIME_LIMIT = 600_000
const execute = promisify(execFile)

/** @param {string} version */
const pathOf = (version) => join(CACHE, `node-${version}`)

/**
 * Where the executable of a version lies; throws, saying how to get it, where it does not.
 * @param {string} version
 */
export function nodeOf(version) {
  const path = pathOf(version)
  if (existsSync(path)) return path
  throw new Error(
    `${path}: expected Node ${version}, and it is missing: where the npm registry is in reach, run "node test/nodes.mjs"`,
  )
}

/** Fetches a version from the npm registry. @param {keyof typeof PINNED} version */
async function fetchNode(version) {
  const wanted = PINNED[version][/** @type {'x64' | 'arm64'} */ (process.arch)]
  if (process.platform !== 'linux' || !wanted) throw new Error(`no Node ${version} for ${process.platform} on ${process.arch}`)
  mkdirSync(CACHE, { recursive: true })
  const folder = mkdtempSync(join(CACHE, 'fetch-'))
  const within = { cwd: folder, timeout: TIME_LIMIT }
  try {
    const pack = ['pack', '--loglevel=error', '--fetch-retries=1', `node-linux-${process.arch}@${version}`]
    await execute('npm', pack, within)
    const [name = ''] = readdirSync(folder)
    const got = `sha512-${createHash('sha512')
      .update(readFileSync(join(folder, name)))
      .digest('base64')}`
    if (got !== wanted) throw new Error(`${name}: expected ${wanted}, got ${got}`)
    await execute('tar', ['-xzf', name, '--no-same-owner', 'package/bin/node'], within)
    renameSync(join(folder, 'package/bin/node'), pathOf(version))
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const missing = VERSIONS.filter((version) => !existsSync(pathOf(version)))
  const fetches = missing.map(async (version) => {
    try {
      await fetchNode(version)
    } catch (error) {
      const { message, stderr } = /** @type {Error & {stderr?: string}} */ (error)
      // npm begins with codes.
      const why = stderr?.split('\n').find((line) => !/ (code|errno|syscall) /.test(line)) ?? message
      console.error(`Node ${version} could not be fetched from the npm registry: ${why}`)
      process.exitCode = 1
    }
  })
  await Promise.all(fetches)
}
