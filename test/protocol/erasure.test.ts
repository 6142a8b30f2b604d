import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { decode, encode } from '../../src/protocol/erasure'
import * as twin from './erasure-twin'

/** {@link decode} in the twin's terms. */
function decodePoints(points: readonly twin.Point[], k: number): number[] | null {
  const places = points.map(([place]) => place)
  const symbols = points.map(([, symbol]) => symbol)
  const data = decode(Uint8Array.from(places), Uint8Array.from(symbols), k)
  return data && [...data]
}
const bytes = (length: number) => fc.uint8Array({ minLength: length, maxLength: length })
const placesOf = (min: number, max: number, last: number) =>
  fc.uniqueArray(fc.integer({ min: 0, max: last }), { minLength: min, maxLength: max })

/** A codeword's symbols at some places, `wrong` of them changed; the places come in no order, so the wrong ones may be any. */
const damaged = (data: Uint8Array, places: readonly number[], changes: ArrayLike<number>): twin.Point[] =>
  twin.codewordAt(data, places).map((symbol, i) => [places[i], symbol ^ (changes[i] ?? 0)])
const changes = (max: number) => fc.array(fc.integer({ min: 1, max: 255 }), { maxLength: max })

describe('against the twin', () => {
  it('multiplication in the field agrees with the known powers of 2', () => {
    const powers = Array.from({ length: 9 }, (_, i) => Array.from({ length: i }).reduce<number>((x) => twin.multiply(x, 2), 1))
    expect(powers).toEqual([1, 2, 4, 8, 16, 32, 64, 128, 0x1d])
  })

  it('encodes the same at every small size', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 4 }), fc.nat(5), (data, parity) => {
        const places = Array.from({ length: data.length + parity }, (_, i) => i)
        expect([...encode(data, places.length)]).toEqual(twin.codewordAt(data, places))
      }),
    )
  })

  it.each([28, 40])('encodes the same at k = %i, n = 63', (k) => {
    const places = Array.from({ length: 63 }, (_, i) => i)
    fc.assert(
      fc.property(bytes(k), (data) => {
        expect([...encode(data, 63)]).toEqual(twin.codewordAt(data, places))
      }),
      { numRuns: 20 },
    )
  })

  it('decodes the same from codewords with few, many and too many wrong symbols', () => {
    const near = fc
      .tuple(fc.uint8Array({ minLength: 2, maxLength: 4 }), placesOf(2, 9, 254), changes(5))
      .map(([data, places, changed]) => ({ k: data.length, points: damaged(data, places, changed) }))
    fc.assert(
      fc.property(near, ({ k, points }) => {
        expect(decodePoints(points, k)).toEqual(twin.decode(points, k))
      }),
      { numRuns: 400 },
    )
  })

  it('decodes the same from arbitrary symbols', () => {
    const any = fc
      .tuple(placesOf(0, 9, 254), bytes(9))
      .map(([places, symbols]) => places.map((place, i): twin.Point => [place, symbols[i] & 3]))
    fc.assert(
      fc.property(any, fc.integer({ min: 2, max: 4 }), (points, k) => {
        expect(decodePoints(points, k)).toEqual(twin.decode(points, k))
      }),
      { numRuns: 400 },
    )
  })
})

describe.each([28, 40])('a sealed request of %i bytes', (k) => {
  const word = fc.record({ data: bytes(k), places: placesOf(k, 63, 62) })

  it('comes back from any k symbols', () => {
    fc.assert(
      fc.property(bytes(k), placesOf(k, k, 62), (data, places) => {
        expect(decodePoints(damaged(data, places, []), k)).toEqual([...data])
      }),
    )
  })

  it('comes back with as many wrong symbols as half the surplus', () => {
    fc.assert(
      fc.property(word, bytes(17), ({ data, places }, changed) => {
        const wrong = changed.slice(0, Math.floor((places.length - k) / 2)).map((change) => change || 1)
        expect(decodePoints(damaged(data, places, wrong), k)).toEqual([...data])
      }),
    )
  })

  it('does not come back from one symbol too few', () => {
    fc.assert(
      fc.property(bytes(k), placesOf(k - 1, k - 1, 62), (data, places) => {
        expect(decodePoints(damaged(data, places, []), k)).toBeNull()
      }),
    )
  })

  it('is null or near, whatever the number of wrong symbols', () => {
    fc.assert(
      fc.property(word, changes(63), ({ data, places }, changed) => {
        const points = damaged(data, places, changed)
        const found = decodePoints(points, k)
        const wrong = found ? twin.disagreements(found, points) : 0
        expect(wrong).toBeLessThanOrEqual((places.length - k) / 2)
      }),
    )
  })
})

describe('bounds', () => {
  it('no symbols at all throw', () => {
    const garbage = placesOf(0, 80, 255).chain((places) => fc.tuple(fc.constant(Uint8Array.from(places)), bytes(places.length)))
    fc.assert(
      fc.property(garbage, fc.integer({ min: 1, max: 63 }), ([places, symbols], k) => {
        expect(() => decode(places, symbols, k)).not.toThrow()
      }),
    )
  })

  it.each([3, 256, 4.5, Number.NaN])('a codeword of %d symbols for 4 bytes throws a RangeError', (n) => {
    expect(() => encode(new Uint8Array(4), n)).toThrow(RangeError)
  })
})
