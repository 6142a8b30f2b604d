// Runs a program of this clone by another Node, in the bare Debian of npm run test:full with the tests' tools.
//
//     node test/full/workshop.mjs VERSION PROGRAM [ARGUMENT ...]     # in namespaces: test/bootstrap.mjs makes them
//
// The clone and the folder for temporary files are those of this machine, all else is the image's, and what is written to it
// is gone with us.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { nodeOf } from '../nodes.mjs'
import { layersOf } from './image.mjs'
import { bind, ENVIRONMENT, furnish, mountRoot } from './root.mjs'

const TREE = fileURLToPath(new URL('../..', import.meta.url))

const [version = '', ...argv] = process.argv.slice(2)
const node = nodeOf(version)
const { root } = mountRoot(layersOf('workshop'))
furnish(root)
mkdirSync(join(root, 'run/netns'))
// What comes first in the PATH is what `#!/usr/bin/env node` finds.
bind(root, node, '/usr/local/bin/node', true)
for (const folder of [TREE, join(tmpdir(), '..')]) bind(root, folder)

const env = { ...ENVIRONMENT, TMPDIR: tmpdir(), KNOCKTURN_NAMESPACE: '1' }
const inside = ['-c', 'cd "$0" && exec node "$@"', TREE, ...argv]
const child = spawn('chroot', [root, 'sh', ...inside], { env, stdio: 'inherit' })
const [code] = await once(child, 'exit')
process.exitCode = code ?? 1
