// The package of this tree, as an administrator installs it on a bare machine.

import { copyFileSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Machine } from './machine'

const ROOT = join(import.meta.dirname, '../..')
const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'))

/** What `npm run deb` has made. npm run test:full runs it; by hand, you do. */
export const DEB = join(ROOT, 'dist', `knockturn_${version}_all.deb`)

/**
 * Installs a package on a booted machine, which has all that it depends on, and no network.
 * @param deb the package's path outside
 * @returns what apt and dpkg printed
 */
export function packaged(machine: Machine, deb = DEB): Promise<string> {
  copyFileSync(deb, join(machine.root, 'root/knockturn.deb'))
  return machine.must(['apt-get', 'install', '-y', '--allow-downgrades', '/root/knockturn.deb'])
}
