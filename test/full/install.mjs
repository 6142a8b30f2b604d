// Puts this tree into /opt/knockturn of the image, by the first commands of docs/by-hand.md's "Install", word for word.
// Between them the manual has the reader copy the repository there: here that is a clone of what is tested.
//
//     node test/full/install.mjs FOLDER     # becomes a layer of the image; test/bootstrap.mjs runs it, in a mount namespace
//
// Only this part needs the network, which the booted machines do not have: the rest of the manual is followed in there.

import { execFileSync } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { layersOf } from './image.mjs'
import { commands } from './manual.mjs'
import { bind, ENVIRONMENT, furnish, LENT_CERTIFICATES, lendNetwork, mountRoot } from './root.mjs'

const TREE = fileURLToPath(new URL('../..', import.meta.url))
/** The repository on the machine: what is in this clone, committed or not. */
const REPOSITORY = '/srv/knockturn'

const [folder = ''] = process.argv.slice(2)
const { root } = mountRoot(layersOf('machine'))
furnish(root)
lendNetwork(root)

const source = mkdtempSync(join(tmpdir(), 'source-'))
const left = new Set(['node_modules', 'dist', '.git'])
cpSync(TREE, source, { recursive: true, filter: (path) => !left.has(relative(TREE, path)) })
bind(root, source, REPOSITORY)
mkdirSync(join(folder, 'opt'), { recursive: true })
bind(root, join(folder, 'opt'), '/opt')

/** @param {string} name */
const npmSetting = (name) => String(execFileSync('npm', ['config', 'get', name], { cwd: TREE })).trim()
mkdirSync(npmSetting('cache'), { recursive: true })
bind(root, npmSetting('cache'), '/root/.npm')
const env = { ...ENVIRONMENT, npm_config_registry: npmSetting('registry'), npm_config_cafile: LENT_CERTIFICATES }

/** @param {string} script */
const shell = (script) => execFileSync('chroot', [root, 'bash', '-euc', script], { env, stdio: 'inherit' })
const git = `git -C ${REPOSITORY} -c user.name=test -c user.email=test@invalid -c init.defaultBranch=main`
shell(`${git} init -q && ${git} add -A && ${git} commit -qm 'what is tested'`)
const [install = '', build = ''] = commands('Install')
shell(install)
shell(`git clone ${REPOSITORY} /opt/knockturn`)
shell(build)
