// From a knock to an open door, in namespaces, with real packets and a real firewall; compared with Debian's knockd and fwknop.
//
// A door is a port that answers datagrams, and it is open from the moment at which the first datagram that came through was sent:
// what we report is too late by the time between two datagrams at most. All rules are in one firewall, one after the other.

import { randomBytes } from 'node:crypto'
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Backend } from '../lab/backend'
import { logged, provision } from '../lab/gate'
import { compose, knock } from '../lab/knocks'
import { makeLab } from '../lab/lab'
import { median, quantile, type Row, row, times } from './figures'
import { makeHand } from './hand'

/** How often doors are opened in each way: by whole clients, and by last taps (with fewer, the p95 depends on luck). */
export const KNOCKS = times(40, 1)
const LAST_TAPS = times(60, 1)
/** Rounds before those that count. */
export const WARM = times(2, 0)
/** The doors: a port is opened once, and stays open. A key may open 64. */
export const FIRST = 20_000
const DOORS = 64
/** Most ways to open doors that are measured in turn; each has doors of its own. */
const WAYS = 5
/** Milliseconds between two looks at a door: looking at a client's whole way does not slow it down. */
const CLOSE_LOOK = 0.2
export const LOOK = 1
/** The one door of knockd, which opens what its configuration contains. */
const KNOCKD_DOOR = FIRST - 1
/** Milliseconds that a last tap may take longer than a bare iptables. */
const MOST_BEYOND = 4
/** Milliseconds of a processor that a daemon may take each second while it has nothing to do. */
const MOST_IDLE = 3.5
/** Rendezvous ports and the symbols that an IPv4 request needs at least: with the last of them a knock is complete. */
const ENOUGH = 8 + 28
/** The taps of a knock but the last are given this many milliseconds, so that they are heard before it. */
const HEARD = 30
/** Milliseconds of rest before a round; again if the machine was busy meanwhile, within this many milliseconds in all. */
export const REST = 150
const MOST_REST = times(30_000, 0)
/** The part of the processors' time that a machine at rest uses. */
const AT_REST = 0.2

/**
 * A gate, a client, and a hand in each. Each knock comes from an address of its own: nobody knocks fifty times in a window, and
 * the earlier knocks of one address would influence the later ones.
 */
export async function makeScene(backend: Backend = 'iptables') {
  const lab = await makeLab()
  const { server, client } = lab.hosts
  try {
    const gate = await provision(lab, {
      keyOptions: ['--services', services(), '--max', '1h'],
      backend,
      ...(backend === 'nftables' ? { guard: [`${FIRST}-${FIRST + WAYS * DOORS - 1}/udp`] } : {}),
    })
    const [at, from] = [makeHand(server), makeHand(client)]
    await at.serve(KNOCKD_DOOR, 1 + WAYS * DOORS)
    return { lab, server, client, gate, at, from }
  } catch (error) {
    await lab.end()
    throw error
  }
}

const services = () => Array.from({ length: DOORS }, (_, i) => `${FIRST + i}/udp`).join(',')
const openRule = (source: string, port: number) => `-s ${source} -p udp --dport ${port} -j ACCEPT`.split(' ')

// ---- the last tap

/** How a rule is made by a program alone, on a client's address and a port. */
type Bare = (address: string, port: number, file: (text: string) => string) => string[]
const BARE: Record<Backend, Record<string, Bare>> = {
  iptables: {
    'iptables -A': (address, port) => ['iptables', '-w', '5', '-A', 'INPUT', ...openRule(address, port)],
    'iptables-restore': (address, port, file) => [
      ...['iptables-restore', '-w', '5', '--noflush'],
      file(`*filter\n-A INPUT ${openRule(address, port).join(' ')}\nCOMMIT\n`),
    ],
  },
  nftables: {
    'nft -f': (address, port, file) => [
      ...['nft', '-f'],
      file(`add element inet knockturn open4_32 { ${address} . udp . ${port} timeout 5m }\n`),
    ],
  },
}

/** Last tap → rule in force, in turn with programs alone; then the CPU time of an idle daemon. */
export async function ruleRows(backend: Backend = 'iptables'): Promise<Row[]> {
  const scene = await makeScene(backend)
  const { lab, server, client, gate, at, from } = scene
  const touchesOf = async (...request: string[]) =>
    (await compose(client, gate.key, '--protocol', 'udp', ...request)).touches.map((touch) => touch.port)
  const knocked = async (port: number) => {
    await client.moveOn()
    const ports = (await touchesOf('-p', String(port))).slice(0, ENOUGH)
    await from.touch(server.ipv4, ports.slice(0, -1))
    await sleep(HEARD)
    const [opened, last] = await Promise.all([
      from.opened(server.ipv4, port, CLOSE_LOOK),
      from.touch(server.ipv4, ports.slice(-1)),
    ])
    return opened - last
  }
  /** The whole burst → accepted in the log, which the daemon logs when the rule is in force. The ports may be open to other addresses. */
  const accepted = async (port: number, time: string) => {
    const ports = await touchesOf('-p', String(FIRST + ((port - FIRST) % DOORS)), '-t', time)
    const since = gate.daemon.lines.length
    const sent = Date.now()
    await from.touch(server.ipv4, ports)
    return Date.parse(JSON.parse(await gate.daemon.line(logged('accepted'), since)).time) - sent
  }
  const alone: number[] = []
  const replacing = async (port: number) => {
    await client.moveOn()
    alone.push(await accepted(port, '2m'))
    return accepted(port, '5m')
  }
  const folder = lab.folder()
  const file = (text: string) => {
    const path = join(folder, 'rule')
    writeFileSync(path, text)
    return path
  }
  const barely = (argvOf: Bare) => async (port: number) => {
    const argv = argvOf(client.ipv4, port, file)
    const [opened, { began }] = await Promise.all([from.opened(server.ipv4, port, CLOSE_LOOK), at.execute(argv)])
    return opened - began
  }
  try {
    const idle = await idleRow(scene)
    const floors = Object.entries(BARE[backend])
    const [ours = [], replaced = [], ...bare] = await inTurn(LAST_TAPS, [
      knocked,
      replacing,
      ...floors.map(([, argvOf]) => barely(argvOf)),
    ])
    const rows = floors.flatMap(([name], i) => {
      const floor = bare[i] ?? []
      const beyond = median(ours) - median(floor)
      const target = { what: `≤ ${MOST_BEYOND} ms more`, met: beyond <= MOST_BEYOND }
      const [middle, ...others] = quantileRows(`${backend}: last tap → rule in force`, ours, name, floor, MEDIAN)
      return [...(middle ? [{ ...middle, target }] : []), ...others]
    })
    const whole = row(`${backend}: last tap → accepted, one rule added and one deleted`, 'ms', replaced, {
      what: 'one rule added',
      samples: alone,
    })
    return [...rows, whole, idle]
  } finally {
    await lab.end()
  }
}

/** Seconds for which an idle daemon is watched. */
const IDLE = times(20, 1)
/** Nanoseconds that the threads of a process have run. */
export const ran = (pid: number) =>
  readdirSync(`/proc/${pid}/task`)
    .map((thread) => Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'latin1').split(' ')[0]))
    .reduce((sum, time) => sum + time, 0)

/** The CPU time of an idle daemon, and of its tcpdump. */
async function idleRow({ server, gate }: Scene): Promise<Row> {
  const isOurs = (pid: number) => pid === gate.daemon.pid || readFileSync(`/proc/${pid}/comm`, 'latin1') === 'tcpdump\n'
  const pids = (await server.processes()).filter(isOurs)
  const all = () => pids.map(ran).reduce((sum, time) => sum + time, 0)
  await sleep(1_000)
  const before = all()
  await sleep(1_000 * IDLE)
  const each = (all() - before) / 1e6 / IDLE
  const target = { what: `≤ ${MOST_IDLE} ms`, met: each <= MOST_IDLE }
  return { ...row('CPU time of an idle daemon and its tcpdump, per second', 'ms', [each]), target }
}

// ---- the whole way

/** exec of a client → open door: ours, and those of the peers that are installed, in turn. */
export async function openRows(): Promise<Row[]> {
  const scene = await makeScene()
  const { lab, server, client, gate, from } = scene
  const exec = async (argv: string[], port: number) => {
    const [opened, { began }] = await Promise.all([from.opened(server.ipv4, port, LOOK), from.execute(argv)])
    return opened - began
  }
  const ours = async (port: number) => {
    await client.moveOn()
    return exec(knock(gate, '-p', String(port), '--protocol', 'udp', '--passes', '1'), port)
  }
  const node = async () => {
    const { began, ended } = await from.execute([process.execPath, '-e', ''])
    return ended - began
  }
  try {
    const peers = [await fwknop(scene, exec), ...(await knockd(scene, exec))]
    const [mine = [], floor = [], ...theirs] = await inTurn(KNOCKS, [ours, node, ...peers.flatMap(({ open }) => open ?? [])])
    const rows = quantileRows('knockclient exec → open', mine, "node -e ''", floor, MEDIAN)
    for (const { name, missing, open, below } of peers) {
      if (!open) rows.push({ what: `  compared with ${name}`, value: null, unit: 'ms', note: missing })
      else
        for (const [i, one] of quantileRows(`  compared with ${name}`, mine, name, theirs.shift() ?? [], P95).entries()) {
          const most = below?.[i]
          rows.push(most ? { ...one, target: { what: `< × ${most}`, met: (one.ratio ?? Infinity) < most } } : one)
        }
    }
    return rows
  } finally {
    await lab.end()
  }
}

export type Scene = Awaited<ReturnType<typeof makeScene>>
/** runs a client and gives the milliseconds to the open port */
export type Exec = (argv: string[], port: number) => Promise<number>
/** another port knocker */
export interface Peer {
  name: string
  /** the parts of its median and of its p95 below which we promise to stay */
  below?: number[]
  /** why it is missing */
  missing?: string
  open?: (port: number) => Promise<number>
}

/** Milliseconds within which a peer's daemon is ready, or ends because it cannot run. */
const START = 2_000

/** Why a peer cannot be measured, or nothing. */
function notInstalled(...commands: string[]) {
  const folders = (process.env.PATH ?? '').split(':')
  return commands.every((command) => folders.some((path) => existsSync(join(path, command)))) ? undefined : 'not installed'
}

/** fwknop as Debian configures it, in pcap mode. */
async function fwknop({ lab, server, client }: Scene, exec: Exec): Promise<Peer> {
  const name = 'fwknop'
  const missing = notInstalled('fwknopd', 'fwknop')
  if (missing) return { name, missing }
  const folder = lab.folder()
  const put = (file: string, text: string) => {
    writeFileSync(join(folder, file), text, { mode: 0o600 })
    return join(folder, file)
  }
  const keys = `KEY_BASE64 ${randomBytes(32).toString('base64')}\nHMAC_KEY_BASE64 ${randomBytes(64).toString('base64')}\n`
  const access = put('access.conf', `SOURCE ANY\n${keys}FW_ACCESS_TIMEOUT 300\n`)
  const config = put('fwknopd.conf', 'PCAP_INTF eth0;\n')
  const rc = put('fwknoprc', `[gate]\nSPA_SERVER ${server.ipv4}\n${keys}USE_HMAC Y\n`)
  const files = ['-c', config, '-a', access, '-r', folder, '-p', join(folder, 'pid'), '-d', join(folder, 'digest.cache')]
  const daemon = server.start(['fwknopd', '-f', ...files])
  try {
    await daemon.line((line) => line.includes('Starting fwknopd main event loop'), 0, START)
  } catch {
    return { name, missing: `its daemon does not start: ${daemon.lines.at(-1) ?? ''}` }
  }
  const argv = (port: number) => [
    'fwknop',
    '-n',
    'gate',
    '--rc-file',
    rc,
    '--no-save-args',
    '-a',
    client.ipv4,
    '-A',
    `udp/${port}`,
  ]
  return { name, below: [0.6, 1], open: (port) => exec(argv(port), port) }
}

/** knockd with the three ports of Debian's configuration, and with the pause that makes it robust to reordering. */
async function knockd({ lab, server, client, at }: Scene, exec: Exec): Promise<Peer[]> {
  const ways = [
    { name: 'knockd', options: [] },
    { name: 'knockd -d 50', options: ['-d', '50'], below: [0.5, 1] },
  ]
  const missing = notInstalled('knockd', 'knock')
  if (missing) return ways.map(({ name }) => ({ name, missing }))
  const folder = lab.folder()
  const rule = openRule('%IP%', KNOCKD_DOOR).join(' ')
  const config = join(folder, 'knockd.conf')
  writeFileSync(
    config,
    `[options]\nlogfile = ${join(folder, 'log')}\n[open]\nsequence = 7000,8000,9000\nseq_timeout = 5\ntcpflags = syn\ncommand = iptables -A INPUT ${rule}\n`,
  )
  const daemon = server.start(['knockd', '-i', 'eth0', '-c', config])
  if (await Promise.race([daemon.exited, sleep(START)]))
    return ways.map(({ name }) => ({ name, missing: `its daemon does not start: ${daemon.lines.at(-1) ?? ''}` }))
  return ways.map(({ options, ...way }) => ({
    ...way,
    open: async () => {
      const ms = await exec(['knock', ...options, server.ipv4, '7000', '8000', '9000'], KNOCKD_DOOR)
      await at.execute(['iptables', '-D', 'INPUT', ...openRule(client.ipv4, KNOCKD_DOOR)])
      return ms
    },
  }))
}

/** Opens doors in each way, A B C A B C, each time another door. @returns the milliseconds of each way */
export async function inTurn(times: number, ways: ((port: number) => Promise<number>)[]) {
  const samples: number[][] = ways.map(() => [])
  let left = MOST_REST
  for (let i = 0; i < WARM + times; i++) {
    // A client is work and a peer's pause is none, so that other work on the machine would favour the peer.
    do left -= REST
    while ((await busyPart(REST)) > AT_REST && left > 0)
    for (const [at, open] of ways.entries()) {
      const ms = await open(FIRST + DOORS * at + i)
      if (i >= WARM) samples[at]?.push(ms)
    }
  }
  return samples
}

/** The part of the coming milliseconds in which the processors work, for any program. */
async function busyPart(ms: number) {
  const times = () => cpus().map((one) => one.times)
  const sum = (numbers: number[]) => numbers.reduce((a, b) => a + b, 0)
  const all = () => sum(times().flatMap((one) => Object.values(one)))
  const idle = () => sum(times().map((one) => one.idle))
  const [allBefore, idleBefore] = [all(), idle()]
  await sleep(ms)
  return 1 - (idle() - idleBefore) / (all() - allBefore)
}

const MEDIAN = 0.5
const P95 = 0.95

/**
 * Median and p95.
 * @param part what of the compared samples stands beside our p95: a peer's p95; of a floor, which does not depend on luck, the median
 */
function quantileRows(what: string, samples: number[], name: string, beside: number[], part: number): Row[] {
  const [value, floor] = [quantile(samples, P95), quantile(beside, part)]
  const their = part === P95 ? `${name}, p95` : name
  return [
    row(what, 'ms', samples, { what: name, samples: beside }),
    row('  p95', 'ms', [value], { what: their, samples: [floor] }),
  ]
}
