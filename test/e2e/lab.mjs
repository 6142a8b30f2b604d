// Hosts in network namespaces, joined by one switch: real packets, real iptables, nothing of this machine's own.
//
//                       wire (a bridge: the eavesdropper's place)
//          server ──────────┼────────── client, stranger, ...
//      198.51.100.1                 198.51.100.2, .3, ...
//      2001:db8:7::1                2001:db8:7::2, ::3, ...
//
// Each host has an agent, a node process that lives in its namespace and makes the connections asked for, so that one
// attempt costs no start of a process. The agent's code is the second half of this file.

import { spawn } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { chownSync, cpSync, mkdirSync, mkdtempSync, rmSync, statfsSync, writeFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'

const HERE = fileURLToPath(import.meta.url)
const BIN = fileURLToPath(new URL('../../bin/', import.meta.url))
const TMPFS = 0x01021994
/** Milliseconds after which what has not come will not: many times what it takes, since a machine may be busy. */
const PATIENCE = 20_000

/** The daemon's user: nobody where we are root, and else the only one that there is. */
const OURSELVES = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 }
const USER = OURSELVES.uid === 0 ? { uid: 65_534, gid: 65_534 } : OURSELVES
/** What docs/systemd/knockdaemon.service gives the daemon, and no more. */
export const PRIVILEGES = [
  'setpriv',
  ...(OURSELVES.uid === 0 ? ['--reuid', `${USER.uid}`, '--regid', `${USER.gid}`, '--clear-groups'] : []),
  ...['--inh-caps', '--ambient-caps', '--bounding-set'].map((set) => `${set}=-all,+net_admin`),
  '--no-new-privs',
]

/**
 * @typedef {{timeoutMs?: number, input?: string, env?: NodeJS.ProcessEnv}} RunOptions
 * @typedef {{code: number | null, signal: string | null, stdout: string, stderr: string, ms: number}} Ended
 * @typedef {{saw: string, ms: number, greeting?: string}} Answer saw: open, refused, silence, or another error's code
 * @typedef {{protocol: string, port: number, payload?: string}} Touch payload: of a datagram, in hex
 * @typedef {Touch & {source: string, sourcePort: number, destination: string, ms: number}} Tap a SYN or a datagram on the wire; ms since 1970
 * @typedef {Awaited<ReturnType<Host['capture']>>} Tape
 * @typedef {Awaited<ReturnType<typeof provision>>} Gate
 */

// ---- the lab

let labs = 0

/**
 * A server and clients, by name. `await lab.end()` ends all that was started and deletes all that was made.
 * @param {string[]} clients
 */
export async function makeLab(clients = ['client']) {
  const lab = new Lab(clients)
  try {
    await lab.build()
  } catch (error) {
    await lab.end()
    throw error
  }
  return lab
}

export class Lab {
  /** What to do at the end, the last made first. @type {(() => unknown)[]} */
  endings = []
  moves = 0

  /** Names the hosts; {@link build} makes them. @param {string[]} clients */
  constructor(clients) {
    this.name = `kt${process.pid}-${++labs}`
    this.wire = new Host(this, 'wire', 0)
    /** @type {Record<string, Host>} */
    this.hosts = Object.fromEntries(['server', ...clients].map((host, i) => [host, new Host(this, host, i + 1)]))
    this.server = /** @type {Host} */ (this.hosts.server)
  }

  async build() {
    if (!process.env.KNOCKTURN_NAMESPACE)
      throw new Error('the lab works in namespaces of its own: run npm test, or npm run demo, bench or attack')
    await this.wire.makeNamespace()
    await this.wire.must(['ip', 'link', 'add', 'switch', 'type', 'bridge', 'mcast_snooping', '0'])
    await this.wire.must(['ip', 'link', 'set', 'switch', 'up'])
    const hosts = Object.values(this.hosts)
    for (const host of hosts) await host.plugIn()
    await Promise.all(hosts.map((host) => host.startAgent()))
    // Usable when each host's packets come back from the server, where nothing is in their way yet.
    for (const host of hosts) {
      for (const address of [this.server.ipv4, this.server.ipv6]) {
        await until(async () => (await host.connect(address, 9, 100)).saw === 'refused', `${host.name} reaches ${address}`)
      }
    }
  }

  /** A temporary folder on a disk: a ledger must not lie in memory. */
  folder() {
    const parent = statfsSync(tmpdir()).type === TMPFS ? '/var/tmp' : tmpdir()
    const path = mkdtempSync(join(parent, 'knockturn-lab-'))
    this.endings.push(() => rmSync(path, { recursive: true, force: true }))
    return path
  }

  /**
   * A daemon as it is installed, for whatever user it has and wherever this clone, its node and its temporary folder lie.
   * @param {{uid: number, gid: number}} user @param {string} runtime the Node that it has
   * @returns how to run it, and a folder on a disk that is the user's
   */
  async install({ uid, gid }, runtime) {
    const place = mkdtempSync('/run/knockturn-')
    this.endings.push(() => rmSync(place, { recursive: true }))
    // Not the 94 MB that npm run usb makes.
    const filter = (/** @type {string} */ path) => !path.endsWith(join('dist', 'usb'))
    for (const part of ['bin', 'dist']) cpSync(join(BIN, '..', part), join(place, part), { recursive: true, filter })
    const [node, folder] = [join(place, 'node'), join(place, 'state')]
    writeFileSync(node, '')
    mkdirSync(folder)
    await must(['chmod', '-R', 'a+rX', place])
    /** @type {[string, string][]} */
    const bound = [
      [runtime, node],
      [this.folder(), folder],
    ]
    for (const [what, where] of bound) {
      await must(['mount', '--bind', what, where])
      this.endings.push(() => must(['umount', where]))
    }
    chownSync(folder, uid, gid)
    return { folder, knockdaemon: [node, join(place, 'bin', 'knockdaemon')] }
  }

  async end() {
    const failures = []
    for (const ending of this.endings.splice(0).reverse()) {
      try {
        await ending()
      } catch (error) {
        failures.push(error)
      }
    }
    if (failures.length > 0) throw new AggregateError(failures, failures.map(String).join('\n'))
  }
}

export class Host {
  /** @type {import('node:child_process').ChildProcess | undefined} */
  #agent
  #asked = 0
  #loss = 0
  /** What it has been asked and has not answered. @type {Map<number, {resolve: (result: any) => void, reject: (error: Error) => void}>} */
  #calls = new Map()

  /** @param {Lab} lab @param {string} name @param {number} number the last of its addresses */
  constructor(lab, name, number) {
    this.lab = lab
    this.name = name
    this.namespace = `${lab.name}-${name}`
    this.ipv4 = `198.51.100.${number}`
    this.ipv6 = `2001:db8:7::${number}`
  }

  async makeNamespace() {
    await must(['ip', 'netns', 'add', this.namespace])
    this.lab.endings.push(() => must(['ip', 'netns', 'delete', this.namespace]))
  }

  /** Makes the host: its namespace, and a cable to the switch. There it is called as its host, in the host eth0. */
  async plugIn() {
    const { wire } = this.lab
    await this.makeNamespace()
    await wire.must(['ip', 'link', 'add', this.name, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', this.namespace])
    await wire.must(['ip', 'link', 'set', this.name, 'master', 'switch', 'up'])
    await this.must(['ip', 'link', 'set', 'lo', 'up'])
    await this.must(['ip', 'link', 'set', 'eth0', 'up'])
    await this.addAddress(`${this.ipv4}/24`)
    await this.addAddress(`${this.ipv6}/64`)
  }

  /** @param {string[]} argv */
  #here(argv) {
    return ['ip', 'netns', 'exec', this.namespace, ...argv]
  }

  // ---- processes

  /** Runs a command to its end. @param {string[]} argv @param {RunOptions} [options] */
  run(argv, options) {
    return run(this.#here(argv), options)
  }

  /** Runs a command that has to succeed, and gives its standard output. @param {string[]} argv @param {RunOptions} [options] */
  must(argv, options) {
    return must(this.#here(argv), options)
  }

  /** Starts a command that goes on; it is ended with the lab at the latest. @param {string[]} argv */
  start(argv, { env = {} } = {}) {
    const child = new Child(this.#here(argv), env)
    this.lab.endings.push(() => child.end())
    return child
  }

  /** The ids of the processes in this host, but for the agent's: what is still running. */
  async processes() {
    const pids = (await must(['ip', 'netns', 'pids', this.namespace])).split('\n').filter(Boolean).map(Number)
    return pids.filter((pid) => pid !== this.#agent?.pid)
  }

  // ---- network

  /** Gives the host another address. @param {string} address with its prefix length */
  addAddress(address) {
    const family = address.includes(':') ? ['-6'] : ['-4']
    const now = address.includes(':') ? ['nodad'] : [] // usable at once, no duplicate address detection
    return this.must(['ip', ...family, 'address', 'add', address, 'dev', 'eth0', ...now])
  }

  /** Moves the host to addresses that nobody has had: what is remembered of its old ones is none of its business. */
  async moveOn() {
    const number = 100 + this.lab.moves++
    this.ipv4 = `198.51.100.${number}`
    this.ipv6 = `2001:db8:7::${number}`
    await this.must(['ip', 'address', 'flush', 'dev', 'eth0', 'scope', 'global'])
    await this.addAddress(`${this.ipv4}/24`)
    await this.addAddress(`${this.ipv6}/64`)
  }

  /**
   * Loses this part of all packets that arrive from now on, before any other rule or tap sees them.
   * @param {number} probability 0 to 1; 0 ends the loss
   */
  async lose(probability) {
    const rule = (/** @type {number} */ p) => [
      'PREROUTING',
      '-i',
      'eth0',
      '-m',
      'statistic',
      '--mode',
      'random',
      '--probability',
      String(p),
      '-j',
      'DROP',
    ]
    for (const iptables of ['iptables', 'ip6tables']) {
      if (this.#loss > 0) await this.must([iptables, '-t', 'raw', '-D', ...rule(this.#loss)])
      if (probability > 0) await this.must([iptables, '-t', 'raw', '-A', ...rule(probability)])
    }
    this.#loss = probability
  }

  /**
   * Records the SYNs and datagrams that pass an interface, from now on.
   * @param {string} [device] @param {number} [length] bytes of each @param {string} [what] else, as tcpdump says it
   */
  async capture(device = 'eth0', length = 128, what = 'tcp or udp') {
    const file = join(this.lab.folder(), 'wire.pcap')
    // -Z root: as root, tcpdump would else become a user who may not write there.
    const argv = ['tcpdump', '-Z', 'root', '--immediate-mode', '-i', device, '-s', String(length), '-U', '-w', file, what]
    const tcpdump = this.start(argv)
    await tcpdump.line((line) => line.includes('listening on'))
    return {
      file,
      /** What was recorded so far, in order. @returns {Promise<Tap[]>} */
      taps: async () => readTaps(await must(['tcpdump', '-nn', '-tt', '-r', file])),
      end: () => tcpdump.end(),
    }
  }

  // ---- the agent's work

  async startAgent() {
    const [program = '', ...args] = this.#here([process.execPath, HERE, 'agent'])
    const agent = spawn(program, args, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
    this.#agent = agent
    agent.on('message', (/** @type {any} */ { id, result, error }) => {
      const call = this.#calls.get(id)
      this.#calls.delete(id)
      if (error) call?.reject(new Error(`${this.name}: ${error}`))
      else call?.resolve(result)
    })
    agent.on('exit', () => {
      for (const { reject } of this.#calls.values()) reject(new Error(`${this.name}: its agent has ended`))
    })
    this.lab.endings.push(async () => {
      if (agent.exitCode !== null || agent.signalCode !== null) return
      agent.kill('SIGKILL')
      await once(agent, 'exit')
    })
    await this.#ask('ready')
  }

  /** @param {string} work @param {unknown[]} args @returns {Promise<any>} */
  #ask(work, ...args) {
    const id = ++this.#asked
    return new Promise((resolve, reject) => {
      this.#calls.set(id, { resolve, reject })
      this.#agent?.send({ id, work, args })
    })
  }

  /**
   * Tries a TCP connection; an open one reads the greeting and is closed.
   * @param {string} address @param {number} port @param {string} [from] one of this host's addresses @param {number} [localPort]
   * @returns {Promise<Answer>}
   */
  connect(address, port, timeoutMs = 500, from, localPort) {
    return this.#ask('connect', address, port, timeoutMs, from, localPort)
  }

  /**
   * Sends a datagram to a UDP service and waits for its echo.
   * @param {string} address @param {number} port @param {string} [from]
   * @returns {Promise<Answer>}
   */
  echo(address, port, timeoutMs = 500, from) {
    return this.#ask('echo', address, port, timeoutMs, from)
  }

  /** Opens a TCP connection and keeps it. @param {string} address @param {number} port @param {number} [localPort] */
  async hold(address, port, timeoutMs = PATIENCE, localPort) {
    const id = await this.#ask('hold', address, port, timeoutMs, localPort)
    return {
      /** Whether the service still hears us: says something and waits for its echo. @returns {Promise<boolean>} */
      isAlive: (ms = PATIENCE) => this.#ask('isAlive', id, ms),
      end: () => this.#ask('release', id),
      /** Ends it by a RST, so that its port is free at once. */
      reset: () => this.#ask('reset', id),
    }
  }

  /**
   * Waits until a TCP door is open to this host, or silent.
   * @param {string} address @param {number} port @param {'open' | 'silence'} state
   */
  becomes(address, port, state, timeoutMs = PATIENCE) {
    const isSo = async () => (await this.connect(address, port, 200)).saw === state
    return until(isSo, `${address} port ${port} to ${this.name}: ${state}`, timeoutMs)
  }

  /** The rules of a client's leases in this host's firewall, in both families. @param {Host} client @returns {Promise<string[]>} */
  async leases(client) {
    const chains = await Promise.all(
      ['iptables', 'ip6tables'].map((iptables) => this.must([iptables, '-w', '-S', 'KNOCKTURN-LEASES'])),
    )
    const ours = [`-s ${client.ipv4}/32 `, `-s ${client.ipv6}/128 `]
    return chains.flatMap((chain) => chain.split('\n').filter((line) => ours.some((source) => line.includes(source))))
  }

  /** Serves a port, TCP (a greeting, then an echo) and UDP (an echo), in both families, until the lab's end. @param {number} port */
  service(port) {
    return this.#ask('service', port)
  }

  /**
   * Touches ports in the order given, as they were recorded or made up: TCP, then UDP.
   * @param {Touch[]} touches @param {string} destination @param {string} [from]
   */
  replay(touches, destination, from) {
    return this.#ask('replay', touches, destination, from)
  }
}

// ---- processes

/** A long-lived child: its lines, as they come, and its end. */
export class Child {
  /** All lines of both its outputs. @type {string[]} */
  lines = []
  /** @type {Set<() => void>} */
  #waiting = new Set()
  #over = ''

  /** @param {string[]} argv @param {NodeJS.ProcessEnv} env */
  constructor([program = '', ...args], env) {
    this.child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'], env: childEnvironment(env) })
    this.pid = this.child.pid
    for (const input of [this.child.stdout, this.child.stderr]) {
      createInterface({ input }).on('line', (line) => {
        this.lines.push(line)
        for (const look of this.#waiting) look()
      })
    }
    this.exited = once(this.child, 'exit').then(([code, signal]) => ({ code, signal }))
    this.child.on('close', (code, signal) => {
      this.#over = `it has ended with ${signal ?? code}`
      for (const look of this.#waiting) look()
    })
  }

  /**
   * The first line that fits, from line number `since` on, waiting for it.
   * @param {(line: string) => boolean} fits
   * @returns {Promise<string>}
   */
  line(fits, since = 0, timeoutMs = PATIENCE) {
    return new Promise((resolve, reject) => {
      let next = since
      const done = () => {
        clearTimeout(timer)
        this.#waiting.delete(look)
      }
      /** @param {string} why */
      const fail = (why) => {
        done()
        reject(new Error(`no such line, ${why}; its last lines:\n${this.lines.slice(-10).join('\n')}`))
      }
      const look = () => {
        for (const line of this.lines.slice(next)) {
          next++
          if (!fits(line)) continue
          done()
          return resolve(line)
        }
        if (this.#over) fail(this.#over)
      }
      const timer = setTimeout(() => fail(`waited ${timeoutMs} ms`), timeoutMs)
      this.#waiting.add(look)
      look()
    })
  }

  /** Asks it to end, kills it after five seconds. @param {NodeJS.Signals} signal */
  async end(signal = 'SIGTERM') {
    this.child.kill(signal)
    const patience = setTimeout(() => this.child.kill('SIGKILL'), 5_000)
    try {
      return await this.exited
    } finally {
      clearTimeout(patience)
    }
  }
}

/** @param {NodeJS.ProcessEnv} env */
function childEnvironment(env) {
  // Nowhere to keep the last knock in: the home is somebody's.
  return { ...process.env, NODE_EXTRA_CA_CERTS: undefined, XDG_STATE_HOME: '/dev/null', ...env }
}

/** @param {string[]} argv @param {RunOptions} options @returns {Promise<Ended>} */
function run([program = '', ...args], { timeoutMs = 20_000, input = '', env = {} } = {}) {
  return new Promise((resolve, reject) => {
    const began = performance.now()
    const child = spawn(program, args, { env: childEnvironment(env), timeout: timeoutMs, killSignal: 'SIGKILL' })
    let stdout = ''
    let stderr = ''
    child.stdout.setEncoding('utf8').on('data', (text) => (stdout += text))
    child.stderr.setEncoding('utf8').on('data', (text) => (stderr += text))
    child.stdin.on('error', () => {}) // it may end without reading
    child.stdin.end(input)
    child.on('error', reject)
    child.on('close', (code, signal) => resolve({ code, signal, stdout, stderr, ms: performance.now() - began }))
  })
}

/** @param {string[]} argv @param {RunOptions} [options] */
async function must(argv, options) {
  const { code, signal, stdout, stderr } = await run(argv, options)
  if (code !== 0) throw new Error(`${argv.join(' ')}: ${signal ?? `exit ${code}`}\n${stdout}${stderr}`)
  return stdout
}

/**
 * Waits until something holds.
 * @param {() => boolean | Promise<boolean>} holds @param {string} what
 * @returns {Promise<number>} the milliseconds it took
 */
export async function until(holds, what, timeoutMs = PATIENCE) {
  const began = performance.now()
  while (!(await holds())) {
    if (performance.now() - began > timeoutMs) throw new Error(`not within ${timeoutMs} ms: ${what}`)
    await sleep(10)
  }
  return performance.now() - began
}

/** What tcpdump prints: `1700000000.123456 IP6 2001:db8::2.4711 > 2001:db8::1.50000: Flags [S], ...` or `UDP, length 0`. @param {string} text */
function readTaps(text) {
  const form = /^(\d+\.\d+) IP6? (\S+)\.(\d+) > (\S+)\.(\d+): (Flags \[S\],|UDP,)/
  return text.split('\n').flatMap((line) => {
    const [, seconds, source = '', sourcePort, destination = '', port, kind] = form.exec(line) ?? []
    if (!seconds) return []
    const protocol = kind === 'UDP,' ? 'udp' : 'tcp'
    return { source, sourcePort: Number(sourcePort), destination, protocol, port: Number(port), ms: Number(seconds) * 1000 }
  })
}

// ---- a gate on the lab's server

/**
 * Makes a key, its client's copy and a config in a temporary folder, and the server's firewall: first the administrator's
 * own rules, then ours behind them. Starts the daemon.
 * @param {Lab} lab
 * @param {{id?: string, keyOptions?: string[], skew?: number, neverLock?: string[], allowRoot?: boolean, disk?: string, more?: string, runtime?: string}} [options]
 *   keyOptions: for `knockturn key new`; allowRoot: the daemon may do what we may, instead of what its unit lets it; disk: the
 *   size of one that is made for the ledger alone; more: what else the config says; runtime: the Node of the server's programs
 */
export async function provision(
  lab,
  {
    id = 'traveller',
    keyOptions = ['--services', '22/tcp,443/tcp', '--max', '1h'],
    skew = 1,
    neverLock = [],
    allowRoot = false,
    disk = '',
    more = '',
    runtime = process.execPath,
  } = {},
) {
  const { server } = lab
  const user = allowRoot ? OURSELVES : USER
  const { folder, knockdaemon } = await lab.install(user, runtime)
  const copies = lab.folder() // the clients'
  const keys = join(folder, 'keys')
  mkdirSync(keys, { mode: 0o700 })
  chownSync(keys, user.uid, user.gid)
  const config = join(folder, 'knockturn.toml')
  const ledger = join(folder, ...(disk ? ['disk', 'ledger'] : ['ledger']))
  if (disk) {
    mkdirSync(join(folder, 'disk'))
    await must(['mount', '-t', 'tmpfs', '-o', `size=${disk},uid=${user.uid},gid=${user.gid}`, 'disk', join(folder, 'disk')])
    lab.endings.push(() => must(['umount', join(folder, 'disk')]))
  }
  const knockturn = (/** @type {string[]} */ ...argv) => server.must([runtime, join(BIN, 'knockturn'), ...argv])

  /** Another key in the server's keyring (the daemon reads it at SIGHUP); gives the path of the client's copy. */
  const newKey = async (/** @type {string} */ name, /** @type {string[]} */ ...options) => {
    const copy = join(copies, `${name}.key`)
    await knockturn('key', 'new', name, '--server', 'gate.example', '--host', server.ipv4, ...options, '--keys', keys)
    await knockturn('key', 'export', name, '--out', copy, '--keys', keys)
    return copy
  }
  const key = await newKey(id, ...keyOptions)

  writeFileSync(
    config,
    `server = "gate.example"
keys = ${JSON.stringify(keys)}
skew = ${skew}
never_lock = ${JSON.stringify(neverLock)}
[taps]
source = "nflog"
group = 5
prefix = "KNOCK: "
[firewall]
backend = "iptables"
[ledger]
path = ${JSON.stringify(ledger)}
${more}`,
  )

  for (const iptables of ['iptables', 'ip6tables']) {
    await server.must([iptables, '-P', 'INPUT', 'DROP'])
    await server.must([iptables, '-A', 'INPUT', '-i', 'lo', '-j', 'ACCEPT'])
    await server.must([iptables, '-A', 'INPUT', '-m', 'conntrack', '--ctstate', 'ESTABLISHED,RELATED', '-j', 'ACCEPT'])
  }
  await server.must(['ip6tables', '-A', 'INPUT', '-p', 'icmpv6', '-j', 'ACCEPT']) // neighbour discovery
  await knockturn('firewall', 'install', '--config', config)

  /** The daemon's command, with the privileges that it is to have. */
  const command = [...(allowRoot ? [] : PRIVILEGES), ...knockdaemon, '--config', config, ...(allowRoot ? ['--allow-root'] : [])]

  /** Starts the daemon and waits until it hears. */
  const startDaemon = async (/** @type {string[]} */ ...options) => {
    const daemon = server.start([...command, ...options])
    await daemon.line(logged('ready'))
    return daemon
  }

  const daemon = await startDaemon('--new-ledger')
  return { user, folder, keys, config, ledger, key, knockturn, newKey, knockdaemon, command, startDaemon, daemon }
}

/**
 * Fits the lines of the daemon's log with this message and these fields.
 * @param {string} msg @param {Record<string, unknown>} fields
 */
export function logged(msg, fields = {}) {
  return (/** @type {string} */ line) => {
    if (!line.startsWith('{')) return false
    const record = JSON.parse(line)
    return record.msg === msg && Object.entries(fields).every(([name, value]) => record[name] === value)
  }
}

/** The command of a knock. @param {{key: string}} gate @param {string[]} options */
export function knock(gate, ...options) {
  return [join(BIN, 'knockclient'), '-k', gate.key, ...options]
}

// ---- knocks, for tests

/**
 * What the daemon says of a knock: its first line `accepted` or `refused` from now on.
 * @param {Child} daemon @param {() => Promise<unknown>} send @param {string[]} [sources] whose knock it is; none: whoever's
 * @returns {Promise<Record<string, any>>}
 */
export async function verdict(daemon, send, timeoutMs = PATIENCE, sources = []) {
  const since = daemon.lines.length
  await send()
  const isVerdict = (/** @type {string} */ line) => logged('accepted')(line) || logged('refused')(line)
  const isOurs = (/** @type {string} */ line) => sources.length === 0 || sources.includes(JSON.parse(line).source)
  return JSON.parse(await daemon.line((line) => isVerdict(line) && isOurs(line), since, timeoutMs))
}

/**
 * Knocks once over and gives the daemon's verdict. A door is open before the log says so: what is said late of somebody else's is none of it.
 * @param {Host} host @param {Child} daemon @param {string} key @param {string[]} options
 */
export function knocked(host, daemon, key, ...options) {
  const send = () => host.must(knock({ key }, '--passes', '1', ...options))
  return verdict(daemon, send, PATIENCE, [host.ipv4, host.ipv6])
}

/**
 * A knock that is not sent: what to touch, the rendezvous ports first.
 * @param {Host} host @param {string} key @param {string[]} options
 * @returns {Promise<{window: number, touches: Touch[]}>}
 */
export async function compose(host, key, ...options) {
  const { window, ports } = JSON.parse(await host.must(knock({ key }, '--dry-run', '--json', ...options)))
  return { window, touches: ports.map((/** @type {number} */ port) => ({ protocol: 'tcp', port })) }
}

/** Numbers from 0 to 1, the same ones for the same seed (mulberry32). @param {number} seed */
export function seeded(seed) {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}

/** @template T @param {readonly T[]} items @param {() => number} random @returns {T[]} */
export function shuffled(items, random) {
  const rest = [...items]
  return items.map(() => /** @type {T} */ (rest.splice(Math.floor(random() * rest.length), 1)[0]))
}

// ---- the agent: runs in a host's namespace, does what the lab asks over node's own channel

if (process.argv[1] === HERE && process.argv[2] === 'agent') {
  /** @type {Map<number, import('node:net').Socket>} */
  const held = new Map()

  /**
   * @param {string} address @param {number} port @param {number} timeoutMs @param {string} [from] @param {number} [localPort]
   * @returns {Promise<{saw: string, ms: number, socket: import('node:net').Socket}>}
   */
  const dial = (address, port, timeoutMs, from, localPort) =>
    new Promise((resolve) => {
      const began = performance.now()
      const socket = connect({ host: address, port, ...(from && { localAddress: from }), ...(localPort && { localPort }) })
      const finish = (/** @type {string} */ saw) => {
        clearTimeout(timer)
        resolve({ saw, socket, ms: performance.now() - began })
      }
      // Where we were held up, what has come meanwhile counts: it is heard before the next immediate.
      const timer = setTimeout(() => setImmediate(finish, 'silence'), timeoutMs)
      socket.on('connect', () => finish('open'))
      socket.on('error', (error) => finish(nameOf(error)))
    })

  /** @type {Record<string, string>} */
  const names = { ECONNREFUSED: 'refused', ABORT_ERR: 'silence' }
  const nameOf = (/** @type {any} */ error) => names[error.code] ?? error.code

  /** @param {import('node:net').Socket} socket @param {number} timeoutMs */
  const reply = async (socket, timeoutMs) => {
    try {
      const [data] = await once(socket, 'data', { signal: AbortSignal.timeout(timeoutMs) })
      return String(data).trim()
    } catch {
      return undefined
    }
  }

  /** What can be asked of a host, with the arguments of Host's methods. @type {Record<string, (...args: any[]) => unknown>} */
  const work = {
    ready() {},

    async connect(address, port, timeoutMs, from, localPort) {
      const { saw, socket, ms } = await dial(address, port, timeoutMs, from, localPort)
      const greeting = saw === 'open' ? await reply(socket, timeoutMs) : undefined
      socket.destroy()
      return { saw, ms, greeting }
    },

    async echo(address, port, timeoutMs, from) {
      const began = performance.now()
      const socket = createSocket(address.includes(':') ? 'udp6' : 'udp4')
      if (from) socket.bind(0, from)
      socket.connect(port, address)
      let saw = 'open'
      try {
        await once(socket, 'connect')
        socket.send('echo')
        await once(socket, 'message', { signal: AbortSignal.timeout(timeoutMs) })
      } catch (error) {
        saw = nameOf(error)
      }
      socket.close()
      return { saw, ms: performance.now() - began }
    },

    async hold(address, port, timeoutMs, localPort) {
      const { saw, socket } = await dial(address, port, timeoutMs, undefined, localPort)
      if (saw !== 'open') throw new Error(`connecting to ${address} port ${port}: ${saw}`)
      await reply(socket, timeoutMs)
      const id = held.size
      held.set(id, socket)
      return id
    },

    async isAlive(id, timeoutMs) {
      const socket = held.get(id)
      if (!socket?.writable) return false
      socket.write('still there?\n')
      return (await reply(socket, timeoutMs)) === 'still there?'
    },

    release(id) {
      held.get(id)?.destroy()
    },

    async reset(id) {
      held.get(id)?.resetAndDestroy()
      await sleep(50)
    },

    async service(port) {
      const tcp = createServer((socket) => {
        socket.on('error', () => {})
        socket.write(`welcome, this is port ${port}\n`)
        socket.pipe(socket)
      })
      tcp.listen(port, '::')
      const udp = createSocket('udp6')
      udp.on('message', (data, { address, port: sender }) => udp.send(data, sender, address))
      udp.bind(port, '::')
      await Promise.all([once(tcp, 'listening'), once(udp, 'listening')])
    },

    async replay(/** @type {Touch[]} */ touches, destination, from) {
      const of = (/** @type {string} */ name) => touches.filter(({ protocol }) => protocol === name)
      const sockets = of('tcp').map(({ port }) => connect({ host: destination, port, localAddress: from }))
      for (const socket of sockets) socket.on('error', () => {})
      const udp = createSocket(destination.includes(':') ? 'udp6' : 'udp4').bind(0, from)
      await once(udp, 'listening')
      for (const { port, payload = '' } of of('udp'))
        await new Promise((sent) => udp.send(Buffer.from(payload, 'hex'), port, destination, sent))
      udp.close()
      await sleep(50) // each has sent its SYN; none lives to send it again
      for (const socket of sockets) socket.destroy()
    },
  }

  process.on('message', async (/** @type {any} */ { id, work: name, args }) => {
    try {
      process.send?.({ id, result: await work[name]?.(...args) })
    } catch (error) {
      process.send?.({ id, error: String(error) })
    }
  })
  process.on('disconnect', () => process.exit())
}
