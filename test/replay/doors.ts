// Port knockers whose door is attacked: ours, and beside it Debian's knockd and fwknop, which have known weaknesses.

import { randomBytes } from 'node:crypto'
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { logged, provision } from '../lab/gate'
import { knock } from '../lab/knocks'
import type { Child } from '../lab/processes'
import { SSH, type Stage } from './stage'

/** Seconds that a door stays open. */
export const LEASE = 2
/** Milliseconds within which a daemon is ready. */
const START = 30_000
/** The ports of Debian's configuration. */
const SEQUENCE = ['7000', '8000', '9000']

const SPA = 62_201
/** The default pool of a key. */
export const POOL = Array.from({ length: 16_384 }, (_, i) => 49_152 + i)

export interface Door {
  /** has the user knock from an address */
  knock: (address: string, passes?: number) => Promise<unknown>
  /** starts the daemon, and waits until it listens */
  start: () => Promise<unknown>
  /** ends it, with all its processes */
  end: (signal: NodeJS.Signals) => Promise<unknown>
  /** what a reboot removes while the daemon is not running: rules, and files in memory */
  reboot: () => Promise<unknown>
  /** what the daemon has logged */
  lines: () => string[]
}
export interface Maker {
  name: string
  /** that must be installed */
  commands: string[]
  /** the ports that a knock may use */
  knockPorts: number[]
  /** the firewall, the configuration and a daemon that listens */
  open: (stage: Stage) => Promise<Door>
}

/** Ours, with a key of these options. @param options more for its config; the size of a disk for the ledger alone */
export async function openOurs(
  stage: Stage,
  keyOptions: string[] = [],
  { more = '', disk = '' }: { more?: string; disk?: string } = {},
) {
  const gate = await provision(stage.lab, {
    keyOptions: ['--services', `${SSH}/tcp`, '--max', '1h', ...keyOptions],
    more,
    disk,
  })
  let { daemon } = gate
  /** What daemons that have ended have logged. */
  const before: string[] = []
  const lease = ['-p', String(SSH), '-t', `${LEASE}s`]
  return {
    gate,
    /** The options of knockclient that open the door for {@link LEASE} seconds. */
    lease,
    get daemon() {
      return daemon
    },
    /** Has the user run knockclient from an address. */
    async client(address: string, ...options: string[]) {
      await stage.speakFrom(stage.user, address)
      await stage.user.must(knock(gate, ...options))
    },
    async knock(address: string, passes: number = 1) {
      await this.client(address, ...lease, '--passes', String(passes))
    },
    /** Starts it, perhaps with another clock. */
    async start(clock: string[] = []) {
      // Not before the daemon has its own rights: what faketime makes belongs to whoever made it.
      daemon = stage.server.start(gate.commandBehind(...clock))
      await daemon.line(logged('ready'), 0, START)
    },
    async end(signal: NodeJS.Signals) {
      await endAll(stage, daemon, signal)
      before.push(...daemon.lines)
      daemon.lines = []
    },
    async reboot() {
      await gate.knockturn('firewall', 'remove')
      await gate.knockturn('firewall', 'install', '--config', gate.config)
    },
    lines: () => [...before, ...daemon.lines],
  }
}

export const knockturn: Maker = { name: 'knockturn', commands: [], knockPorts: POOL, open: (stage) => openOurs(stage) }

const ACCEPT_ESTABLISHED = ['iptables', '-A', 'INPUT', '-m', 'conntrack', '--ctstate', 'ESTABLISHED,RELATED', '-j', 'ACCEPT']

/** What every administrator has set up. */
async function shutAll({ server }: Stage) {
  await server.must(['iptables', '-P', 'INPUT', 'DROP'])
  await server.must(ACCEPT_ESTABLISHED)
}

/** Ends a daemon with all its processes, as its service manager does. */
async function endAll({ server }: Stage, daemon: Child, signal: NodeJS.Signals) {
  daemon.child.kill(signal)
  for (const pid of await server.processes()) {
    try {
      process.kill(pid, signal)
    } catch {
      // It has ended with its parent.
    }
  }
  await daemon.exited
}

/** A daemon that reports when it listens. */
async function startPeer(stage: Stage, argv: string[], ready: string) {
  const daemon = stage.server.start(argv)
  await daemon.line((line) => line.includes(ready), 0, START)
  return { daemon, end: (signal: NodeJS.Signals) => endAll(stage, daemon, signal) }
}

/** knockd, as in its manual. */
export const knockd: Maker = {
  name: 'knockd',
  commands: ['knockd', 'knock'],
  knockPorts: SEQUENCE.map(Number),
  async open(stage) {
    await shutAll(stage)
    const folder = stage.lab.folder()
    const config = join(folder, 'knockd.conf')
    const rule = `INPUT -s %IP% -p tcp --dport ${SSH} -j ACCEPT`
    writeFileSync(
      config,
      `[options]
logfile = ${join(folder, 'log')}
[door]
sequence = ${SEQUENCE.join()}
seq_timeout = 5
tcpflags = syn
start_command = iptables -w 5 -A ${rule}
cmd_timeout = ${LEASE}
stop_command = iptables -w 5 -D ${rule}
`,
    )
    const start = () => startPeer(stage, ['knockd', '-v', '-i', 'eth0', '-c', config], 'listening on')
    let running = await start()
    return {
      async knock(address) {
        await stage.speakFrom(stage.user, address)
        await stage.user.must(['knock', '-d', '50', stage.server.ipv4, ...SEQUENCE])
      },
      async start() {
        running = await start()
      },
      end: (signal) => running.end(signal),
      async reboot() {
        await stage.server.must(['iptables', '-F', 'INPUT'])
        await stage.server.must(ACCEPT_ESTABLISHED)
      },
      lines: () => running.daemon.lines,
    }
  },
}

/** fwknop as Debian configures it, in pcap mode; its record of used packets is under /run, in memory. */
export const fwknop: Maker = {
  name: 'fwknop',
  commands: ['fwknopd', 'fwknop'],
  knockPorts: [SPA],
  async open(stage) {
    await shutAll(stage)
    const folder = stage.lab.folder()
    const run = '/run/fwknop'
    const put = (file: string, text: string) => {
      writeFileSync(join(folder, file), text, { mode: 0o600 })
      return join(folder, file)
    }
    const keys = `KEY_BASE64 ${randomBytes(32).toString('base64')}\nHMAC_KEY_BASE64 ${randomBytes(64).toString('base64')}\n`
    const access = put('access.conf', `SOURCE ANY\n${keys}FW_ACCESS_TIMEOUT ${LEASE}\n`)
    const config = put('fwknopd.conf', 'PCAP_INTF eth0;\n')
    const rc = put('fwknoprc', `[gate]\nSPA_SERVER ${stage.server.ipv4}\n${keys}USE_HMAC Y\n`)
    const files = ['-c', config, '-a', access, '-r', run, '-p', join(run, 'pid'), '-d', join(run, 'digest.cache')]
    const start = () => {
      mkdirSync(run, { recursive: true, mode: 0o700 })
      return startPeer(stage, ['fwknopd', '-f', ...files], 'Starting fwknopd main event loop')
    }
    let running = await start()
    return {
      async knock(address) {
        await stage.speakFrom(stage.user, address)
        await stage.user.must(['fwknop', '-n', 'gate', '--rc-file', rc, '--no-save-args', '-a', address, '-A', `tcp/${SSH}`])
      },
      async start() {
        running = await start()
      },
      end: (signal) => running.end(signal),
      async reboot() {
        rmSync(run, { recursive: true, force: true })
        await stage.server.must(['iptables', '-F'])
        await stage.server.must(ACCEPT_ESTABLISHED)
      },
      lines: () => running.daemon.lines,
    }
  },
}

/** Why a door cannot be attacked, or nothing. */
export function missing({ commands }: Maker) {
  const folders = (process.env.PATH ?? '').split(':')
  const absent = commands.filter((command) => !folders.some((path) => existsSync(join(path, command))))
  return absent.length > 0 ? 'not installed' : undefined
}

/** Our refusals and acceptances in a log, and how often each occurs. */
export function said(lines: readonly string[]): Record<string, number> {
  const counts: Record<string, number> = {}
  for (const line of lines) {
    if (!logged('accepted')(line) && !logged('refused')(line)) continue
    const { msg, refusal = msg } = JSON.parse(line)
    counts[refusal] = (counts[refusal] ?? 0) + 1
  }
  return counts
}
