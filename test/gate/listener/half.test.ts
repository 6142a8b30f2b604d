import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Half, type Place } from '../../../src/gate/listener/half'

interface Session {
  touches: { size: number }
}

const placeOf = (name: number): Place<Session> => ({
  name,
  tap: { source: `${name}`, destination: '', port: 1 },
  at: 0,
  session: null,
  half: null,
  before: null,
  after: null,
})

describe('a half', () => {
  it('gives up the place that came into it first, whatever has left and come back meanwhile', () => {
    const moves = fc.array(fc.record({ what: fc.constantFrom('come', 'come', 'go', 'back'), which: fc.nat() }))
    fc.assert(
      fc.property(moves, (moves) => {
        const half = new Half<Session>(3, 1_000)
        const there: Place<Session>[] = []
        for (const [name, { what, which }] of moves.entries()) {
          const place = what === 'come' ? placeOf(name) : there[which % there.length]
          if (!place) continue
          if (what !== 'come') {
            half.remove(place)
            there.splice(there.indexOf(place), 1)
          }
          if (what === 'go') continue
          half.add(place)
          there.push(place)
          expect(half.surplus).toBe(there.length > 3 ? there[0] : undefined)
        }
      }),
    )
  })

  it('gives up places in their order, however many have gone', () => {
    const half = new Half<Session>(10, 1_000)
    const given: unknown[] = []
    for (let name = 0; name < 32_788; name++) {
      half.add(placeOf(name))
      const { surplus } = half
      if (!surplus) continue
      half.remove(surplus)
      given.push(surplus.name)
    }
    expect(given).toEqual(Array.from({ length: 32_778 }, (_, name) => name))
  })

  it('counts one tap of a place without a session, and those of its session', () => {
    const half = new Half<Session>(10, 4)
    const place = placeOf(1)
    half.add(placeOf(0))
    half.add({ ...place, session: { touches: { size: 4 } } })
    expect([half.taps, half.surplus?.name]).toEqual([5, 0])
  })
})
