import { describe, expect, it } from 'vitest'
import { type Blindness, knock, type Plan, type World } from '../../src/browser/knocking'
import type { Attempt, Seen } from '../../src/browser/sight'

const DOOR = 8080
const PORTS = [50_001, 50_002]

/** A browser that goes by requests, and begins a second connection after 250 ms. */
const REQUESTS = { tells: false, life: 200, again: 250 }
const NOTHING: Seen = { accepted: null, rejected: false }

/** A world in which time passes only when somebody waits, and what has been done in it. */
function world({
  opensAt = Number.POSITIVE_INFINITY,
  roundTrip = 20,
  life = 900,
  again = 1_000,
  tells = true,
  lasting = false,
  reaches = (_: string): boolean => true,
  ask = true,
  way = (_address: string, _at: number): Seen => NOTHING,
} = {}) {
  // Ten seconds before a window turns.
  let now = 20_000
  const touched: { at: number; address: string; ports: readonly number[] }[] = []
  let underWay = 0
  const attempt = (made: number, began: number, seen: () => Seen): Attempt => {
    underWay++
    let ended = false
    const end = () => {
      if (!ended) underWay--
      ended = true
    }
    return { made, tells, began, life, seen, end }
  }
  const atDoor = () => {
    const began = now
    return attempt(1, began, () => {
      const answers = [0, again, 3_000].map((after) => began + after).filter((syn) => syn + roundTrip / 2 >= opensAt)
      return { ...NOTHING, accepted: answers.map((syn) => syn + roundTrip).filter((at) => at <= now)[0] ?? null }
    })
  }
  const made: World = {
    now: () => now,
    sleep: async (milliseconds) => {
      now += Math.max(milliseconds, 1)
    },
    touch: async (address, ports) => {
      if (!reaches(address)) return attempt(0, now, () => NOTHING)
      if (ports[0] === DOOR) return atDoor()
      touched.push({ at: now, address, ports })
      return attempt(ports.length, now, () => way(address, now))
    },
    ask: ask ? async () => atDoor() : null,
    lasting,
  }
  return { made, touched, underWay: () => underWay, now: () => now }
}

let knocks = 0
const plan = (more: Partial<Plan> = {}): Plan => ({
  ...{ addresses: ['198.51.100.1'], period: 30, look: DOOR, limit: 60_000 },
  ports: () => [...PORTS, 60_000 + ++knocks],
  ...more,
})
const nobody = { sent() {}, unseen() {} }
const run = (stage: ReturnType<typeof world>, more: Partial<Plan> = {}) => knock(stage.made, plan(more), nobody)
/** Runs a knock; gives how often a pass had been sent and how many milliseconds were over each time that only a try could tell. */
async function unseen(stage: ReturnType<typeof world>, more: Partial<Plan> = {}) {
  const said: [why: Blindness, passes: number, after: number][] = []
  let passes = 0
  const start = stage.now()
  const told = { sent: () => void passes++, unseen: (why: Blindness) => void said.push([why, passes, stage.now() - start]) }
  return { outcome: await knock(stage.made, plan(more), told), said }
}
const distinct = (stage: ReturnType<typeof world>) => new Set(stage.touched.map(({ ports }) => ports.join())).size

describe('a knock', () => {
  it('ends when the door is seen open', async () => {
    const stage = world({ opensAt: 22_000 })
    expect(await run(stage)).toBe('opened')
    expect([distinct(stage), stage.now() < 24_000]).toEqual([1, true])
  })

  it('is sent whole, though the door be open before', async () => {
    const stage = world({ opensAt: 0 })
    expect(await run(stage)).toBe('before')
    expect(stage.now()).toBeGreaterThanOrEqual(21_500)
  })

  it('is the same in each pass of a window, and a new one when the window has turned', async () => {
    const stage = world()
    expect(await run(stage)).toBe('shut')
    const windows = stage.touched.map(({ at }) => Math.floor(at / 30_000))
    expect([new Set(windows).size, distinct(stage)]).toEqual([3, 3])
    expect(stage.touched.length).toBeGreaterThan(10)
  })

  it('is another one for each address', async () => {
    const stage = world({ opensAt: 21_000 })
    await run(stage, { addresses: ['198.51.100.1', '2001:db8::1'] })
    expect(distinct(stage)).toBe(2)
  })

  it('is given up after its limit', async () => {
    const stage = world()
    await run(stage, { limit: 20_000 })
    expect(stage.now()).toBeLessThan(41_000)
  })

  it('leaves nothing under way', async () => {
    const stages = [world(), world({ opensAt: 25_000 }), world({ reaches: () => false }), world({ lasting: true, tells: false })]
    for (const stage of stages) await run(stage)
    expect(stages.map((stage) => stage.underWay())).toEqual([0, 0, 0, 0])
  })
})

describe('a browser', () => {
  it('that touches nothing says so', async () => {
    expect(await run(world({ reaches: () => false }))).toBe('unsent')
  })

  it('that does not reach one of two addresses goes on with the other', async () => {
    const stage = world({ opensAt: 30_000, reaches: (address) => !address.includes(':') })
    expect(await run(stage, { addresses: ['198.51.100.1', '2001:db8::1'] })).toBe('opened')
    expect(new Set(stage.touched.map(({ address }) => address))).toEqual(new Set(['198.51.100.1']))
  })

  it.each([
    ['does not see TCP services', { tells: false }, {}],
    ['may ask for nothing', { tells: false, ask: false }, {}],
    ['may not look at the port', {}, { look: null }],
  ])('that %s sends two passes, and claims nothing', async (_, how, more) => {
    const stage = world(how)
    expect(await run(stage, more)).toBe('sent')
    expect(stage.touched.length).toBe(2)
  })

  it.each([
    ['does not see TCP services', { tells: false }, {}],
    ['may ask for nothing', { tells: false, ask: false }, {}],
    ['may not look at the port', {}, { look: null }],
    ['can not take its attempts back', { tells: false, lasting: true }, {}],
    ['can not, and may not look', { lasting: true }, { look: null }],
  ])('that %s says once that only a try tells, as soon as its first pass is whole', async (_, how, more) => {
    const { outcome, said } = await unseen(world(how), more)
    expect([outcome, said]).toEqual(['sent', [['sent', 1, expect.closeTo(1_500, -2)]]])
  })

  it('that sees the door says nothing of a try', async () => {
    expect(await unseen(world({ opensAt: 30_000 }))).toEqual({ outcome: 'opened', said: [] })
  })

  it('that sees HTTP answer before its first pass is whole says nothing of a try', async () => {
    expect(await unseen(world({ tells: false, opensAt: 20_500 }))).toEqual({ outcome: 'unclear', said: [] })
  })

  it('that does not see TCP services sees HTTP', async () => {
    expect(await run(world({ tells: false, opensAt: 24_000 }))).toBe('unclear')
  })

  it('that can not take its attempts back makes them once in a window, for two windows', async () => {
    const stage = world({ lasting: true, tells: false })
    expect(await run(stage)).toBe('sent')
    expect([stage.touched.length, distinct(stage)]).toEqual([2, 2])
  })
})

describe('a door that answers', () => {
  it.each<[string, number, number, string]>([
    ['before the knock was open before', 0, 20, 'before'],
    ['as late as its SYN is not said again was open before', 0, 850, 'before'],
    ['later than the knock has opened', 20_500, 20, 'opened'],
    ['a SYN in front of the knock that was said again behind it has opened', 20_950, 20, 'opened'],
    ['after a second pass has opened', 26_000, 20, 'opened'],
    ['so late that it may be to a SYN that was said again is open, and no more is known', 20_500, 890, 'unclear'],
  ])('%s', async (_, opensAt, roundTrip, outcome) => {
    expect(await run(world({ opensAt, roundTrip }))).toBe(outcome)
  })

  it('by one of two addresses before the knock was open before', async () => {
    const stage = world({ opensAt: 0, reaches: (address) => !address.includes(':') })
    expect(await run(stage, { addresses: ['2001:db8::1', '198.51.100.1'] })).toBe('before')
  })

  it.each<[string, number, number, string]>([
    ['before the knock was open before', 0, 80, 'before'],
    ['later is open, and no more is known', 20_050, 80, 'unclear'],
  ])('by HTTP %s', async (_, opensAt, roundTrip, outcome) => {
    expect(await run(world({ ...REQUESTS, opensAt, roundTrip }))).toBe(outcome)
  })
})

describe('somebody on the way', () => {
  const accepts =
    (from = 0) =>
    (_: string, at: number) => ({ accepted: at >= from ? at : null, rejected: false })
  const rejects = (which: (address: string) => boolean) => (address: string) => ({ accepted: null, rejected: which(address) })

  it('who accepts shut ports has no door said to be open', async () => {
    expect(await unseen(world({ opensAt: 0, way: accepts() }))).toEqual({
      outcome: 'answered',
      said: [['answered', 1, expect.closeTo(1_500, -2)]],
    })
  })

  it('who accepts them later than the door has it said all the same', async () => {
    expect(await run(world({ opensAt: 0, way: accepts(21_400) }))).toBe('answered')
  })

  it('who accepts them ends the knock after two passes', async () => {
    const stage = world({ way: accepts() })
    await run(stage)
    expect(stage.touched.length).toBe(2)
  })

  it('who accepts them ends it after the first one where attempts go on', async () => {
    const stage = world({ tells: false, lasting: true, way: accepts() })
    expect([await run(stage), stage.touched.length, stage.now() < 26_000]).toEqual(['answered', 1, true])
  })

  it('who accepts them is told of where the door can not be seen either', async () => {
    const { outcome, said } = await unseen(world({ way: accepts() }), { look: null })
    expect([outcome, said.map(([why]) => why)]).toEqual(['answered', ['answered']])
  })

  it('who accepts them after that was said is told of then', async () => {
    const { outcome, said } = await unseen(world({ way: accepts(23_000) }), { look: null })
    expect([outcome, said.map(([why]) => why)]).toEqual(['answered', ['sent', 'answered']])
  })

  it('who rejects all of the knock is told of as soon as the first pass is whole', async () => {
    const { outcome, said } = await unseen(world({ way: rejects(() => true) }))
    expect([outcome, said]).toEqual(['rejected', [['rejected', 1, expect.closeTo(1_500, -2)]]])
  })

  it('who rejects it by one of two addresses is no hindrance', async () => {
    const stage = world({ opensAt: 24_000, way: rejects((address) => address.includes(':')) })
    expect(await run(stage, { addresses: ['198.51.100.1', '2001:db8::1'] })).toBe('opened')
  })
})
