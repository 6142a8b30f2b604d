import { describe, expect, it } from 'vitest'
import { MAX_CANDIDATE_DECODES, MAX_DATAGRAMS, MAX_DECODES, MAX_KEY_DATAGRAMS } from '../../../src/gate/listener/budget'
import { composeDatagram } from '../../../src/protocol/datagram'
import type { Key } from '../../../src/protocol/key'
import { Ear, keyOf, knockOf, OTHER, requestOf, SOURCE, WINDOW } from './ear'

const [key, other] = [keyOf(1), keyOf(2)]
const hear = (keys: Key[], options = {}) => new Ear(keys, { datagrams: true, ...options })
const datagram = (by = key, n = 1, window = WINDOW) => composeDatagram(by, window, requestOf(n))
/** What somebody makes who has heard a hint: it, and anything behind it. */
const rubbish = (by = key, n = 0, window = WINDOW) =>
  datagram(by, 1, window).map((byte, i) => (i < 8 ? byte : (n * 31 + i * 7) & 255))
/** Sends rubbish until the slot has no budget for it, twice over. */
const flood = (ear: Ear, by = key, window = WINDOW, count = MAX_DATAGRAMS / 5) => {
  for (let n = 0; n < count; n++) ear.datagram(rubbish(by, n, window), { source: OTHER, after: 0 })
}

describe('a datagram', () => {
  it('is a knock by itself', () => {
    const ear = hear([key])
    ear.datagram(datagram())
    expect(ear.knocks).toEqual([
      {
        ...{ key, window: WINDOW, request: requestOf(1), source: SOURCE, destination: '198.51.100.1', arrival: 'timely' },
        heard: ear.steady,
        v: Buffer.from(datagram().subarray(8, 24)).toString('hex'),
      },
    ])
  })

  it('names an IPv6 address, too', () => {
    const request = { ...requestOf(1), address: '2001:db8::2' }
    expect(hear([key]).datagram(composeDatagram(key, WINDOW, request))).toMatchObject([{ request }])
  })

  it('is found among many keys', () => {
    const ear = hear(Array.from({ length: 400 }, (_, n) => keyOf(n)))
    expect(ear.datagram(datagram(keyOf(300)))).toMatchObject([{ key: { fingerprint: keyOf(300).fingerprint } }])
  })

  it('is the same knock as its ports', () => {
    const ear = hear([key])
    ear.datagram(datagram())
    ear.taps(knockOf(key))
    expect(ear.knocks).toHaveLength(2)
    expect(ear.knocks[1].v).toBe(ear.knocks[0].v)
  })

  it('leaves nothing behind', () => {
    const ear = hear([key])
    ear.datagram(datagram())
    flood(ear)
    ear.datagram(new Uint8Array(36))
    expect(ear.listener.sizes).toEqual({ sessions: 0, taps: 0, strays: 0, explained: 0, codebooks: 0, tallies: 0 })
  })

  it.each([
    ['before last', -2, 'stale'],
    ['last', -1, 'timely'],
    ['next', 1, 'timely'],
    ['after next', 2, 'future'],
  ])('of the window %s is %i from now: %s', (_, ahead, arrival) => {
    expect(hear([key]).datagram(datagram(key, 1, WINDOW + ahead))).toMatchObject([{ arrival }])
  })

  it('is heard in every window that comes', () => {
    const ear = hear([key])
    for (let n = 0; n < 5; n++) {
      expect(ear.datagram(datagram(key, n, WINDOW + n))).toHaveLength(1)
      ear.wait(30_000)
    }
  })

  it.each([0, 7, 8, 35, 37, 47, 49, 1_000])('of %i bytes is none', (length) => {
    const bytes = new Uint8Array(length)
    bytes.set(datagram().subarray(0, Math.min(length, 36)))
    expect(hear([key]).datagram(bytes)).toEqual([])
  })

  it('with another hint is none, for each of its bits', () => {
    const ear = hear([key])
    for (let bit = 0; bit < 64; bit++) {
      const bytes = datagram()
      bytes[bit >> 3] ^= 1 << (bit & 7)
      expect(ear.datagram(bytes)).toEqual([])
    }
  })

  it('with the hint of another window is none', () => {
    const bytes = Uint8Array.of(...datagram(key, 1, WINDOW - 1).subarray(0, 8), ...datagram().subarray(8))
    expect(hear([key]).datagram(bytes)).toEqual([])
  })

  it('with the hint of another key is none', () => {
    const bytes = Uint8Array.of(...datagram(other).subarray(0, 8), ...datagram().subarray(8))
    expect(hear([key, other]).datagram(bytes)).toEqual([])
  })

  it('is none where they are not heard', () => {
    expect(new Ear([key]).datagram(datagram())).toEqual([])
  })

  it('is none by a key that has gone', () => {
    const ear = hear([key])
    ear.listener.setKeys([])
    expect(ear.datagram(datagram())).toEqual([])
  })

  it('says nothing by its port', () => {
    const ear = hear([key])
    for (const port of knockOf(key)) ear.datagram(new Uint8Array(36), { port })
    expect([ear.knocks, ear.listener.sizes.sessions]).toEqual([[], 0])
  })
})

describe('the budget', () => {
  it('of one key is its own: after a flood with its hint the next datagram of it is dropped, and others are heard', () => {
    const ear = hear([key, other])
    flood(ear)
    expect([ear.datagram(datagram(), { after: 0 }), ear.datagram(datagram(other), { after: 0 })]).toMatchObject([
      [],
      [{ window: WINDOW }],
    ])
  })

  it('comes again: what was dropped is heard when it is said again', () => {
    const ear = hear([key])
    flood(ear)
    expect(ear.datagram(datagram(), { after: 100 })).toHaveLength(1)
  })

  it('leaves half of it to knocks on ports, whosever hints are used up', () => {
    const keys = Array.from({ length: 20 }, (_, n) => keyOf(n))
    const ear = hear(keys)
    const opened: number[] = []
    for (let slot = 0; slot < 10; slot++) {
      for (const by of keys) flood(ear, by, WINDOW, 60)
      ear.taps(knockOf(keys[slot], 1), { after: 0, source: `192.0.2.${slot}` })
      // At once: in the next slot the flood may be the first.
      opened.push(ear.knocks.length)
      ear.wait(100)
    }
    expect(opened).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
  })

  it('of the key that is flooded still opens its own knocks on ports', () => {
    const ear = hear([key])
    flood(ear)
    ear.taps(knockOf(key), { after: 0 })
    expect(ear.knocks).toHaveLength(1)
  })

  it('is not spent on windows that are over, whose hints everybody has heard', () => {
    const ear = hear([key, other])
    for (let ago = 2; ago < 12; ago++) flood(ear, key, WINDOW - ago)
    expect(ear.datagram(datagram(), { after: 0 })).toHaveLength(1)
  })

  it('is what is documented', () => {
    expect([MAX_DATAGRAMS, MAX_KEY_DATAGRAMS]).toEqual([MAX_DECODES / 2, MAX_CANDIDATE_DECODES / 2])
  })
})
