import { describe, expect, it } from 'vitest'
import { type Attempt, knock, type Plan, type World } from '../../src/page/knock'

const DOOR = 8080
const PORTS = [50_001, 50_002]

/** A world in which time passes only when somebody waits, and what has been done in it. */
function world({
  opensAt = Number.POSITIVE_INFINITY,
  tells = true,
  lasting = false,
  reaches = (_: string): boolean => true,
  ask = true,
} = {}) {
  // Ten seconds before a window turns.
  let now = 20_000
  const touched: { at: number; address: string; ports: readonly number[] }[] = []
  let underWay = 0
  const attempt = (made: number, accepted: () => boolean): Attempt => {
    underWay++
    const end = () => {
      underWay--
    }
    return { made, tells, accepted, end }
  }
  const made: World = {
    now: () => now,
    sleep: async (milliseconds) => {
      now += Math.max(milliseconds, 1)
    },
    touch: async (address, ports) => {
      if (ports[0] !== DOOR) touched.push({ at: now, address, ports })
      return attempt(reaches(address) ? ports.length : 0, () => ports[0] === DOOR && now >= opensAt)
    },
    ask: ask ? async () => attempt(1, () => now >= opensAt) : null,
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
const run = (stage: ReturnType<typeof world>, more: Partial<Plan> = {}) => knock(stage.made, plan(more), () => {})
const distinct = (stage: ReturnType<typeof world>) => new Set(stage.touched.map(({ ports }) => ports.join())).size

describe('a knock', () => {
  it('ends when the door is seen open', async () => {
    const stage = world({ opensAt: 22_000 })
    expect(await run(stage)).toBe('open')
    expect([distinct(stage), stage.now() < 24_000]).toEqual([1, true])
  })

  it('is sent whole, though the door be open before', async () => {
    const stage = world({ opensAt: 0 })
    expect(await run(stage)).toBe('open')
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
    expect(await run(stage, { addresses: ['198.51.100.1', '2001:db8::1'] })).toBe('open')
    expect(stage.touched.filter(({ address }) => address.includes(':')).length).toBe(1)
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

  it('that does not see TCP services sees HTTP', async () => {
    expect(await run(world({ tells: false, opensAt: 24_000 }))).toBe('open')
  })

  it('that can not take its attempts back makes them once in a window, for two windows', async () => {
    const stage = world({ lasting: true, tells: false })
    expect(await run(stage)).toBe('sent')
    expect([stage.touched.length, distinct(stage)]).toEqual([2, 2])
  })
})
