// The packages of this tree, as an administrator installs them on a bare machine.

import { copyFileSync, cpSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { must } from '../lab/processes'
import { ROOT } from '../root'
import type { Machine } from './machine'

const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'))
export const VERSION: string = version

const debOf = (tree: string, version = VERSION) => join(tree, 'dist', `knockturn_${version}_all.deb`)
/** What `npm run deb` has made. npm run test:full runs it; by hand, you do. */
export const DEB = debOf(ROOT)

/**
 * Installs a package on a booted machine, which has all that it depends on, and no network.
 * @param deb the package's path outside
 * @returns what apt and dpkg printed
 */
export function packaged(machine: Machine, deb = DEB): Promise<string> {
  copyFileSync(deb, join(machine.root, 'root/knockturn.deb'))
  return machine.must(['apt-get', 'install', '-y', '/root/knockturn.deb'], { timeoutMs: 120_000 })
}

/** The commit that {@link build} says it builds, as git would have put it into an archive. */
export const COMMIT = '0123456789abcdef0123456789abcdef01234567'
const ARCHIVED = `${COMMIT} 1780000000\n`

/**
 * Makes both packages from a copy of this tree, as from an archive of git's.
 * @param tree a folder for the copy, which is there
 * @param surroundings what must make no difference: a umask, and an environment
 * @returns their paths
 */
export async function build(tree: string, version = VERSION, { umask = '022', env = {} } = {}) {
  const left = new Set(['node_modules', 'dist', '.git'])
  cpSync(ROOT, tree, { recursive: true, filter: (path) => !left.has(relative(ROOT, path)) })
  for (const name of ['package.json', 'package-lock.json']) {
    const path = join(tree, name)
    writeFileSync(path, readFileSync(path, 'utf8').replace(`"version": "${VERSION}"`, `"version": "${version}"`))
  }
  writeFileSync(join(tree, 'src/build/commit.txt'), ARCHIVED)
  symlinkSync(join(ROOT, 'node_modules'), join(tree, 'node_modules'))
  const script = `cd "$0" && npm pack --silent && umask ${umask} && node src/build/deb.mjs`
  await must(['sh', '-euc', script, tree], { timeoutMs: 240_000, env })
  return { deb: debOf(tree, version), tarball: join(tree, `knockturn-${version}.tgz`) }
}

/** What may be another afterwards, and why. */
const EXEMPT = {
  '/var/lib/dpkg': "dpkg's own records and their copies",
  '/var/lib/apt': "apt's own records",
  '/var/cache/apt': "apt's caches",
  '/var/log': 'logs, of dpkg and apt among them',
  '/etc/passwd-': 'the copy that is made before each change of /etc/passwd',
  '/etc/group-': 'likewise, of /etc/group',
  '/etc/shadow-': 'likewise, of /etc/shadow',
  '/etc/gshadow-': 'likewise, of /etc/gshadow',
  '/dev': 'terminals, whose modes change with who uses them',
  '/var/tmp/systemd-private-*': 'folders of services of systemd, which are named by the boot',
  '/var/lib/docker': "Docker's own records, which change with each start",
  '/var/lib/containerd': 'likewise',
  '/root': 'where the test puts what it installs; npm keeps its cache and its logs there',
}

/**
 * What a machine has: its files with owners, modes and targets of links, what is in those of /etc and /var, users among them; its
 * units, its rules, and what listens.
 */
export async function traces(machine: Machine): Promise<string[]> {
  const pruned = Object.keys(EXEMPT).map((path) => `-path '${path}'`)
  const all = `find / -xdev \\( ${pruned.join(' -o ')} \\) -prune -o`
  const commands = [
    `${all} -printf '%M %u %g %p %l\\n'`,
    `${all} -type f \\( -path '/etc/*' -o -path '/var/*' \\) -exec sha256sum {} +`,
    'systemctl list-unit-files --no-legend --plain',
    "systemctl list-units --all --no-legend --plain 'knock*'",
    // The sources that have knocked within the last second are in no snapshot: they are only counted.
    "! command -v nft > /dev/null || nft -s list ruleset | grep -v 'elements = .* limit rate over '",
    // containerd takes another port of loopback at each boot.
    "ss -Hltun | grep -v '^tcp *LISTEN .* 127\\.0\\.0\\.1:' || true",
  ]
  return (await machine.must(['sh', '-euc', commands.join('\n')], { timeoutMs: 120_000 })).split('\n').sort()
}
