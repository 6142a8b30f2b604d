// npm run demo, npm test, npm run test:full, npm run bench, npm run attack: from a bare clone to a run, as root or as an ordinary user.
//
//     node test/bootstrap.mjs demo|test|test:e2e|test:full|bench|attack [options of test/e2e/demo.ts, test/bench/bench.ts or test/replay/main.ts, or files]
//
// What it does to your machine, in this order:
//   1. A clone that does not belong to you (root in another user's folder, or a folder you may not write) is copied and left untouched.
//   2. Debian packages that are missing are installed if you are root, and otherwise only named.
//   3. `npm ci` if node_modules does not match package-lock.json, then `npm run build`. For the tests, other Nodes are
//      fetched into node_modules/.cache; test:full makes a bare Debian in /var/cache/knockturn. Where a fleet is run, etcd is
//      unpacked into node_modules/.cache, too, and not installed.
//   4. What needs a firewall runs in network, mount and process namespaces of its own: the rules of this machine are
//      never read or changed, and whatever is started in there ends with it.
// Everything else that it writes is in one temporary folder, deleted at the end.

import { spawn } from 'node:child_process'
import { accessSync, constants, cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import os from 'node:os'
import { delimiter, dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { stripVTControlCharacters } from 'node:util'
import { full } from './full/full.mjs'

/** The commands we need, and the Debian package that has each. @type {Record<string, string>} */
const COMMANDS = {
  iptables: 'iptables',
  ip6tables: 'iptables',
  'iptables-save': 'iptables',
  tcpdump: 'tcpdump',
  ip: 'iproute2',
  unshare: 'util-linux',
  nsenter: 'util-linux',
  setpriv: 'util-linux',
  flock: 'util-linux',
}
/** Those of the bench, which the tests try. @type {Record<string, string>} */
const BENCH_COMMANDS = { sshd: 'openssh-server', ssh: 'openssh-client' }
/** Those that only the tests need. @type {Record<string, string>} */
const TEST_COMMANDS = {
  'systemd-analyze': 'systemd',
  man: 'man-db',
  ulogd: 'ulogd2',
  rsyslogd: 'rsyslog',
  age: 'age',
  script: 'bsdutils',
  zsh: 'zsh',
  fish: 'fish',
  turnserver: 'coturn',
  rsync: 'rsync',
  nc: 'netcat-openbsd',
  chromium: 'chromium',
  'firefox-esr': 'firefox-esr',
  perl: 'perl-base',
  git: 'git',
}
/** Those of the backend that is not the usual one: the tests have both. @type {Record<string, string>} */
const NFTABLES_COMMANDS = { nft: 'nftables' }
/** Those that send the packets of an attack, set its clocks and make its certificates; the tests have attacks, too. @type {Record<string, string>} */
const ATTACK_COMMANDS = { tcpreplay: 'tcpreplay', faketime: 'faketime', openssl: 'openssl' }

/** Those that make the bare Debian. A path is a file that any user may run. @type {Record<string, string>} */
const FULL_COMMANDS = {
  debootstrap: 'debootstrap',
  gpgv: 'gpgv',
  '/usr/share/keyrings/debian-archive-keyring.gpg': 'debian-archive-keyring',
}

/** Set inside our namespaces: they are not nested, and the lab refuses to work outside them. */
const INSIDE = 'KNOCKTURN_NAMESPACE'

const NAMESPACES = ['--net', '--mount', '--pid', '--fork', '--kill-child']
// An ordinary user gets the capabilities in a user namespace, and stays an ordinary user in it: as "root" of a one-user
// namespace tcpdump would try to change its groups, and fail.
const USER_NAMESPACE = ['--user', '--map-user=1000', '--map-group=1000', '--keep-caps']
// `ip netns` keeps its names in /run/netns and iptables its lock in /run; what faketime leaves in /dev/shm is named by process ids, which
// start again from 1 in the new process namespace that /proc must show.
const FURNISH =
  'mount -t tmpfs none /run && mkdir /run/netns && mount -t tmpfs none /dev/shm && mount -t proc proc /proc && ip link set lo up && exec "$@"'

const isRoot = process.getuid?.() === 0
const wayOut = new AbortController()
let root = dirname(dirname(fileURLToPath(import.meta.url)))
let scratch = ''

/** A failure whose message is all that the user needs. */
class Plain extends Error {}

// ---- running things

/**
 * Runs a command in the tree to its end. It is killed, with all that unshare holds, when we get a signal to stop.
 * @param {string[]} argv
 * @param {{quiet?: boolean, env?: NodeJS.ProcessEnv}} [options] quiet: the output is kept and returned, not shown
 * @returns {Promise<{code: number, output: string}>}
 */
function run([program = '', ...args], { quiet = false, env = {} } = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      cwd: root,
      env: { ...process.env, ...env },
      stdio: quiet ? ['ignore', 'pipe', 'pipe'] : 'inherit',
      signal: wayOut.signal,
      // unshare --fork blocks all but SIGKILL, and --kill-child then takes everything in its namespaces along.
      killSignal: program === 'unshare' ? 'SIGKILL' : 'SIGTERM',
    })
    let output = ''
    for (const stream of [child.stdout, child.stderr]) stream?.setEncoding('utf8').on('data', (text) => (output += text))
    child.on('error', (error) => {
      if (!child.pid) reject(error)
    })
    child.on('close', (code) => (wayOut.signal.aborted ? reject(wayOut.signal.reason) : resolve({ code: code ?? 1, output })))
  })
}

/** Runs a step of the preparation: its name on the terminal, its output only if it fails. @param {string[]} argv */
async function prepare(argv, env = {}) {
  process.stderr.write(`${argv.join(' ')} ...\n`)
  const { code, output } = await run(argv, { quiet: true, env })
  if (code !== 0) throw new Plain(`${output.trimEnd()}\n${argv.join(' ')}: exit ${code}`)
}

// ---- preparing

function needNode() {
  const [major, minor] = process.versions.node.split('.').map(Number)
  if (major < 20 || (major === 20 && minor < 19))
    throw new Plain(`Node.js ${process.versions.node} is too old\nhint: install Node.js 20.19 or later`)
}

/** @param {string} path @param {number} mode */
function may(path, mode) {
  try {
    accessSync(path, mode)
    return true
  } catch {
    return false
  }
}

/** Ours to write into, and nobody else's: root must not leave its files in another user's folder. @param {string} path */
function isOurs(path) {
  return may(path, constants.W_OK) && statSync(path).uid === process.getuid?.()
}

/** Moves to a copy if the clone is not ours. */
function needTreeOfOurOwn() {
  // On a disk, not in memory: the daemon wants its ledger where it survives a power cut.
  scratch = mkdtempSync(join(process.env.TMPDIR ?? '/var/tmp', 'knockturn-'))
  if (isOurs(root)) return
  const copy = join(scratch, 'tree')
  const left = new Set(['node_modules', 'dist', '.git'])
  // We leave out what we may not read, such as keys.
  const filter = (/** @type {string} */ path) => !left.has(relative(root, path)) && may(path, constants.R_OK)
  cpSync(root, copy, { recursive: true, filter })
  process.stderr.write(`${root} does not belong to this user: working in a copy, ${copy}\n`)
  root = copy
}

/** @param {Record<string, string>} commands */
async function needPackages(commands) {
  const folders = [...(process.env.PATH ?? '').split(delimiter), '/usr/local/sbin', '/usr/sbin', '/sbin', '/usr/bin', '/bin']
  process.env.PATH = [...new Set(folders)].filter(Boolean).join(delimiter)
  const has = (/** @type {string} */ command) =>
    command.startsWith('/') ? existsSync(command) : folders.some((folder) => existsSync(join(folder, command)))
  const missing = Object.keys(commands).filter((command) => !has(command))
  if (missing.length === 0) return
  const packages = [...new Set(missing.map((command) => commands[command]))]
  const install = ['apt-get', 'install', '-y', '--no-install-recommends', ...packages]
  if (!isRoot || !has('apt-get'))
    throw new Plain(`missing commands: ${missing.join(', ')}\nhint: run as root: ${install.join(' ')}`)
  const env = { DEBIAN_FRONTEND: 'noninteractive' }
  await prepare(['apt-get', 'update'], env)
  await prepare(install, env)
}

/** Whether node_modules holds what package-lock.json lists; npm writes its own record of it in there. */
function isInstalled() {
  try {
    const read = (/** @type {string} */ path) => JSON.parse(readFileSync(join(root, path), 'utf8')).packages
    const wanted = read('package-lock.json')
    const there = read('node_modules/.package-lock.json')
    // Optional packages are those of other systems: they may be absent, but not be there in another version.
    return Object.entries(wanted).every(
      ([path, { version, optional }]) => path === '' || (there[path] ? there[path].version === version : optional),
    )
  } catch {
    return false
  }
}

/** The environment for npm. */
function npmEnvironment() {
  /** @type {NodeJS.ProcessEnv} */
  const env = { npm_config_update_notifier: 'false' }
  // A user such as nobody has no home for npm's cache.
  const cache = process.env.npm_config_cache ?? join(process.env.HOME ?? '/nonexistent', '.npm')
  if (!isOurs(existsSync(cache) ? cache : dirname(cache))) env.npm_config_cache = join(scratch, 'npm')
  return env
}

async function needNodeModules() {
  if (!isInstalled()) await prepare(['npm', 'ci', '--no-audit', '--no-fund'], npmEnvironment())
}

/**
 * Fetches what only some tests need, and what fails without it says so: the other Nodes that the programs must work with, and etcd.
 * @param {'test/nodes.mjs' | 'test/etcd.mjs'} program
 */
async function want(program) {
  try {
    await prepare([process.execPath, program], npmEnvironment())
  } catch (error) {
    if (!(error instanceof Plain)) throw error
    process.stderr.write(`${error.message}\n`)
  }
}

// ---- the namespaces

/**
 * How to put a command into namespaces of its own; throws, with the reason, if the system does not allow it.
 * @returns {Promise<(argv: string[]) => string[]>}
 */
async function findNamespaces() {
  if (process.env[INSIDE]) return (argv) => argv
  const ways = isRoot ? [NAMESPACES, [...USER_NAMESPACE, ...NAMESPACES]] : [[...USER_NAMESPACE, ...NAMESPACES]]
  let why = ''
  for (const way of ways) {
    const enter = (/** @type {string[]} */ argv) => ['unshare', ...way, 'env', `${INSIDE}=1`, 'sh', '-c', FURNISH, 'sh', ...argv]
    const { code, output } = await run(enter(['sh', '-c', 'iptables -S && ip6tables -S']), { quiet: true })
    if (code === 0) return enter
    why = output.trim().replaceAll('\n', '; ')
  }
  throw new Plain(
    `no network namespace to work in: ${why}\nhint: check sysctl user.max_net_namespaces, kernel.unprivileged_userns_clone, ` +
      'kernel.apparmor_restrict_unprivileged_userns; in a container, use --privileged',
  )
}

/** The environment of the runs: our temporary folder, and no extra certificates, because reading them slows each start of node by 50 ms. */
function surroundings() {
  mkdirSync(join(scratch, 'tmp'), { recursive: true })
  return { TMPDIR: join(scratch, 'tmp'), NODE_EXTRA_CA_CERTS: undefined }
}

// ---- the things to run

/** Runs a program of the tests in namespaces. @param {string} program @param {string[]} options */
async function inNamespaces(program, ...options) {
  const enter = await findNamespaces()
  const { code } = await run(enter([process.execPath, 'test/run.mjs', program, ...options]), { env: surroundings() })
  return code
}

/**
 * Runs some of vitest's projects and counts. A failure without a failed test (a file that does not load) counts as one.
 * @param {string[]} names @param {(argv: string[]) => string[]} enter
 * @param {{label?: string, more?: string[], env?: NodeJS.ProcessEnv, quiet?: boolean}} [options] more: further arguments for vitest, such as files' names;
 *   quiet: it is shown in one piece, at the end
 */
async function projects(names, enter, { label = names.join(', '), more = [], env = {}, quiet = false } = {}) {
  const report = join(scratch, `${label.replaceAll(', ', '-')}.json`)
  const vitest = [
    process.execPath,
    'node_modules/vitest/vitest.mjs',
    'run',
    '--config',
    'test/vitest.config.mts',
    ...names.flatMap((name) => ['--project', name]),
    ...more,
  ]
  const reporters = ['--reporter=default', '--reporter=./test/told.mjs', '--reporter=json', `--outputFile.json=${report}`]
  const { code, output } = await run(enter([...vitest, ...reporters]), { env: { ...surroundings(), ...env }, quiet })
  if (quiet) process.stdout.write(output)
  const counts = existsSync(report) ? JSON.parse(readFileSync(report, 'utf8')) : {}
  const { numPassedTests: passed = 0, numFailedTests: failed = 0, numPendingTests = 0, numTodoTests = 0 } = counts
  if (passed + failed === 0) console.log(`${label}: no test ran`)
  return {
    label,
    passed,
    failed: failed || Number(code !== 0 || passed === 0),
    skipped: numPendingTests + numTodoTests,
    failures: failures(counts),
  }
}

/** The first lines of a test's message, as one. @param {string} said */
const firstOf = (said) => said.split('\n').slice(0, 3).join(' ').slice(0, 400)

/**
 * What has failed, a line each: its file, its name and the beginning of its message.
 * @param {{testResults?: {name: string, status: string, message?: string, assertionResults: {status: string, fullName: string, failureMessages?: string[]}[]}[]}} report
 *   as vitest writes it
 */
function failures({ testResults = [] }) {
  const line = (/** @type {string} */ file, /** @type {string[]} */ ...said) =>
    stripVTControlCharacters(`failed: ${relative(root, file)}: ${said.join(': ')}`)
  return testResults.flatMap(({ name, status, message = '', assertionResults }) => {
    const tests = assertionResults.filter((test) => test.status === 'failed')
    if (status === 'failed' && tests.length === 0) return [line(name, firstOf(message))]
    return tests.map(({ fullName, failureMessages: [first = ''] = [] }) => line(name, fullName, firstOf(first)))
  })
}

/** @typedef {Awaited<ReturnType<typeof projects>>} Counts */

/** Prints what has failed, and in the last line what has been run. @param {Counts[]} results @returns the exit code */
function conclude(results) {
  const sum = (/** @type {'passed' | 'failed' | 'skipped'} */ of) => results.reduce((all, result) => all + result[of], 0)
  const each = results.map(({ label, passed, failed }) => `${label} ${passed}${failed > 0 ? ` and ${failed} failed` : ''}`)
  for (const line of results.flatMap((result) => result.failures)) console.log(line)
  console.log(`${sum('passed')} passed, ${sum('failed')} failed, ${sum('skipped')} skipped (${each.join(', ')})`)
  return sum('failed') === 0 ? 0 : 1
}

async function test() {
  /** @type {Counts[]} */
  const results = []
  /** @type {Awaited<ReturnType<typeof findNamespaces>> | null} */
  let enter = null
  try {
    enter = await findNamespaces()
  } catch (error) {
    if (!(error instanceof Plain)) throw error
    console.log(`alone, e2e: ${error.message}`)
    results.push({ label: 'alone, e2e', passed: 0, failed: 1, skipped: 0, failures: [] })
  }
  if (enter) results.push(await projects(['alone'], enter))
  // One waits most of the time, and the other never does.
  const beside = [projects(['unit', 'long'], (argv) => argv, { quiet: true }), ...(enter ? [projects(['e2e'], enter)] : [])]
  results.push(...(await Promise.all(beside)))
  return conclude(results)
}

/** Only the tests with real packets. @param {string[]} files parts of the names of files; none: all */
async function testE2e(...files) {
  const enter = await findNamespaces()
  return conclude([await projects(['alone', 'e2e'], enter, { more: files })])
}

async function testFull() {
  /** @param {string[]} argv */
  const step = async (argv, { show = false } = {}) => {
    if (!show) return prepare(argv, surroundings())
    const { code } = await run(argv, { env: surroundings() })
    if (code !== 0) throw new Plain(`${argv.join(' ')}: exit ${code}`)
  }
  return conclude(await full({ scratch, step, enter: await findNamespaces(), projects }))
}

// ---- on one screen

const RUNS = {
  demo: (/** @type {string[]} */ ...options) => inNamespaces('test/e2e/demo.ts', ...options),
  test,
  'test:e2e': testE2e,
  'test:full': testFull,
  bench: (/** @type {string[]} */ ...options) => inNamespaces('test/bench/bench.ts', ...options),
  attack: (/** @type {string[]} */ ...options) => inNamespaces('test/replay/main.ts', ...options),
}

async function main() {
  const [name = '', ...options] = process.argv.slice(2)
  if (!Object.hasOwn(RUNS, name)) throw new Plain(`usage: node test/bootstrap.mjs ${Object.keys(RUNS).join('|')}`)
  if (name === 'test:full' && !isRoot)
    throw new Plain(
      'skipped without root: the booted machine, and the tests on each Node\nhint: run npm run test:full as root, because only root can boot a Debian in namespaces',
    )
  needNode()
  needTreeOfOurOwn()
  const isTest = name.startsWith('test')
  await needPackages({
    ...COMMANDS,
    ...((isTest || name === 'bench') && BENCH_COMMANDS),
    ...(isTest && TEST_COMMANDS),
    ...((isTest || name === 'attack') && ATTACK_COMMANDS),
    ...((isTest || options.join('=').includes('--backend=nftables')) && NFTABLES_COMMANDS),
    ...(name === 'test:full' && FULL_COMMANDS),
  })
  await needNodeModules()
  if (isTest) await want('test/nodes.mjs')
  // A demonstration without a fleet needs none.
  if (name !== 'demo' || options.includes('--fleet')) await want('test/etcd.mjs')
  await prepare(['npm', 'run', '--silent', 'build'])
  return RUNS[/** @type {keyof typeof RUNS} */ (name)](...options)
}

for (const signal of /** @type {const} */ (['SIGINT', 'SIGTERM', 'SIGHUP'])) {
  process.on(signal, () => {
    process.exitCode = 128 + os.constants.signals[signal]
    wayOut.abort()
  })
}
try {
  const code = await main()
  process.exitCode ??= code
} catch (error) {
  if (!wayOut.signal.aborted) console.error(error instanceof Plain ? error.message : error)
  process.exitCode ??= 1
} finally {
  if (scratch) rmSync(scratch, { recursive: true, force: true })
}
