import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Ipv4Tap, Names, type Tap } from '../../src/gate/tap'
import { addressBytes, formatAddress, ipv4Number, ipv4Text } from '../../src/protocol/address'
import { seededRandom } from './listener/ear'

const HOME = '198.51.100.1'
const tapOf = (source: string, destination = HOME): Tap => ({ source, destination, port: 50_000 })
const bits = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 })

describe('the bits of an IPv4 address', () => {
  it('have the text that is read as them', () => {
    fc.assert(fc.property(bits, (n) => ipv4Number(ipv4Text(n)) === n))
  })

  it('have the text of their bytes', () => {
    const said = (text: string) => formatAddress(addressBytes(text) as Uint8Array)
    fc.assert(fc.property(fc.ipV4(), (text) => ipv4Text(ipv4Number(text) as number) === said(text)))
  })

  it('are read out of the middle of a line, and of nothing beside it', () => {
    fc.assert(fc.property(bits, (n) => ipv4Number(`1.${ipv4Text(n)}.2`, 2, 2 + ipv4Text(n).length) === n))
  })
})

describe('a name', () => {
  it('is the same for the same source and destination, whether the source is held as text or as bits', () => {
    fc.assert(
      fc.property(fc.nat(), bits, fc.constantFrom(HOME, '198.51.100.9'), (seed, n, destination) => {
        const names = new Names(seededRandom(seed))
        names.of(tapOf('203.0.113.1'))
        expect(names.of(new Ipv4Tap(n, destination, 50_001))).toBe(names.of(tapOf(ipv4Text(n), destination)))
      }),
    )
  })

  it('is that of no other source or destination', () => {
    const some = fc.tuple(fc.oneof(fc.ipV4(), fc.ipV6()), fc.constantFrom(HOME, '198.51.100.9', '2001:db8::1'))
    fc.assert(
      fc.property(fc.nat(), fc.uniqueArray(some, { selector: String, minLength: 2, maxLength: 200 }), (seed, taps) => {
        const names = new Names(seededRandom(seed))
        expect(new Set(taps.map(([source, destination]) => names.of(tapOf(source, destination)))).size).toBe(taps.length)
      }),
    )
  })

  it('keeps addresses that were chosen for one place of a table from getting there', () => {
    // 2,048 addresses of one bucket in V8's tables of up to that many numbers, as anybody can compute them.
    const chosen: number[] = []
    for (let n = 0; chosen.length < BUCKETS; n++) if (bucketOf(n) === 7) chosen.push(n)
    const names = new Names(Math.random)
    const counts = new Map<number, number>()
    for (const n of chosen) {
      const bucket = bucketOf(names.of(new Ipv4Tap(n, HOME, 50_000)) as number)
      counts.set(bucket, 1 + (counts.get(bucket) ?? 0))
    }
    expect(Math.max(...counts.values())).toBeLessThan(20)
  })
})

const BUCKETS = 2_048

/** Where V8 puts a number in a table of so many buckets (ComputeUnseededHash). */
function bucketOf(key: number): number {
  let hash = (~key + (key << 15)) | 0
  hash ^= hash >>> 12
  hash = (hash + (hash << 2)) | 0
  hash ^= hash >>> 4
  hash = Math.imul(hash, 2_057)
  hash ^= hash >>> 16
  return hash & (BUCKETS - 1)
}
