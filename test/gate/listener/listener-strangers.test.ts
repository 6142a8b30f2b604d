import { describe, expect, it } from 'vitest'
import { Ear, keyOf, knockOf, OTHER, POOL, SOURCE, seededRandom, shuffled, WINDOW } from './ear'

const key = keyOf(1)
const KNOCK = knockOf(key)
const SECOND = knockOf(key, 2)

describe('an eavesdropper', () => {
  it('who plays a knock from another address is reported again, for the ledger to refuse', () => {
    const ear = new Ear([key])
    ear.taps(KNOCK)
    ear.taps(KNOCK, { source: OTHER })
    expect(ear.knocks.map(({ source, v }) => [source, v])).toEqual([
      [SOURCE, ear.knocks[0].v],
      [OTHER, ear.knocks[0].v],
    ])
  })

  it('who plays a knock in a later window is told stale', () => {
    const ear = new Ear([key])
    ear.taps(KNOCK)
    ear.wait(60_000)
    ear.taps(KNOCK, { source: OTHER })
    ear.wait(12_000)
    expect(ear.knocks.map(({ arrival }) => arrival)).toEqual(['timely', 'stale'])
  })

  it('makes no new knock of the rendezvous of one and the symbols of another', () => {
    const ear = new Ear([key])
    ear.taps([...KNOCK, ...SECOND])
    ear.taps([...KNOCK.slice(0, 8), ...SECOND.slice(8)], { source: OTHER })
    ear.wait(15_000)
    expect(new Set(ear.knocks.map(({ v }) => v)).size).toBe(2)
  })

  it('makes no new knock of half the symbols of one and half of another', () => {
    const ear = new Ear([key])
    ear.taps(KNOCK.map((port, i) => (i % 2 ? port : SECOND[i])))
    ear.wait(15_000)
    expect(ear.salts).toEqual([])
  })

  it('makes no knock of heard rendezvous ports and a new request’s bytes at random', () => {
    const random = seededRandom(1)
    const ear = new Ear([key])
    for (let i = 0; i < 20; i++) {
      const noise = shuffled([...POOL], random).slice(0, 60)
      ear.taps([...KNOCK.slice(0, 8), ...noise], { source: `203.0.113.${i}` })
    }
    ear.wait(15_000)
    expect(ear.salts).toEqual([])
  })
})

const scans = [
  ['ascending', () => [...POOL]],
  ['descending', () => [...POOL].reverse()],
  ['random', (n: number) => shuffled([...POOL], seededRandom(n))],
] as const

describe.each(scans)('a scan of the whole pool, %s,', (_, order) => {
  describe.each([100, 1_000])('at %i packets a second', (rate) => {
    const pause = 1000 / rate

    /** Scans for some seconds; before each of its taps, `before` is told the milliseconds that have passed. */
    function scan(ear: Ear, ports: number[], seconds: number, before: (passed: number) => void = () => {}): void {
      ports.slice(0, seconds * rate).forEach((port, i) => {
        before(i * pause)
        ear.tap(port, { after: pause })
        if ((i * pause) % 10 < pause) ear.due()
      })
    }

    it('opens nothing', () => {
      const ear = new Ear([key, keyOf(2)])
      scan(ear, order(1), 200)
      ear.wait(15_000)
      expect(ear.salts).toEqual([])
    })

    it('from the address of an honest knock leaves it open, 30 times of 30', () => {
      const opened = Array.from({ length: 30 }, (_, i) => i + 1).filter((n) => {
        const random = seededRandom(n)
        const ear = new Ear([key], { seed: n })
        const passes = [3_000, 4_000 + 1_000 * (random() - 0.5)]
        const knock = knockOf(key, n)
        scan(ear, order(n).slice(Math.floor(random() * 8_000)), 7, (passed) => {
          if (passes.length > 0 && passed >= passes[0] && passes.shift()) ear.taps(knock, { after: 0.1 })
        })
        return ear.salts.length === 1 && ear.salts[0] === n
      })
      expect(opened).toHaveLength(30)
    })
  })
})

it('two windows of one key are not mixed up', () => {
  const ear = new Ear([key])
  ear.taps([...KNOCK.slice(0, 8), ...knockOf(key, 1, WINDOW + 1).slice(8)])
  ear.wait(15_000)
  expect(ear.salts).toEqual([])
})
