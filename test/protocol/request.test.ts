import { isIPv4, isIPv6 } from 'node:net'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { addressBytes, canonicalAddress, formatAddress, inCidr, isZeroAddress, parseCidr } from '../../src/protocol/address'
import { deriveKey, type KeyMaterial } from '../../src/protocol/key'
import { DEFAULT_POOL, formatPool, MIN_POOL, parsePool, poolRanges } from '../../src/protocol/pool'
import { decodeRequest, encodeRequest, type Request } from '../../src/protocol/request'

const addresses = fc.constantFrom(4, 16).chain((n) => fc.uint8Array({ minLength: n, maxLength: n }))
const request: Request = { action: 'open', protocol: 'tcp', once: false, salt: 1, port: 22, seconds: 60, address: '192.0.2.1' }

describe('a request', () => {
  it('comes back from its bytes', () => {
    const requests: fc.Arbitrary<Request> = fc.record({
      action: fc.constantFrom('open', 'close', 'lock'),
      protocol: fc.constantFrom('any', 'tcp', 'udp'),
      once: fc.boolean(),
      salt: fc.nat(0xffff),
      port: fc.nat(0xffff),
      seconds: fc.nat(0xffffff),
      address: addresses.map(formatAddress),
    })
    fc.assert(
      fc.property(requests, (any) => {
        expect(decodeRequest(encodeRequest(any))).toEqual(any)
      }),
    )
  })

  it('has one reading: bytes that are read at all are written back the same', () => {
    const bytes = fc.constantFrom(12, 24).chain((n) => fc.uint8Array({ minLength: n, maxLength: n }))
    fc.assert(
      fc.property(bytes, fc.constantFrom(0x40, 0x52, 0x68), (any, head) => {
        any[0] = head
        expect(encodeRequest(decodeRequest(any) as Request)).toEqual(any)
      }),
    )
  })

  it.each([
    ['version 0', 0x04],
    ['version 2', 0x84],
    ['version 3', 0xc4],
    ['action 3', 0x74],
    ['protocol 3', 0x4c],
    ['the reserved bit', 0x45],
  ])('with %s is null', (_, head) => {
    const bytes = encodeRequest(request)
    bytes[0] = head
    expect(decodeRequest(bytes)).toBeNull()
  })

  it('of any length but 12 and 24 is null', () => {
    const lengths = Array.from({ length: 65 }, (_, n) => n)
    const read = lengths.filter((n) => decodeRequest(new Uint8Array(n).fill(0x44)))
    expect(read).toEqual([12, 24])
  })

  it.each([
    ['salt', -1],
    ['salt', 65536],
    ['port', 1.5],
    ['port', 65536],
    ['port', Number.NaN],
    ['seconds', -1],
    ['seconds', 2 ** 24],
    ['address', 'door.example'],
    ['action', 'shut'],
    ['protocol', 'icmp'],
  ])('whose %s is %s throws a RangeError that names the field', (field, value) => {
    const write = () => encodeRequest({ ...request, [field]: value })
    expect(write).toThrow(expect.objectContaining({ name: 'RangeError', message: expect.stringContaining(field) }))
  })
})

describe('an address', () => {
  it.each([
    ['192.0.2.1', [192, 0, 2, 1]],
    ['0.0.0.0', [0, 0, 0, 0]],
    ['255.255.255.255', [255, 255, 255, 255]],
    ['2001:0db8:0000:0000:0000:0000:0000:0001', [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]],
    ['2001:DB8::1', [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]],
    ['::192.0.2.1', [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 192, 0, 2, 1]],
    ['64:ff9b::192.0.2.1', [0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0, 192, 0, 2, 1]],
    ['0000:0000:0000:0000:0000:ffff:255.255.255.255', [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 255, 255]],
  ])('%s has its bytes', (text, bytes) => {
    expect(addressBytes(text)).toEqual(Uint8Array.from(bytes))
  })

  it.each([
    ...['', ' ', ' 192.0.2.1', '192.0.2.1\n', '192.0.2', '192.0.2.', '192.0.2.1.5', '192.0.2.256', '192.0.2.01', '192.0.2.0x1'],
    ...['3221225985', 'door.example', ':', ':::', '1::2::3', '1:2:3:4:5:6:7', '1:2:3:4:5:6:7:8:9', '12345::', '[::1]'],
    ...['fe80::1%eth0', 'fe80::1%', '::ffff:192.0.2.01', '::ffff:0x7f.0.0.1'],
  ])('is not %j', (text) => {
    expect(addressBytes(text)).toBeNull()
  })

  it.each(['1', ':', '1.', '1:'])('is not a megabyte of "%s"', (piece) => {
    expect(addressBytes(piece.repeat(2 ** 20 / piece.length))).toBeNull()
  })

  it('is what Node takes for one, but for zones', () => {
    const pieces = '0 1 a f . : :: 01 255 256 ffff 12345 1.2.3.4 1.2.3.04 0x1.2.3.4 ::ffff: 1:2:3:4:5:6:'.split(' ')
    const text = fc.array(fc.constantFrom(...pieces), { maxLength: 9 }).map((some) => some.join(''))
    fc.assert(
      fc.property(text, (any) => {
        expect(addressBytes(any) !== null).toBe(isIPv4(any) || isIPv6(any))
      }),
      { numRuns: 2000 },
    )
  })

  it('comes back from its text', () => {
    fc.assert(
      fc.property(addresses, (bytes) => {
        expect(addressBytes(formatAddress(bytes))).toEqual(bytes)
      }),
    )
  })

  it('in IPv6 is written as a URL writes it', () => {
    const groups = fc.array(fc.constantFrom(0, 0, 1, 0xab, 0xffff), { minLength: 8, maxLength: 8 })
    fc.assert(
      fc.property(groups, (any) => {
        const text = formatAddress(Uint8Array.from(any.flatMap((group) => [group >> 8, group & 255])))
        const exploded = any.map((group) => group.toString(16)).join(':')
        expect(`[${text}]`).toBe(new URL(`http://[${exploded}]`).hostname)
      }),
    )
  })

  it.each([
    ['192.0.2.1', '192.0.2.1'],
    ['2001:DB8:0:0:0:0:0:1', '2001:db8::1'],
    ['::ffff:192.0.2.1', '192.0.2.1'],
    ['0:0:0:0:0:FFFF:C000:0201', '192.0.2.1'],
    ['::192.0.2.1', '::c000:201'],
    ['::fffe:192.0.2.1', '::fffe:c000:201'],
    ['door.example', null],
  ])('%s is compared as %s', (text, canonical) => {
    expect(canonicalAddress(text)).toBe(canonical)
  })

  it.each([
    ['0.0.0.0', true],
    ['::', true],
    ['0:0:0:0:0:0:0:0', true],
    ['::ffff:0.0.0.0', true],
    ['0.0.0.1', false],
    ['::1', false],
    ['', false],
  ])('"%s" is all zero: %s', (text, zero) => {
    expect(isZeroAddress(text)).toBe(zero)
  })
})

describe('a block of addresses', () => {
  it.each([
    ['10.0.0.0/8', 8],
    ['0.0.0.0/0', 0],
    ['192.0.2.1', 32],
    ['192.0.2.1/32', 32],
    ['2001:db8::/32', 32],
    ['::/0', 0],
    ['::1', 128],
  ])('%s has %i bits', (text, bits) => {
    expect(parseCidr(text)?.bits).toBe(bits)
  })

  it.each([
    ...['', '/', '/8', '10.0.0.0/', '10.0.0.0/08', '10.0.0.0/-1', '10.0.0.0/8.0', '10.0.0.0/33', '10.0.0.0/8/8', '10.0.0.0/ 8'],
    ...['::/129', '::/1e1', '10.0.0.1/8', '10.0.0.0/6', '0.0.0.1/0', '2001:db8::1/32', 'door.example/8'],
  ])('is not "%s"', (text) => {
    expect(parseCidr(text)).toBeNull()
  })

  it.each([
    ['10.0.0.0/8', '10.255.255.255', true],
    ['10.0.0.0/8', '11.0.0.0', false],
    ['10.0.0.0/8', '9.255.255.255', false],
    ['192.0.2.128/25', '192.0.2.128', true],
    ['192.0.2.128/25', '192.0.2.127', false],
    ['192.0.2.1', '192.0.2.1', true],
    ['192.0.2.1', '192.0.2.0', false],
    ['0.0.0.0/0', '203.0.113.9', true],
    ['2001:db8::/33', '2001:db8:7fff::1', true],
    ['2001:db8::/33', '2001:db8:8000::1', false],
    ['0.0.0.0/0', '::1', false],
    ['::/0', '192.0.2.1', false],
    ['0.0.0.0/0', 'door.example', false],
  ])('%s has %s inside: %s', (block, address, inside) => {
    const cidr = parseCidr(block)
    expect(cidr && inCidr(cidr, address)).toBe(inside)
  })
})

describe('a pool', () => {
  const port = fc.integer({ min: 1, max: 65535 })
  const range = fc.tuple(port, port).map(([a, b]) => [Math.min(a, b), Math.max(a, b)])
  /** Anything, made large enough by a range of its own. */
  const texts = fc
    .tuple(fc.array(range, { maxLength: 8 }), fc.integer({ min: 1, max: 65536 - MIN_POOL }))
    .chain(([any, low]) => fc.shuffledSubarray([...any, [low, low + MIN_POOL - 1]], { minLength: any.length + 1 }))
    .map((all) => all.map((ends) => ends.join('-')).join(','))

  it('comes back from its text', () => {
    fc.assert(
      fc.property(texts, (text) => {
        const pool = parsePool(text)
        expect(parsePool(formatPool(pool)).join()).toBe(pool.join())
      }),
      { numRuns: 50 },
    )
  })

  it('has every port of its ranges once, ascending', () => {
    fc.assert(
      fc.property(texts, (text) => {
        const ranges = text.split(',').map((ends) => ends.split('-').map(Number))
        const inside = (n: number) => ranges.some(([low, high]) => low <= n && n <= high)
        const ports = Array.from({ length: 65536 }, (_, i) => i).filter(inside)
        expect(parsePool(text).join()).toBe(ports.join())
      }),
      { numRuns: 25 },
    )
  })

  it.each([
    ['49152-65535', '49152-65535'],
    ['30000-45000,20000-35000', '20000-45000'],
    ['20000-29999,30000-40000', '20000-40000'],
    [' 20000 - 40000 , 9 ', '9,20000-40000'],
    ['1-65535', '1-65535'],
  ])('%s is %s for short', (text, short) => {
    expect(formatPool(parsePool(text))).toBe(short)
  })

  it('has its ranges, a single port as one of them', () => {
    expect(poolRanges(Uint16Array.of(7, 8, 9, 65535)).join(' ')).toBe('7,9 65535,65535')
  })

  it('may have 11,272 ports', () => {
    expect(parsePool('49152-60423')).toHaveLength(11_272)
  })

  it('must not have 11,271 ports', () => {
    expect(() => parsePool('49152-60422')).toThrow(RangeError)
  })

  it.each([
    ...['', ' ', ',', '-', 'all', '49152-', '-65535', '49152-65535,', '49152--65535', '49152–65535', '49152:65535', '1-65535;'],
    ...['0-65535', '1-65536', '60000-40000', '1-99999', '1-000065535', '0x1-65535', '1e3-65535', '1.5-65535', '+1-65535'],
  ])('is not "%s"', (text) => {
    expect(() => parsePool(text)).toThrow(RangeError)
  })

  it('must not have 257 ranges', () => {
    expect(() => parsePool(Array.from({ length: 257 }, () => '1-65535').join())).toThrow(RangeError)
  })
})

describe('a key', () => {
  const material: KeyMaterial = { secret: new Uint8Array(32).fill(7), server: 'door', period: 30, pool: parsePool(DEFAULT_POOL) }
  const fingerprint = (server: string) => Buffer.from(deriveKey({ ...material, server }).fingerprint).toString('hex')

  it.each([
    ['no label', { server: '' }],
    ['a label of 255 bytes', { server: 'x'.repeat(255) }],
    ['a label with a surrogate pair', { server: '🚪' }],
    ['a period of 10 s', { period: 10 }],
    ['a period of 300 s', { period: 300 }],
  ])('may have %s', (_, part) => {
    expect(deriveKey({ ...material, ...part })).toMatchObject(part)
  })

  it.each([
    ['a secret of 31 bytes', 'secret', new Uint8Array(31)],
    ['a secret of 33 bytes', 'secret', new Uint8Array(33)],
    ['a label with NUL', 'server', 'do\0or'],
    ['a label of 256 bytes', 'server', 'x'.repeat(256)],
    ['a label of 128 letters and 256 bytes', 'server', 'é'.repeat(128)],
    ['a label with half a surrogate pair', 'server', 'door\ud83d'],
    ['a label with the other half', 'server', '\udeaadoor'],
    ['a period of 9 s', 'period', 9],
    ['a period of 301 s', 'period', 301],
    ['a period of 30.5 s', 'period', 30.5],
    ['a period that is no number', 'period', Number.NaN],
  ])('must not have %s', (_, field, value) => {
    const derive = () => deriveKey({ ...material, [field]: value })
    expect(derive).toThrow(expect.objectContaining({ name: 'RangeError', message: expect.stringContaining(`"${field}"`) }))
  })

  it.each([
    ['normalised', 'caf\u00e9', 'cafe\u0301'],
    ['folded', 'Door', 'door'],
    ['trimmed', 'door ', 'door'],
  ])('is another when the label is: it is not %s', (_, one, other) => {
    expect(fingerprint(one)).not.toBe(fingerprint(other))
  })
})
