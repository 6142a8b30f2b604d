import fc from 'fast-check'
import { expect, it } from 'vitest'
import { type Aged, ByAge } from '../../src/gate/by-age'

interface Thing extends Aged<Thing> {
  readonly name: number
}

it('what is held by age goes oldest first, whatever has left and come back meanwhile, and what has left holds on to nothing', () => {
  const moves = fc.array(fc.record({ what: fc.constantFrom('come', 'come', 'go', 'back'), which: fc.nat() }))
  fc.assert(
    fc.property(moves, (moves) => {
      const held = new ByAge<Thing>()
      const there: Thing[] = []
      for (const [name, { what, which }] of moves.entries()) {
        const thing = what === 'come' ? { name, before: null, after: null } : there[which % there.length]
        if (!thing) continue
        if (what !== 'come') {
          held.remove(thing)
          there.splice(there.indexOf(thing), 1)
          expect([thing.before, thing.after]).toEqual([null, null])
        }
        if (what !== 'go') {
          held.add(thing)
          there.push(thing)
        }
        expect(held.oldest).toBe(there[0])
      }
      for (const thing of there) {
        expect(held.oldest).toBe(thing)
        held.remove(thing)
      }
      expect(held.oldest).toBeUndefined()
    }),
  )
})
