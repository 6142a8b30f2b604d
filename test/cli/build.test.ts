import { spawnSync } from 'node:child_process'
import { cpSync, existsSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { beforeAll, describe, expect, it } from 'vitest'
import { scratch } from '../system/scratch'
import { environment } from './programs'

/* npm run build, in a checkout of its own. */

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
let folder: string

beforeAll(() => {
  folder = scratch()
  for (const name of ['bin', 'src', 'docs/systemd', 'LICENSE', 'package.json', 'tsconfig.json'])
    cpSync(join(ROOT, name), join(folder, name), { recursive: true })
  symlinkSync(join(ROOT, 'node_modules'), join(folder, 'node_modules'))
})

/** Builds by a umask. @returns how that ends, and whether what V8 has compiled was kept */
function build(umask: string, env: NodeJS.ProcessEnv = {}) {
  const command = ['-c', `rm -rf dist && umask ${umask} && exec "$0" src/build/build.mjs`, process.execPath]
  const { status, stderr } = spawnSync('sh', command, { cwd: folder, encoding: 'utf8', env: environment(env) })
  return [status, stderr, existsSync(join(folder, 'dist', 'knockdaemon.cjs.cache'))]
}

describe('the programs are built', () => {
  it.each(['000', '002', '077'])('with what V8 has compiled of them, by umask %s', (umask) => {
    expect(build(umask)).toEqual([0, '', true])
  })

  it('where they cannot be run, too, and it is said', () => {
    const warning = /^build: warning: the programs will start more slowly: .*\/nonexistent.*\n$/
    expect(build('022', { TMPDIR: '/nonexistent' })).toEqual([0, expect.stringMatching(warning), false])
  })
})
