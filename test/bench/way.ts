// Where the time goes from a client's exec to an open door: when each step is done, as seen by a probe in client and daemon.

import { chmodSync, copyFileSync, existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { knock } from '../lab/knocks'
import { ROOT } from '../root'
import { FIRST, KNOCKS, LOOK, makeScene, REST, WARM } from './doors'
import { type Row, row } from './figures'

/** The steps of a knock by the probe's names, and as the table shows them. */
const STEPS = {
  started: 'the process exists',
  node: 'Node has started',
  loaded: 'the client is loaded and reads its key',
  key: 'the key is ready',
  first: 'the knock is made and its first packet leaves',
  last: 'its last packet leaves',
  heard: 'the daemon has heard enough of it',
  decoded: 'it is decoded and its claim is written',
  disk: 'the claim is on disk',
  force: 'the firewall has confirmed the rule',
}
const PROBE = join(ROOT, 'test/bench/probe.cjs')
/** The folder of the probe and its notes: our namespaces have a /run of their own. */
const MARKS = '/run/marks'
const PROGRAMS = ['client', 'daemon']
/** Milliseconds until all steps are noted. */
const PATIENCE = 10_000

/** What has been noted; nothing, while it is being written. */
function parsed(text: string): Record<string, number> {
  try {
    return JSON.parse(text)
  } catch {
    return {}
  }
}

/** When each step is done, from the client's exec on: by a probe in client and daemon, which takes some time itself. */
export async function wayRows(): Promise<Row[]> {
  mkdirSync(MARKS)
  // The daemon's user writes there, too, and may not read the folder of this clone.
  chmodSync(MARKS, 0o777)
  copyFileSync(PROBE, join(MARKS, 'probe.cjs'))
  const { NODE_OPTIONS } = process.env
  process.env.NODE_OPTIONS = `--require=${join(MARKS, 'probe.cjs')}`
  const { lab, server, client, gate, from } = await makeScene().finally(() => {
    process.env.NODE_OPTIONS = NODE_OPTIONS ?? ''
  })
  /** The notes of both, once each step of this knock is there: the port may open before the daemon has noted it. */
  async function marksSince(began: number): Promise<Record<string, number>> {
    const end = performance.now() + PATIENCE
    for (;;) {
      const texts = PROGRAMS.map((program) => join(MARKS, `${program}.json`)).filter(existsSync)
      const marks = Object.assign({}, ...texts.map((path) => parsed(readFileSync(path, 'utf8'))))
      const missing = Object.keys(STEPS).filter((step) => !(marks[step] > began))
      if (missing.length === 0) return marks
      if (performance.now() >= end) throw new Error(`no mark of ${missing.join()}`)
      await sleep(10)
    }
  }
  const ways: Record<string, number>[] = []
  try {
    for (let i = 0; i < WARM + KNOCKS; i++) {
      await sleep(REST)
      await client.moveOn()
      const argv = knock(gate, '-p', String(FIRST + i), '--protocol', 'udp', '--passes', '1')
      const [opened, { began }] = await Promise.all([from.opened(server.ipv4, FIRST + i, LOOK), from.execute(argv)])
      const at = Object.entries({ ...(await marksSince(began)), opened })
      if (i >= WARM) ways.push(Object.fromEntries(at.map(([step, moment]) => [step, moment - began])))
    }
  } finally {
    await lab.end()
    rmSync(MARKS, { recursive: true })
  }
  const rowOf = ([step = '', what = '']) =>
    row(
      `  ${what}`,
      'ms',
      ways.map((way) => way[step] ?? NaN),
    )
  return [
    row(
      'knockclient exec → open, with a probe',
      'ms',
      ways.map(({ opened = NaN }) => opened),
    ),
    ...Object.entries(STEPS).map(rowOf),
  ]
}
