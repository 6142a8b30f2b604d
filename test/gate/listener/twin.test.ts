import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Key } from '../../../src/protocol/key'
import { Ear, keyOf, knockOf, POOL, seededRandom, shuffled, WINDOW } from './ear'
import { ListenerTwin, type Opened } from './listener-twin'

const KEYS = [keyOf(1), keyOf(2), keyOf(3)]

/**
 * One knock as somebody sends it. One for a far window has a source of its own: of two wrong clocks in one session, one is named.
 * So has one that loses too much: it may use up its session's decodes, which the twin does not count.
 */
interface Sending {
  key: number
  source: number
  step: number
  /** Which second and a half of the scenario it starts in. */
  turn: number
  order: 'sent' | 'shuffled' | 'rendezvous last'
  /** Passes, and the milliseconds to the second. */
  passes: number
  resend: number
  /** Symbols that are lost, and taps that come twice. */
  lost: number
  twice: number
  noise: number
}
const sendings: fc.Arbitrary<Sending> = fc.record({
  key: fc.nat(2),
  source: fc.nat(2),
  step: fc.constantFrom(0, 0, 0, -1, 1, -2, 2),
  turn: fc.nat(4),
  order: fc.constantFrom('sent' as const, 'shuffled' as const, 'rendezvous last' as const),
  passes: fc.integer({ min: 1, max: 2 }),
  resend: fc.integer({ min: 500, max: 1_400 }),
  lost: fc.constantFrom(0, 2, 5),
  twice: fc.constantFrom(0, 10),
  noise: fc.constantFrom(0, 0, 3, 6),
})

/** The taps of a scenario, in order, with the milliseconds at which they arrive. */
function timeline(scenario: readonly Sending[], keys: readonly Key[], second: number, random: () => number) {
  const taps = scenario.flatMap(({ step, ...sending }, n) => {
    const far = Math.abs(step) > 1 || (step === -1 && second + 1.5 * sending.turn + 2 > 30)
    const alone = far || sending.lost > 16
    const source = alone ? `203.0.113.${n}` : `198.51.100.${2 + sending.source}`
    const knock = knockOf(keys[sending.key % keys.length], n, WINDOW + step)
    const [rendezvous, symbols] = [knock.slice(0, 8), knock.slice(8)]
    // Every pass loses the same symbols, so that no knock is at the edge, where chance settles ties.
    const heard = shuffled(symbols, random).slice(sending.lost)
    const kept = symbols.filter((port) => heard.includes(port))
    return Array.from({ length: sending.passes }, (_, pass) => {
      const noise = Array.from({ length: sending.noise }, () => POOL[Math.floor(random() * POOL.length)])
      const plain = [...rendezvous, ...kept, ...kept.slice(0, sending.twice), ...noise]
      const ports = { sent: plain, shuffled: shuffled(plain, random), 'rendezvous last': plain.toReversed() }[sending.order]
      const start = 1_500 * sending.turn + pass * sending.resend + n
      return ports.map((port, i) => ({ at: start + 0.1 * i, source, port }))
    }).flat()
  })
  return taps.sort((a, b) => a.at - b.at)
}

function compared(knocks: readonly Opened[]): string[] {
  return knocks.map(({ key, window, v, source, arrival }) => `${KEYS.indexOf(key)} ${window} ${v} ${source} ${arrival}`).sort()
}

/** What listener and twin open of one scenario. */
function both(scenario: readonly Sending[], keys: readonly Key[], second: number, seed: number): [string[], string[]] {
  const ear = new Ear([...keys], { seconds: WINDOW * 30 + second, seed })
  const twin = new ListenerTwin(keys, 1)
  const began = ear.steady
  const destination = '198.51.100.1'
  for (const { at, source, port } of timeline(scenario, keys, second, seededRandom(seed))) {
    const pause = began + at - ear.steady
    if (pause >= 10) ear.wait(10 * Math.floor(pause / 10))
    ear.tap(port, { source, destination, after: Math.max(0, began + at - ear.steady) })
    twin.hear({ source, destination, port }, ear.now)
  }
  ear.wait(15_000)
  twin.end(ear.now)
  return [compared(ear.knocks), compared(twin.opened)]
}

describe('the listener and its twin', () => {
  // One source has one knock a turn: those that come tap by tap with another tie, and are settled by chance if at all.
  const whole = fc.uniqueArray(sendings, { minLength: 1, maxLength: 6, selector: ({ source, turn }) => 10 * turn + source })
  // And one knock of a scenario may lose too much.
  const scenarios = fc
    .tuple(whole, fc.nat(5))
    .map(([scenario, ruined]) => scenario.map((sending, i) => (i === ruined ? { ...sending, lost: 20 } : sending)))
  // In the middle of a window, and before a boundary that the knocks then straddle.
  const seconds = fc.constantFrom(15, 27)

  it('open the same knocks of every scenario', () => {
    fc.assert(
      fc.property(scenarios, fc.integer({ min: 1, max: 3 }), seconds, fc.nat(), (scenario, keys, second, seed) => {
        const [listener, twin] = both(scenario, KEYS.slice(0, keys), second, seed)
        expect(listener).toEqual(twin)
      }),
      { numRuns: 60 },
    )
  })

  it('open knocks at all', () => {
    const sending = { step: 0, turn: 0, order: 'shuffled', passes: 2, resend: 500, lost: 5, twice: 10, noise: 3 } as const
    const scenario = [0, 1, 2].map((n) => ({ ...sending, key: n, source: n }))
    expect(both(scenario, KEYS, 15, 1).map((opened) => opened.length)).toEqual([3, 3])
  })
})
