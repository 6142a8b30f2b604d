// How long an administrator waits for `knockturn status`, on a server with many keys and leases: with a daemon, by its state file, and without one,
// when the firewall has to say what is open.

import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { State } from '../../src/daemon/state/state'
import { inNamespace } from '../lab/lab'
import { BIN } from '../root'
import { type Row, row, times } from './figures'

const RUNS = times(21, 1)
const KEYS = times(1_000, 10)
const LEASES = times(10_000, 100)
const MOST_MS = 600

const iso = (from: number) => `${new Date(Date.now() + from).toISOString().slice(0, -5)}Z`
const address = (n: number) => `10.${n >> 16}.${(n >> 8) & 255}.${n & 255}`
const fingerprint = (n: number) => (n % KEYS).toString(16).padStart(32, '0')

/** As a daemon has it that has been used by everybody. @param pid of whoever passes for the daemon */
function stateOf(ledger: string, pid: number): State {
  const use = (n: number) => ({ at: iso(-n * 1_000), source: address(n), action: 'open', windowsOff: 0 })
  return {
    ...{
      fleet: null,
      version: 1,
      program: 'bench',
      pid,
      started: iso(-60_000),
      config: '/bench',
      ledger,
      server: 'gate.example',
    },
    ...{ backend: 'nftables', source: 'nflog', hearing: 'well', lastTap: iso(-1_000), lastKnock: null },
    taps: { seen: 1, ignored: 0, unreadable: 0, dropped: 0 },
    guard: ['1-49151/tcp'],
    keys: Array.from({ length: KEYS }, (_, n) => {
      return { id: `user${n}`, fingerprint: fingerprint(n), expires: iso(n * 3_600_000), services: ['22/tcp'], lastUse: use(n) }
    }),
    leases: Array.from({ length: LEASES }, (_, n) => {
      const whose = { id: n.toString(16).padStart(8, '0'), key: `user${n % KEYS}`, fingerprint: fingerprint(n) }
      return { ...whose, address: address(n), service: '22/tcp', once: false, opened: iso(-1_000), until: iso(3_600_000) }
    }),
    locks: [],
    day: { since: iso(-3_600_000), accepted: LEASES, refused: {}, taps: 1, dropped: 0, busiest: null },
  }
}

/** @param fill has so many leases in force in nftables */
export async function statusRows(folder: string, fill: (leases: number) => Promise<unknown>): Promise<Row[]> {
  inNamespace()
  const place = join(folder, 'status')
  mkdirSync(place)
  const [config, ledger, state] = ['knockturn.toml', 'ledger', 'state.json'].map((name) => join(place, name)) as [
    string,
    string,
    string,
  ]
  writeFileSync(
    config,
    'server = "gate.example"\n[firewall]\nbackend = "nftables"\nguard = ["1-49151/tcp"]\n[ledger]\npath = "ledger"\n',
  )
  await fill(LEASES)
  const daemon = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1e6)', 'knockdaemon'], { stdio: 'ignore' })
  const measured: Record<string, number[]> = { node: [], alive: [], dead: [] }
  try {
    for (let i = 0; i < RUNS; i++) {
      measured.node?.push(time(['-e', '']))
      writeFileSync(state, JSON.stringify(stateOf(ledger, daemon.pid ?? 0)))
      measured.alive?.push(timeStatus(config, ' (by the firewall)', false))
      rmSync(state)
      measured.dead?.push(timeStatus(config, ' (by the firewall)', true))
    }
  } finally {
    daemon.kill()
    execFileSync('nft', ['delete', 'table', 'inet', 'knockturn'])
  }
  const what = `knockturn status: ${KEYS.toLocaleString('en')} keys, ${LEASES.toLocaleString('en')} leases`
  const alive = row(what, 'ms', measured.alive ?? [], { what: "node -e ''", samples: measured.node ?? [] })
  return [
    { ...alive, target: { what: `≤ ${MOST_MS} ms`, met: (alive.value ?? Number.POSITIVE_INFINITY) <= MOST_MS } },
    row('  the same without a daemon, from nftables', 'ms', measured.dead ?? []),
  ]
}

/** Milliseconds from a command's start to its end. */
function time(args: readonly string[]): number {
  const began = performance.now()
  execFileSync(process.execPath, args, { env: { ...process.env, NODE_EXTRA_CA_CERTS: undefined } })
  return performance.now() - began
}

/** @param words that stand behind the number of leases, or don't: who has counted them */
function timeStatus(config: string, words: string, hasWords: boolean): number {
  const began = performance.now()
  const { stdout } = spawnSync(process.execPath, [join(BIN, 'knockturn'), 'status', '--config', config], {
    env: { ...process.env, NODE_EXTRA_CA_CERTS: undefined },
    encoding: 'utf8',
  })
  const ms = performance.now() - began
  const line = stdout.split('\n').find((one) => one.startsWith('leases'))
  if (line !== `leases    ${LEASES.toLocaleString('en')}${hasWords ? words : ''}`)
    throw new Error(`status has not shown the leases: ${line}`)
  return ms
}
