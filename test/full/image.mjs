// The bare Debian of npm run test:full, made once: a base by debootstrap, and layers by apt on it.
//
//     node test/full/image.mjs     # makes what is missing; test/bootstrap.mjs runs it, in a mount namespace, under a lock
//
// They lie in /var/cache/knockturn, outside the clone, each in a folder named by a hash of all that went into it: another
// list of packages is another folder. Delete them whenever you like. Each is made under another name and renamed when it is
// whole. Foreign programs (firewalls, fail2ban, Docker) are only ever installed in such a layer, never on this machine.

import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { packages } from './manual.mjs'
import { ENVIRONMENT, furnish, LENT_CERTIFICATES, lendNetwork, mountRoot } from './root.mjs'

export const CACHE = '/var/cache/knockturn'
const SUITE = 'trixie'
const UNFINISHED = 'unfinished-'
/** By which what is fetched is judged. */
const KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg'
/** A mirror that is slow or unreachable for a moment is asked again, after this many milliseconds. */
const TRIES = 3
const PAUSE = 10_000

/** A machine that boots, and can be looked at. */
const SYSTEM = ['systemd', 'systemd-sysv', 'dbus', 'iproute2', 'procps']
/** What the tests need that run on each Node: as in bootstrap.mjs, without what only the files need that are not run, and with what Node 26 itself needs. */
const TOOLS = [
  'age',
  'libatomic1',
  'bsdutils',
  'man-db',
  'netcat-openbsd',
  'nftables',
  'openssh-client',
  'openssl',
  'perl-base',
  'rsyslog',
  'tcpreplay',
  'ulogd2',
  'zsh',
  'fish',
]

/** Other programs that change the firewall, and what the tests need beside them: a container, and the journal for fail2ban. */
const OTHERS = [
  'nftables',
  'ufw',
  'firewalld',
  'fail2ban',
  'python3-systemd',
  'docker.io',
  'docker-cli',
  'podman',
  'crun',
  'netavark',
  'busybox-static',
]
/** Debian's way to keep rules of iptables over a reboot. ufw's package does not go with it. */
const PERSISTENT = ['nftables', 'iptables-persistent']

/** What apt fetches as the package's dependencies, and the door that it is for. Neither npm, nor git, nor iptables. */
const BARE = ['nodejs', 'nftables', 'tcpdump', 'iproute2', 'openssh-server', 'openssh-client']
/** What a new user may have beside it. */
const NEIGHBOURS = ['ufw', 'docker.io', 'docker-cli', 'busybox-static']
/** What judges packages. */
const JUDGE = ['lintian']

/** Each image's lists of packages, the first by debootstrap. What the manual forgets to have installed is missing, and the tests see it. */
const IMAGES = {
  machine: [SYSTEM, packages()],
  workshop: [SYSTEM, packages(), TOOLS],
  others: [SYSTEM, packages(), OTHERS],
  persistent: [SYSTEM, packages(), PERSISTENT],
  bare: [SYSTEM, BARE],
  neighbours: [SYSTEM, BARE, NEIGHBOURS],
  lintian: [SYSTEM, JUDGE],
}

/** @param {string[][]} lists */
const folderOf = (lists) => {
  const hash = createHash('sha256').update(JSON.stringify([SUITE, process.arch, lists]))
  return join(CACHE, `${SUITE}-${hash.digest('hex').slice(0, 16)}`)
}

/** The layers of an image, the topmost first; they are there once this file has been run. @param {keyof typeof IMAGES} name */
export const layersOf = (name) => IMAGES[name].map((_, i, lists) => folderOf(lists.slice(0, i + 1))).reverse()

/** The mirrors of Debian that this machine's own apt is set to, as far as it has their lists. @returns {string[]} */
function mirrors() {
  const targets = execFileSync('apt-get', ['indextargets', '--format', '$(REPO_URI)', 'Created-By: Packages', 'Component: main'])
  return String(targets)
    .split('\n')
    .filter((uri) => /\/debian\/?$/.test(uri))
}

/** The mirror to ask; none: debootstrap knows one. */
function mirror() {
  if (mirrors().length === 0) must(['apt-get', 'update'])
  return mirrors().slice(0, 1)
}

/** Runs a command; its output is in the error if it fails. @param {string[]} argv */
function must([program = '', ...args], env = process.env) {
  execFileSync(program, args, { env, stdio: ['ignore', 'pipe', 'pipe'], maxBuffer: 1 << 26 })
}

/** Deletes a folder, and nothing that is mounted in it. @param {string} folder */
function discard(folder) {
  must(['rm', '-rf', '--one-file-system', folder])
}

/** Deletes what apt has fetched: the next layer would, and not every file system can hold an overlay's mark for that. @param {string} root */
function sweep(root) {
  must(['chroot', root, 'sh', '-c', 'apt-get clean && find /var/lib/apt/lists -type f -delete'], ENVIRONMENT)
}

/** @param {string[]} names @param {string} folder */
function bootstrap(names, folder) {
  const options = ['--variant=minbase', `--keyring=${KEYRING}`, '--force-check-gpg', `--include=${names.join()}`]
  must(['debootstrap', ...options, SUITE, folder, ...mirror()])
  sweep(folder)
}

/** @param {string[]} names @param {string} folder @param {string[]} below */
function install(names, folder, below) {
  const { root, upper } = mountRoot(below)
  furnish(root)
  lendNetwork(root)
  const apt = ['chroot', root, 'apt-get', '-o', `Acquire::https::CAInfo=${LENT_CERTIFICATES}`]
  must([...apt, 'update'], ENVIRONMENT)
  must([...apt, 'install', '-y', '--no-install-recommends', ...names], ENVIRONMENT)
  sweep(root)
  // Not node's cpSync, which knows nothing of overlays' own files.
  must(['cp', '-a', `${upper}/.`, folder])
}

/** @param {string[][]} lists */
async function make(lists) {
  const below = lists
    .slice(0, -1)
    .map((_, i) => folderOf(lists.slice(0, i + 1)))
    .reverse()
  const names = lists.at(-1) ?? []
  for (let left = TRIES - 1; ; left--) {
    const folder = mkdtempSync(join(CACHE, UNFINISHED))
    try {
      if (below.length === 0) bootstrap(names, folder)
      else install(names, folder, below)
      must(['chmod', '755', folder])
      renameSync(folder, folderOf(lists))
      return
    } catch (error) {
      const { message, stdout = '', stderr = '' } = /** @type {Error & {stdout?: string, stderr?: string}} */ (error)
      const why = `${stdout}${stderr}`.trim().split('\n').slice(-3).join('; ') || message
      if (left === 0) throw new Error(why)
      console.error(
        `no image: ${why}\nhint: trying again in ${PAUSE / 1000} s, ${left === 1 ? 'for the last time' : `${left} times at most`}`,
      )
      await sleep(PAUSE)
    } finally {
      discard(folder)
    }
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  mkdirSync(CACHE, { recursive: true })
  // What a run that was killed has left: we have the lock.
  for (const name of readdirSync(CACHE)) if (name.startsWith(UNFINISHED)) discard(join(CACHE, name))
  try {
    for (const lists of Object.values(IMAGES)) {
      for (const i of lists.keys()) {
        const part = lists.slice(0, i + 1)
        if (existsSync(folderOf(part))) continue
        const began = performance.now()
        await make(part)
        console.error(
          `${folderOf(part)}: made in ${Math.round((performance.now() - began) / 1000)} s (${part.at(-1)?.join(' ')})`,
        )
      }
    }
  } catch (error) {
    console.error(`no image: ${error instanceof Error ? error.message : error}`)
    console.error("hint: check that this machine's Debian mirror, as set for apt, can be reached")
    process.exitCode = 1
  }
}
