// The etcd that the tests of fleets run: Debian's own packages, unpacked and never installed, because they start themselves.
//
//     node test/etcd.mjs     # unpacks them if they are not there yet, from this machine's Debian mirror
//
// It lies in node_modules/.cache/knockturn/etcd (test/lab/etcd-member.ts runs them) and goes with node_modules, as the Nodes beside it do. There it
// is this user's own, and the bare Debian of npm run test:full sees it, too: its programs need nothing but the C library.

import { execFile } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

const PACKAGES = ['etcd-server', 'etcd-client']
const CACHE = fileURLToPath(new URL('../node_modules/.cache/knockturn/', import.meta.url))
const PLACE = join(CACHE, 'etcd')
/** Milliseconds for 16 MB and, where there are none, a mirror's lists. */
const TIME_LIMIT = 600_000
const execute = promisify(execFile)

/**
 * Has apt fetch the packages, which judges them by Debian's keys. Where it has no lists of the mirror, or old ones, it reads them into a folder
 * of our own: that takes no root, and leaves the machine's alone.
 * @param {string} folder
 */
async function download(folder) {
  const within = { cwd: folder, timeout: TIME_LIMIT }
  try {
    await execute('apt-get', ['download', ...PACKAGES], within)
  } catch {
    const [lists, cache] = ['lists', 'cache'].map((name) => join(folder, name))
    for (const path of [lists, cache]) mkdirSync(join(`${path}`, 'partial'), { recursive: true })
    const own = ['-o', `Dir::State::Lists=${lists}`, '-o', `Dir::Cache=${cache}`]
    await execute('apt-get', [...own, 'update'], within)
    await execute('apt-get', [...own, 'download', ...PACKAGES], within)
  }
}

async function fetchEtcd() {
  mkdirSync(CACHE, { recursive: true })
  const folder = mkdtempSync(join(CACHE, 'fetch-'))
  const whole = join(folder, 'etcd')
  try {
    await download(folder)
    for (const name of readdirSync(folder).filter((name) => name.endsWith('.deb')))
      await execute('dpkg-deb', ['-x', join(folder, name), whole], { timeout: TIME_LIMIT })
    await execute(join(whole, 'usr/bin/etcd'), ['--version'])
    await execute(join(whole, 'usr/bin/etcdctl'), ['version'])
    renameSync(whole, PLACE)
  } catch (error) {
    // Another run was first: what it has unpacked is as whole.
    if (!existsSync(PLACE)) throw error
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url) && !existsSync(PLACE)) {
  try {
    await fetchEtcd()
  } catch (error) {
    const { message, stderr } = /** @type {Error & {stderr?: string}} */ (error)
    const why = stderr?.split('\n').find((line) => line.startsWith('E: ')) ?? message
    console.error(`etcd could not be fetched from this machine's Debian mirror: ${why}`)
    console.error(`hint: tests of fleets fail without it: check "apt-get download ${PACKAGES.join(' ')}" and dpkg-deb`)
    process.exitCode = 1
  }
}
