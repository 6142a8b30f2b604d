import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { rendezvous } from '../../../src/protocol/codebook'
import { Ear, keyOf, knockOf, MIDDLE, OTHER, POOL, requestOf, SOURCE, seededRandom, shuffled, WINDOW } from './ear'

const key = keyOf(1)
const KNOCK = knockOf(key)
const THIRTY = Array.from({ length: 30 }, (_, i) => i + 1)

/** How many of 30 honest knocks, each at a listener of its own, are opened, each once and as what it is. */
function opened(knock: (ear: Ear, ports: number[], random: () => number) => void): number {
  return THIRTY.filter((n) => {
    const ear = new Ear([key], { seed: n })
    knock(ear, knockOf(key, n), seededRandom(1000 + n))
    return ear.salts.length === 1 && ear.salts[0] === n
  }).length
}
const lossy = (ports: number[], loss: number, random: () => number) => ports.filter(() => random() >= loss)

describe('a knock opens', () => {
  it('as soon as 4 rendezvous ports and 28 symbols have been heard', () => {
    const ear = new Ear([key])
    ear.taps(KNOCK.slice(4, 8 + 27))
    expect(ear.salts).toEqual([])
    ear.tap(KNOCK[8 + 27])
    expect(ear.salts).toEqual([1])
  })

  it('as what it is', () => {
    const ear = new Ear([key])
    ear.taps(KNOCK)
    expect(ear.knocks).toMatchObject([
      { key, window: WINDOW, request: requestOf(1), source: SOURCE, destination: '198.51.100.1', arrival: 'timely' },
    ])
  })

  it('with an IPv6 address in it', () => {
    const ear = new Ear([key])
    ear.taps(knockOf(key, 1, WINDOW, { ...requestOf(1), address: '2001:db8::1' }))
    expect(ear.knocks.map(({ request }) => request.address)).toEqual(['2001:db8::1'])
  })

  it('in any order', () => {
    fc.assert(
      fc.property(fc.shuffledSubarray(KNOCK, { minLength: 52 }), (ports) => {
        const ear = new Ear([key])
        ear.taps(ports)
        expect(ear.salts).toEqual([1])
      }),
      { numRuns: 50 },
    )
  })

  it('with its symbols before its rendezvous, and a stranger between', () => {
    const ear = new Ear([key])
    ear.taps(KNOCK.slice(8))
    ear.tap(KNOCK[9], { source: OTHER })
    ear.taps(KNOCK.slice(0, 8))
    expect(ear.salts).toEqual([1])
  })

  it('at a pace that fits in 10 s', () => {
    const ear = new Ear([key])
    for (const port of KNOCK) {
      ear.tap(port, { after: 10 })
      ear.wait(9_900 / KNOCK.length - 10)
    }
    expect(ear.salts).toEqual([1])
  })

  it('where every page has another symbol, too, that was touched less', () => {
    const ear = new Ear([key])
    ear.taps(KNOCK.flatMap((port, i) => [port, port, knockOf(key, 2)[i]]))
    expect(ear.salts).toContain(1)
  })

  it('30 times of 30 with 10 % loss, in one pass', () => {
    expect(
      opened((ear, ports, random) => {
        ear.taps(lossy(ports, 0.1, random))
        ear.wait(2_000)
      }),
    ).toBe(30)
  })

  it('30 times of 30 with 20 % loss, in two passes', () => {
    expect(
      opened((ear, ports, random) => {
        ear.taps(lossy(ports, 0.2, random))
        ear.wait(1_000)
        ear.taps(lossy(ports, 0.2, random))
        ear.wait(2_000)
      }),
    ).toBe(30)
  })

  it('30 times of 30 with 20 noise taps among its own', () => {
    expect(
      opened((ear, ports, random) => {
        const noise = Array.from({ length: 20 }, () => POOL[Math.floor(random() * POOL.length)])
        ear.taps(shuffled([...ports, ...noise], random))
        ear.wait(2_000)
      }),
    ).toBe(30)
  })

  it('when its rendezvous is said again, though those of 25 other keys came from its source after the first time', () => {
    const keys = Array.from({ length: 26 }, (_, n) => keyOf(n))
    const ear = new Ear(keys)
    const [mine, ...others] = keys.map((by) => knockOf(by))
    for (const ports of [mine, ...others]) ear.taps(ports.slice(0, 8))
    ear.wait(1_000)
    ear.taps(mine)
    ear.wait(300)
    expect(ear.knocks.map(({ key }) => key)).toEqual([keys[0]])
  })
})

describe('a knock that lost too much', () => {
  it('does not keep three clean ones of its source from opening, 30 times of 30', () => {
    const opened = THIRTY.filter((n) => {
      const random = seededRandom(n)
      const ear = new Ear([key], { seed: n })
      const ruined = knockOf(key, 100, WINDOW + 1).filter((_, i) => i < 8 || i >= 28)
      const noise = () => Array.from({ length: 6 }, () => POOL[Math.floor(random() * POOL.length)])
      ear.taps(knockOf(key, n))
      ear.wait(1_500)
      for (let pass = 0; pass < 2; pass++) {
        ear.taps([...ruined, ...ruined.slice(8, 18), ...noise()])
        ear.wait(500)
      }
      for (const clean of [200 + n, 300 + n]) {
        ear.wait(1_000)
        ear.taps(knockOf(key, clean))
      }
      ear.wait(1_000)
      return [n, 200 + n, 300 + n].every((salt) => ear.salts.includes(salt))
    })
    expect(opened).toHaveLength(30)
  })
})

describe('a knock opens once', () => {
  it('when each of its taps comes three times', () => {
    const ear = new Ear([key])
    ear.taps(KNOCK.flatMap((port) => [port, port, port]))
    ear.wait(15_000)
    expect(ear.salts).toEqual([1])
  })

  it('when its passes follow each other', () => {
    const ear = new Ear([key])
    for (let pass = 0; pass < 8; pass++) {
      ear.taps(KNOCK)
      ear.wait(1_000)
    }
    ear.wait(15_000)
    expect(ear.salts).toEqual([1])
  })

  it('however long its taps go on while its window is accepted', () => {
    const ear = new Ear([key])
    for (let second = 0; second < 44; second++) {
      ear.taps(KNOCK, { after: 0 })
      ear.wait(1_000)
    }
    expect(ear.salts).toEqual([1])
  })

  it('when a browser repeats its SYNs for two minutes', () => {
    const ear = new Ear([key])
    // 1, 2, 4 … 64 s between them, as Linux does.
    for (let pause = 1; pause <= 64; pause *= 2) {
      ear.taps(KNOCK)
      ear.wait(pause * 1000)
    }
    ear.wait(15_000)
    expect(ear.salts).toEqual([1])
  })
})

describe('two knocks both open', () => {
  const both = (ear: Ear) => ear.salts.sort()
  const SECOND = knockOf(key, 2)

  it('tap by tap from two sources', () => {
    const ear = new Ear([key])
    KNOCK.forEach((port, i) => {
      ear.tap(port)
      ear.tap(SECOND[i], { source: OTHER })
    })
    expect(ear.knocks.map(({ source, request }) => [source, request.salt]).sort()).toEqual([
      [SOURCE, 1],
      [OTHER, 2],
    ])
  })

  it('of two keys from one source, one after the other', () => {
    const other = keyOf(2)
    const ear = new Ear([key, other])
    ear.taps([...KNOCK, ...knockOf(other, 2)])
    expect(ear.salts).toEqual([1, 2])
  })

  it.each([100, 1_500, 9_000])('of one key from one source, %i ms apart, each with its last symbol that is needed', (apart) => {
    const ear = new Ear([key])
    for (const n of [1, 2, 3]) {
      ear.taps(knockOf(key, n).slice(0, 8 + 28))
      expect(ear.salts).toHaveLength(n)
      ear.wait(apart)
    }
  })

  it('and more of them, of forty keys from one source, half a second apart', () => {
    const keys = Array.from({ length: 40 }, (_, n) => keyOf(n))
    const ear = new Ear(keys)
    for (const [n, each] of keys.entries()) {
      ear.taps(knockOf(each, n))
      ear.wait(500)
    }
    expect(ear.salts).toEqual(keys.map((_, n) => n))
  })

  it('of one key in one window from one source, one after the other', () => {
    const ear = new Ear([key])
    ear.taps([...KNOCK, ...SECOND])
    expect(ear.salts).toEqual([1, 2])
  })

  it('of one key in one window from one source, with passes that take turns', () => {
    const ear = new Ear([key])
    for (const ports of [KNOCK, SECOND, KNOCK, SECOND]) {
      ear.taps(ports)
      ear.wait(500)
    }
    expect(ear.salts).toEqual([1, 2])
  })

  it('of one key in one window from one source, tap by tap, once the resends are apart', () => {
    const ear = new Ear([key])
    ear.taps(KNOCK.flatMap((port, i) => [port, SECOND[i]]))
    ear.wait(700)
    ear.taps(KNOCK)
    ear.wait(500)
    ear.taps(SECOND)
    ear.wait(500)
    expect(both(ear)).toEqual([1, 2])
  })

  it('of two windows from one source, a few seconds apart', () => {
    const ear = new Ear([key], { seconds: (WINDOW + 1) * 30 - 2 })
    for (const window of [WINDOW, WINDOW + 1]) {
      for (let pass = 0; pass < 2; pass++) {
        ear.taps(knockOf(key, window - WINDOW, window))
        ear.wait(1_000)
      }
    }
    ear.wait(15_000)
    expect(ear.salts).toEqual([0, 1])
  })

  it('from one source that is never silent for 10 s', () => {
    const ear = new Ear([key])
    ear.taps([KNOCK[0], ...POOL.filter((port) => !KNOCK.includes(port)).slice(0, 40)])
    for (let i = 0; i < 3; i++) {
      ear.wait(9_000)
      ear.tap(KNOCK[8])
    }
    ear.taps(SECOND)
    ear.wait(1_000)
    ear.taps(SECOND)
    expect(ear.salts).toEqual([2])
  })
})

describe('taps do not add up to a knock', () => {
  const silent = (ear: Ear) => {
    ear.wait(15_000)
    expect(ear.salts).toEqual([])
  }

  it('from two sources', () => {
    const ear = new Ear([key])
    KNOCK.forEach((port, i) => {
      ear.tap(port, { source: i % 2 ? SOURCE : OTHER })
    })
    silent(ear)
  })

  it('with the rendezvous from one source and the symbols from another', () => {
    const ear = new Ear([key])
    ear.taps(KNOCK.slice(0, 8))
    ear.taps(KNOCK.slice(8), { source: OTHER })
    silent(ear)
  })

  it('at two destinations', () => {
    const ear = new Ear([key])
    KNOCK.forEach((port, i) => {
      ear.tap(port, { destination: `198.51.100.${1 + (i % 2)}` })
    })
    silent(ear)
  })

  it('over more than 10 s', () => {
    const ear = new Ear([key])
    // 28 symbols and a quorum: the first is over when the last comes.
    for (const port of KNOCK.slice(4, 36)) {
      ear.tap(port, { after: 10 })
      ear.wait(330)
    }
    silent(ear)
  })

  it('over more than 10 s where the symbols overtake the rendezvous', () => {
    const ear = new Ear([key])
    ear.taps(KNOCK.slice(8))
    ear.wait(10_010)
    ear.taps(KNOCK.slice(0, 8))
    silent(ear)
  })

  it('with one symbol changed and no parity', () => {
    const ports = knockOf(key, 1, WINDOW, requestOf(1), 0)
    const instead = knockOf(key, 2, WINDOW, requestOf(2), 0)
    const ear = new Ear([key])
    ear.taps(ports.with(20, instead[20]))
    silent(ear)
  })

  it('with 3 of the rendezvous ports', () => {
    const ear = new Ear([key])
    ear.taps(KNOCK.slice(5))
    silent(ear)
  })

  it('with 27 of the symbols', () => {
    const ear = new Ear([key])
    ear.taps(KNOCK.slice(0, 8 + 27))
    silent(ear)
  })

  it('for a key that is not the listener’s', () => {
    const ear = new Ear([keyOf(2)])
    ear.taps(KNOCK)
    silent(ear)
  })
})

describe('a set of keys that changes', () => {
  const other = keyOf(2)
  const change = (ear: Ear, keys: Parameters<Ear['listener']['setKeys']>[0]) => {
    ear.listener.setKeys(keys)
    while (!ear.listener.prepare(ear.now)) {}
  }

  it('lets an added key be heard', () => {
    const ear = new Ear([key])
    change(ear, [key, other])
    ear.taps(knockOf(other))
    expect(ear.knocks.map((knock) => knock.key === other)).toEqual([true])
  })

  it('lets a key with another period be heard', () => {
    const slow = keyOf(3, 60)
    const ear = new Ear([key])
    change(ear, [key, slow])
    ear.taps(knockOf(slow, 1, Math.floor(MIDDLE / 60)))
    expect(ear.knocks.map((knock) => knock.key === slow)).toEqual([true])
  })

  it('lets no removed key be heard', () => {
    const ear = new Ear([key, other])
    change(ear, [other])
    ear.taps(KNOCK)
    ear.wait(15_000)
    expect(ear.salts).toEqual([])
  })

  it.each([8 + 20, 8 + 27])('lets no key be heard that is removed after %i taps of its knock', (already) => {
    const ear = new Ear([key, other])
    ear.taps(KNOCK.slice(0, already))
    change(ear, [other])
    ear.taps(KNOCK.slice(already))
    ear.wait(15_000)
    expect(ear.salts).toEqual([])
  })

  it.each([8 + 20, 8 + 27])('loses nothing of a kept key after %i taps of its knock', (already) => {
    const ear = new Ear([key])
    ear.taps(KNOCK.slice(0, already))
    change(ear, [key, other])
    ear.taps(KNOCK.slice(already))
    expect(ear.salts).toEqual([1])
  })

  it('has its added keys in time for the windows to come', () => {
    const ear = new Ear([key])
    change(ear, [key, other])
    ear.wait(60_000)
    ear.taps(knockOf(other, 1, WINDOW + 2))
    expect(ear.timely.map(({ window }) => window)).toEqual([WINDOW + 2])
  })
})

it('the rendezvous ports of two windows share no quorum, so that these tests tell windows apart', () => {
  const near = new Set(rendezvous(key, WINDOW))
  expect([-1, 1].map((step) => [...rendezvous(key, WINDOW + step)].filter((port) => near.has(port)).length < 4)).toEqual([
    true,
    true,
  ])
})

describe('two users of one key who ask for the same in one window', () => {
  const said = (mine: object, yours: object) => {
    const ear = new Ear([keyOf(1)])
    for (const [source, own] of [
      [SOURCE, mine],
      [OTHER, yours],
    ] as const)
      ear.taps(knockOf(keyOf(1), 1, WINDOW, { ...requestOf(1), ...own }), { source })
    return ear.knocks.map(({ v }) => v)
  }

  it('say one knock where their salts are the same, so that the second of them is a replay', () => {
    const [mine, yours] = said({}, {})
    expect(yours).toBe(mine)
  })

  it.each([
    ['salt', { salt: 2 }],
    ['lifetime', { seconds: 61 }],
  ])('say two where one has another %s', (_, own) => {
    const [mine, yours] = said({}, own)
    expect([mine === undefined, yours === undefined, mine === yours]).toEqual([false, false, false])
  })
})
