import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { formatAddress } from '../../src/protocol/address'
import { codebook, rendezvous, symbolOf } from '../../src/protocol/codebook'
import { deriveKey } from '../../src/protocol/key'
import { compose, MAX_PARITY, open, PARITY } from '../../src/protocol/knock'
import { DEFAULT_POOL, parsePool } from '../../src/protocol/pool'
import { encodeRequest, type Request } from '../../src/protocol/request'
import { seal } from '../../src/protocol/seal'

const material = { secret: new Uint8Array(32).fill(7), server: 'door.example', period: 30, pool: parsePool(DEFAULT_POOL) }
const key = deriveKey(material)
/** The smallest pool: 44 pages, in two pieces. */
const narrow = deriveKey({ ...material, pool: parsePool('20000-25635,40000-45635') })
const WINDOW = 59_000_000

const ipv4: Request = { action: 'open', protocol: 'tcp', once: false, salt: 1, port: 22, seconds: 60, address: '192.0.2.1' }
const ipv6: Request = { ...ipv4, address: '2001:db8::1' }
const requests: fc.Arbitrary<Request> = fc.record({
  action: fc.constantFrom('open', 'close', 'lock'),
  protocol: fc.constantFrom('any', 'tcp', 'udp'),
  once: fc.boolean(),
  salt: fc.nat(0xffff),
  port: fc.nat(0xffff),
  seconds: fc.nat(0xffffff),
  address: fc.constantFrom(4, 16).chain((n) => fc.uint8Array({ minLength: n, maxLength: n }).map(formatAddress)),
})
const windows = fc.nat(2 ** 40)

type Symbols = readonly number[]
/** What the ports of a knock say, each as 256 * page + byte; the rendezvous ports say nothing. */
function heard(request: Request, parity = PARITY): Symbols {
  const book = codebook(key, WINDOW)
  return compose(key, WINDOW, request, parity)
    .map((port) => symbolOf(book, port))
    .filter((symbol) => symbol >= 0)
}
function openSymbols(symbols: Symbols, k: number, by = key, window = WINDOW) {
  const pages = symbols.map((symbol) => symbol >> 8)
  return open(by, window, Uint8Array.from(pages), Uint8Array.from(symbols), k)
}

describe('the ports of a knock', () => {
  it('begin with the 8 rendezvous ports of the window', () => {
    expect(compose(key, WINDOW, ipv4).slice(0, 8)).toEqual([...rendezvous(key, WINDOW)])
  })

  it('are 52 for an IPv4 address', () => {
    expect(compose(key, WINDOW, ipv4)).toHaveLength(52)
  })

  it('are 64 for an IPv6 address', () => {
    expect(compose(key, WINDOW, ipv6)).toHaveLength(64)
  })

  it('are distinct, for every request in every window', () => {
    fc.assert(
      fc.property(requests, windows, (request, window) => {
        const ports = compose(narrow, window, request)
        expect(new Set(ports).size).toBe(ports.length)
      }),
    )
  })

  it('are all in the pool, for every request in every window', () => {
    const pool = new Set(narrow.pool)
    fc.assert(
      fc.property(requests, windows, (request, window) => {
        expect(compose(narrow, window, request).filter((port) => !pool.has(port))).toEqual([])
      }),
    )
  })

  it('begin the same with more parity', () => {
    expect(compose(key, WINDOW, ipv4, 35).slice(0, 52)).toEqual(compose(key, WINDOW, ipv4, 16))
  })

  it('are clipped to the pages of the pool', () => {
    expect([key, narrow].map((by) => compose(by, WINDOW, ipv6, 35).length - 8)).toEqual([63, 44])
  })

  it.each([-1, MAX_PARITY + 1, 1.5, Number.NaN])('with a parity of %d throw a RangeError', (parity) => {
    expect(() => compose(key, WINDOW, ipv4, parity)).toThrow(RangeError)
  })

  it.each([-1, 0.5, 2 ** 53])('in window %d throw a RangeError', (window) => {
    expect(() => compose(key, window, ipv4)).toThrow(RangeError)
  })
})

describe('a knock opens', () => {
  it('to its request, whatever that is', () => {
    fc.assert(
      fc.property(requests, fc.integer({ min: 0, max: MAX_PARITY }), (request, parity) => {
        expect(openSymbols(heard(request, parity), request.address.includes(':') ? 40 : 28)?.request).toEqual(request)
      }),
    )
  })

  it('to the bytes that were sealed', () => {
    expect(openSymbols(heard(ipv4), 28)?.sealed).toEqual(seal(key, WINDOW, encodeRequest(ipv4)))
  })

  it.each([
    ['28 of the 44 symbols', ipv4, 28],
    ['40 of the 56 symbols', ipv6, 40],
  ] as const)('from any %s', (_, request, k) => {
    const symbols = heard(request)
    fc.assert(
      fc.property(fc.shuffledSubarray([...symbols], { minLength: k, maxLength: k }), (some) => {
        expect(openSymbols(some, k)?.request).toEqual(request)
      }),
    )
  })

  it('with 8 of the 44 symbols wrong', () => {
    const wrong = heard(ipv4).map((symbol, i) => (i < 8 ? symbol ^ 0x55 : symbol))
    expect(openSymbols(wrong, 28)?.request).toEqual(ipv4)
  })
})

describe('a knock does not open', () => {
  const whole = heard(ipv4)

  it('from one symbol too few', () => {
    expect(openSymbols(whole.slice(0, 27), 28)).toBeNull()
  })

  const least = fc.shuffledSubarray([...whole], { minLength: 28, maxLength: 28 })
  it('with one symbol changed and no parity left', () => {
    fc.assert(
      fc.property(least, fc.integer({ min: 1, max: 255 }), ([first, ...others], change) => {
        expect(openSymbols([first ^ change, ...others], 28)).toBeNull()
      }),
    )
  })

  it.each([-1, 1])('in the window %i away', (step) => {
    expect(openSymbols(whole, 28, key, WINDOW + step)).toBeNull()
  })

  it('for the same secret under another server label', () => {
    expect(openSymbols(whole, 28, deriveKey({ ...material, server: 'other.example' }))).toBeNull()
  })

  it('for another secret', () => {
    expect(openSymbols(whole, 28, deriveKey({ ...material, secret: new Uint8Array(32).fill(8) }))).toBeNull()
  })

  it('as a request of the other length', () => {
    expect(openSymbols(whole, 40)).toBeNull()
  })

  it('when its request, though authentic, has a reserved value', () => {
    const bytes = encodeRequest(ipv4)
    bytes[0] |= 1
    const symbols = Array.from(seal(key, WINDOW, bytes), (byte, page) => 256 * page + byte)
    expect(openSymbols(symbols, 28)).toBeNull()
  })
})

it('two salts make two knocks of one request, that agree in no more bytes than chance has it', () => {
  fc.assert(
    fc.property(fc.uniqueArray(fc.nat(0xffff), { minLength: 2, maxLength: 2 }), ([one, other]) => {
      const [a, b] = [one, other].map((salt) => seal(key, WINDOW, encodeRequest({ ...ipv4, salt })))
      expect(a.filter((byte, i) => byte === b[i]).length).toBeLessThan(8)
    }),
  )
})
