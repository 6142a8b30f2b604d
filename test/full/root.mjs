// A root of its own for what is tried on a bare Debian: layers that nobody changes, and memory on top of them.
//
// Everything is mounted in the mount namespace that we are in (test/bootstrap.mjs makes one), and ends with it.

import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** The certificates that this machine trusts, all in one file; and where a root is shown them (its own may be made anew meanwhile). */
const CERTIFICATES = '/etc/ssl/certs/ca-certificates.crt'
export const LENT_CERTIFICATES = '/run/ca-certificates.crt'

/** The environment in a root: nothing of this machine's but how the network is reached. @type {NodeJS.ProcessEnv} */
export const ENVIRONMENT = {
  PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
  HOME: '/root',
  LC_ALL: 'C.UTF-8',
  DEBIAN_FRONTEND: 'noninteractive',
  ...Object.fromEntries(Object.entries(process.env).filter(([name]) => /^(https?|no)_proxy$/i.test(name))),
}

/** @param {string[]} argv */
export function mount(...argv) {
  execFileSync('mount', argv, { stdio: ['ignore', 'inherit', 'inherit'] })
}

/**
 * A fresh root.
 * @param {string[]} layers folders, the topmost first
 * @returns its path, and that of the folder in memory that has what is written to it
 */
export function mountRoot(layers) {
  const place = mkdtempSync(join(tmpdir(), 'root-'))
  mount('-t', 'tmpfs', '-o', 'mode=755', 'knockturn', place)
  const [upper, work, root] = ['upper', 'work', 'root'].map((name) => join(place, name))
  for (const folder of [upper, work, root]) mkdirSync(folder)
  mount('-t', 'overlay', '-o', `lowerdir=${layers.join(':')},upperdir=${upper},workdir=${work}`, 'overlay', root)
  return { root, upper }
}

/** Shows a file or folder of this machine in a root, at the same path or another. @param {string} root @param {string} path */
export function bind(root, path, target = path, isFile = false) {
  const place = join(root, target)
  mkdirSync(isFile ? join(place, '..') : place, { recursive: true })
  if (isFile && !existsSync(place)) writeFileSync(place, '')
  mount('--bind', path, place)
}

/** What a program that is not booted expects: /proc, /run, terminals, memory, localhost. @param {string} root */
export function furnish(root) {
  mount('-t', 'proc', 'proc', join(root, 'proc'))
  mount('-t', 'tmpfs', 'tmpfs', join(root, 'run'))
  mount('-t', 'tmpfs', 'tmpfs', join(root, 'dev/shm'))
  mount('-t', 'devpts', '-o', 'newinstance,ptmxmode=0666', 'devpts', join(root, 'dev/pts'))
  bind(root, '/etc/hosts', '/etc/hosts', true)
}

/** This machine's names and certificates, for what fetches something in a furnished root. @param {string} root */
export function lendNetwork(root) {
  bind(root, '/etc/resolv.conf', '/etc/resolv.conf', true)
  if (existsSync(CERTIFICATES)) bind(root, CERTIFICATES, LENT_CERTIFICATES, true)
}
