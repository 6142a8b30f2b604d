import { describe, expect, it } from 'vitest'
import { ntpOffset, ntpRequest, parseTimeSource } from '../../src/client/time-source'

const COOKIE = Uint8Array.from([1, 2, 3, 4, 5, 6, 7, 8])
const NOW = Date.UTC(2026, 10, 23, 12)
const ERA = 2 ** 32

/** An answer of a server whose clock is ahead, sent as soon as it has the request. */
function answer({ ahead = 0, at = NOW, first = (4 << 3) | 4, stratum = 2, cookie = COOKIE } = {}): Buffer {
  const packet = Buffer.alloc(48)
  packet[0] = first
  packet[1] = stratum
  packet.set(cookie, 24)
  const seconds = (at + ahead) / 1000 + 2_208_988_800
  for (const place of [32, 40]) {
    packet.writeUInt32BE(Math.floor(seconds) % ERA, place)
    packet.writeUInt32BE(Math.floor((seconds % 1) * ERA), place + 4)
  }
  return packet
}
const offset = (packet: Uint8Array, delay = 0) => ntpOffset(packet, COOKIE, NOW - delay, NOW + delay)

describe('an NTP request', () => {
  it('is of version 4, of a client, and tells nothing of its clock (RFC 5905, 7.3)', () => {
    const packet = ntpRequest(COOKIE)
    expect([packet.length, packet[0], [...packet.subarray(1, 40)].every((byte) => byte === 0)]).toEqual([48, 0x23, true])
    expect(packet.subarray(40)).toEqual(COOKIE)
  })
})

describe('the offset', () => {
  it.each([0, 1_500, -1_500, 90_000, -86_400_000])('of a clock that is %i ms ahead is that', (ahead) => {
    expect(offset(answer({ ahead }))).toBeCloseTo(ahead, 0)
  })

  it('does not hang on the time that the packets take', () => {
    expect(offset(answer({ ahead: 700 }), 400)).toBeCloseTo(700, 0)
  })

  it('is right beyond the end of an NTP era, in 2036', () => {
    const at = Date.UTC(2036, 1, 8)
    expect(ntpOffset(answer({ at, ahead: 2_000 }), COOKIE, at, at)).toBeCloseTo(2_000, 0)
  })
})

describe('no answer is', () => {
  it.each<[string, Uint8Array]>([
    ['a packet that is cut off', answer().subarray(0, 47)],
    ['one to another request', answer({ cookie: new Uint8Array(8) })],
    ['a request', answer({ first: (4 << 3) | 3 })],
    ['a broadcast', answer({ first: (4 << 3) | 5 })],
    ['one of another version', answer({ first: (5 << 3) | 4 })],
  ])('%s', (_, packet) => {
    expect(offset(packet)).toBeNull()
  })
})

describe('a server without the time', () => {
  it.each([
    ['that is not synchronised', answer({ first: (3 << 6) | (4 << 3) | 4 })],
    ['that wants no more questions', answer({ stratum: 0 })],
    ['of no stratum', answer({ stratum: 16 })],
  ])('%s, is told of', (_, packet) => {
    expect(() => offset(packet)).toThrow('has no valid time')
  })
})

describe('a time source', () => {
  it.each(['ntp://time.example', 'ntp://192.0.2.1:1123', 'ntp://[2001:db8::1]', 'https://time.example'])('may be %s', (text) => {
    expect(parseTimeSource(text)).toBeInstanceOf(URL)
  })

  it.each(['', 'time.example', 'http://time.example', 'ntp://', 'ntp://a:b@c', 'https://a@b', 'file:///etc/passwd'])(
    'may not be %j',
    (text) => {
      expect(parseTimeSource(text)).toBeNull()
    },
  )
})
