// What a fleet costs: three members of etcd, each in a namespace of its own, and real gateways; many of them, simulated in one process.

import { chmodSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { type Fleet, makeFleet } from '../lab/fleet'
import { logged } from '../lab/gate'
import { until } from '../lab/waiters'
import { seededRandom } from '../random'
import type { KnockName } from '../replay/fleet-count'
import { Players } from '../replay/fleet-play'
import { ROOT } from '../root'
import { ran } from './doors'
import { median, type Row, row, SHORT, times } from './figures'

const RUN = join(ROOT, 'test/run.mjs')
const KEYS = 40
/** Knocks that are measured in each way. */
const KNOCKS = times(60, 1)
/** How often a leader is killed. */
const DEATHS = times(3, 1)
/** Milliseconds between two knocks while nobody leads. */
const PACE = 50
/** Gateways that share an etcd: from 10 on they are simulated, since each real one takes 60 MB. */
const COUNTS = times([1, 10, 50], [1, 2])
/** Milliseconds until a fleet opens: its floor is two windows ahead at first. */
const BEGINS = 60_000
const SEED = 1

/** A gateway of a fleet, or one alone, and who knocks there. */
async function begin(isShared: boolean) {
  const fleet = await makeFleet({ gateways: ['gw1'], keys: KEYS, isShared })
  const players = await Players.begin(fleet, KEYS, seededRandom(SEED))
  const [gateway] = fleet.gateways
  if (!gateway) throw new Error('no gateway')
  /** Sends a knock. @returns milliseconds until it is accepted, and its door open */
  const knock = async () => {
    const since = gateway.daemon.lines.length
    const sent = Date.now()
    await players.knock()
    return Date.parse(JSON.parse(await gateway.daemon.line(logged('accepted'), since)).time) - sent
  }
  await players.untilOpen(BEGINS)
  return { fleet, players, knock }
}

export async function fleetRows(): Promise<Row[]> {
  const alone = await begin(false)
  try {
    const shared = await begin(true)
    try {
      const samples: number[][] = [[], []]
      for (let n = 0; n < KNOCKS; n++) for (const [i, { knock }] of [shared, alone].entries()) samples[i]?.push(await knock())
      return [
        row('a fleet of three members: knock sent → accepted, door open', 'ms', samples[0] ?? [], {
          what: 'the file ledger alone',
          samples: samples[1] ?? [],
        }),
        ...(await gatewayRows(shared.fleet)),
        row('  no door opens after the leader is killed', 'ms', await deaths(shared)),
      ]
    } finally {
      await shared.fleet.end()
    }
  } finally {
    await alone.fleet.end()
  }
}

/** @returns milliseconds from a leader's death to the first knock that is accepted, each time */
async function deaths({ fleet: { etcd }, players }: Awaited<ReturnType<typeof begin>>): Promise<number[]> {
  const gaps: number[] = []
  for (let n = 0; n < DEATHS; n++) {
    const leader = await etcd?.leader()
    if (!leader) throw new Error('nobody leads')
    await leader.kill()
    const killed = performance.now()
    const names = new Set<KnockName>()
    const isOpen = async () => {
      names.add((await players.knock()).name)
      await sleep(PACE)
      const granted = players.granted()
      return [...names].some((name) => granted.has(name))
    }
    await until(isOpen, 'a door opens again', BEGINS)
    gaps.push(performance.now() - killed)
    leader.start()
    await etcd?.ready()
    await sleep(times(3_000, 0))
  }
  return gaps
}

/** What a process says that plays many gateways. */
interface Played {
  readonly claims: number[]
  readonly rate: number
  /** A second, while nobody knocks. */
  readonly writes: number
}

/** Claims, and what etcd has to do, with so many gateways that beat and watch. */
async function gatewayRows({ gateways: [gateway], etcd }: Fleet): Promise<Row[]> {
  if (!gateway || !etcd) throw new Error('no fleet')
  const pids = await Promise.all(etcd.members.map(async ({ host }) => (await host?.processes()) ?? []))
  const all = () => pids.flat().reduce((sum, pid) => sum + ran(pid), 0)
  // As a gateway's own user would have it.
  if (etcd.tls) chmodSync(etcd.tls.key, 0o600)
  const rows: Row[] = []
  let first: number[] | null = null
  for (const count of COUNTS) {
    const argv = [
      process.execPath,
      RUN,
      join(ROOT, 'test/bench/gateways.ts'),
      `${count}`,
      JSON.stringify(etcd.endpoints),
      JSON.stringify(etcd.tls),
    ]
    const [before, began] = [all(), performance.now()]
    const said = await gateway.host.must([...argv, ...(SHORT ? ['--short'] : [])], { timeoutMs: 180_000 })
    const busy = (all() - before) / 1e6 / ((performance.now() - began) / 1_000)
    const { claims, rate, writes }: Played = JSON.parse(said)
    const gatewayCount = `${count} ${count === 1 ? 'gateway' : 'gateways'}${count > 1 ? ', simulated' : ''}`
    const beside = first && { what: '1 gateway', samples: first }
    rows.push(row(`a claim in etcd, ${gatewayCount}`, 'ms', claims, beside ?? undefined))
    rows.push(row('  claims, 64 at a time', '/s', [rate]))
    rows.push(row("  etcd's writes while nobody knocks", '/s', [writes]))
    rows.push(row('  CPU time of three members, a second, with claims', 'ms', [busy]))
    first ??= [median(claims)]
  }
  return rows
}
