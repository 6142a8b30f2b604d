import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { describe, expect, it } from 'vitest'
import type { Row } from '../bench/figures'
import { GROUPS } from '../bench/groups'
import { ROOT } from '../root'

const BENCH = [join(ROOT, 'test/run.mjs'), join(ROOT, 'test/bench/bench.ts')]
/** Port knockers that may be on a machine, as their rows call them. Nobody installs them for this. */
const PEERS = ['fwknop', 'knockd', 'knockd -d 50']

/** A short run of a group, which several tests may look at. */
const runs = new Map<string, ReturnType<typeof run>>()
function shortRun(group: string) {
  const begun = runs.get(group) ?? run(group)
  runs.set(group, begun)
  return begun
}

async function run(group: string) {
  const child = spawn(process.execPath, [...BENCH, '--short', '--json', '--only', group], { stdio: ['ignore', 'pipe', 'pipe'] })
  const [stdout, stderr, [code]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'exit')])
  const rows: Row[] = JSON.parse(stdout).rows
  return { code, stderr, rows }
}

describe('a short bench', () => {
  it.each(Object.keys(GROUPS))('measures %s', async (group) => {
    const { code, stderr, rows } = await shortRun(group)
    expect(stderr).toMatch(RegExp(`^${group}: \\S+ s\\n$`))
    expect(code).toBe(0)
    const ours = rows.filter(({ what }) => !PEERS.some((peer) => what === `  compared with ${peer}`))
    expect(ours.length).toBeGreaterThan(0)
    for (const { what, value, unit, floor, ratio } of ours) {
      expect(what).toMatch(/\w/)
      expect(unit).toMatch(/\w/)
      expect(value).toBeTypeOf('number')
      if (floor) expect([floor.what, floor.value, ratio]).toEqual([expect.any(String), expect.any(Number), expect.any(Number)])
    }
  })

  it.for(PEERS)('measures %s beside us, where it is installed', async (peer, { skip }) => {
    const { rows } = await shortRun('open')
    const row = rows.find(({ what }) => what === `  compared with ${peer}`)
    if (row?.note) skip(row.note)
    expect(row?.floor?.what).toBe(peer)
    expect(row?.ratio).toBeTypeOf('number')
  })
})
