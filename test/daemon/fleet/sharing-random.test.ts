import { expect, it } from 'vitest'
import { seededRandom } from '../../gate/listener/ear'
import { type Fellow, Fellows, leasesOf } from './fellows'
import type { Fault } from './twin'

/* Knocks, closes, partitions, lost answers, new leaders and restarts in any order, at three gateways: what they have open comes to be the same. */

const ADDRESSES = ['198.51.100.2', '203.0.113.9']
const FAULTS: readonly (Fault | 'timeout' | 'full')[] = ['lost before', 'lost after', 'twice', 'timeout', 'full']
const STEPS = 40
/** Milliseconds within which all have the same again when nothing fails any more: the longest rest of what is tried again, and a look. */
const CALM = 12_000

const openAt = (fellow: Fellow) =>
  leasesOf(fellow)
    .map(({ address }) => address)
    .sort()

async function run(seed: number) {
  const random = seededRandom(seed)
  const pick = <One>(all: readonly One[]): One => all[Math.floor(random() * all.length)]
  const fleet = await Fellows.begin({}, {}, {})
  const off = new Set<Fellow>()
  /** address → until when it may be open at most, by the time of the fleet */
  const most = new Map<string, number>()
  const story: string[] = []
  const check = () => {
    for (const fellow of fleet.all)
      for (const { address } of leasesOf(fellow))
        if (fleet.ms > (most.get(address) ?? 0) + 2_000)
          throw new Error(`${address} is open too long at ${fellow.name}: ${story}`)
  }
  for (let step = 0; step < STEPS; step++) {
    const fellow = pick(fleet.all)
    const address = pick(ADDRESSES)
    const what = pick(['knock', 'knock', 'close', 'pass', 'pass', 'cut', 'back', 'fault', 'fault', 'elect', 'restart', 'look'])
    story.push(`${what} ${fellow.name} ${address}`)
    if (what === 'knock' && !off.has(fellow)) {
      const seconds = pick([5, 20, 60])
      most.set(address, Math.max(most.get(address) ?? 0, fleet.ms + (seconds + 1) * 1000))
      await fleet.knock(fellow, { seconds }, address)
    } else if (what === 'close') await fellow.world.daemon.closeNamed({ address })
    else if (what === 'pass') await fleet.pass(pick([250, 3_000, 15_000]))
    else if (what === 'cut') {
      off.add(fellow)
      fellow.cutOff()
    } else if (what === 'back' && off.delete(fellow)) await back(fellow)
    else if (what === 'fault') fellow.twin.plan(...[pick(FAULTS), pick(FAULTS)].slice(0, pick([1, 2])))
    else if (what === 'elect') fleet.store.elect()
    else if (what === 'restart' && !off.has(fellow)) await again(() => fellow.restart(random() < 0.5))
    else if (what === 'look' && !off.has(fellow)) await back(fellow)
    await fleet.settled()
    check()
  }
  for (const fellow of fleet.all) {
    fellow.twin.trouble = null
    // What is planned for requests that have not come.
    for (let request = 0; request < 2 * STEPS; request++) await fellow.twin.left('0').catch(() => {})
    await back(fellow)
  }
  await fleet.pass(CALM)
  check()
  return { fleet, story }
}

/** A look at all rows may fail, too: the link takes another one. */
async function back(fellow: Fellow): Promise<void> {
  await again(() => fellow.back())
}
async function again(act: () => Promise<void>): Promise<void> {
  for (let attempt = 0; attempt < 10; attempt++) {
    try {
      return await act()
    } catch {}
  }
}

it.each(Array.from({ length: 60 }, (_, i) => i + 1))('in the order of seed %i', async (seed) => {
  const { fleet, story } = await run(seed)
  const [first] = fleet.all
  const open = fleet.all.map(openAt)
  const rows = fleet
    .rows()
    .map((row) => row.split('/').at(-1))
    .sort()
  // A row may outlive its lease where a leader was elected: its etcd lease has begun anew.
  expect([open, story]).toEqual([fleet.all.map(() => openAt(first)), story])
  expect(rows).toEqual(expect.arrayContaining(openAt(first)))
  for (const address of ADDRESSES) await fleet.all[seed % 3].world.daemon.closeNamed({ address })
  await fleet.settled()
  // What is about to end does so by itself.
  const long = (fellow: Fellow) => leasesOf(fellow).filter((lease) => fellow.world.leases.left(lease, fellow.world.now) > 2_000)
  expect([fleet.all.map(long), story]).toEqual([[[], [], []], story])
})
