import fc from 'fast-check'
import { expect, it } from 'vitest'
import * as node from '../../src/build/node-primitives'
import * as browsers from '../../src/protocol/primitives'

const bytes = (minLength: number, maxLength = minLength) => fc.uint8Array({ minLength, maxLength })

it('have the same names', () => {
  expect(Object.keys(node)).toEqual(Object.keys(browsers))
})

it('make the same HMAC-SHA-256', () => {
  const same = (key: Uint8Array, data: Uint8Array) => {
    expect(node.hmacSha256(key, data)).toEqual(browsers.hmacSha256(key, data))
  }
  fc.assert(fc.property(bytes(1, 100), bytes(0, 200), same))
})

it('derive the same by HKDF', () => {
  const same = (secret: Uint8Array, salt: Uint8Array, info: Uint8Array, length: number) => {
    const prk = browsers.hkdfExtract(secret, salt)
    expect(node.hkdfExtract(secret, salt)).toEqual(prk)
    expect(node.hkdfExpand(prk, info, length)).toEqual(browsers.hkdfExpand(prk, info, length))
  }
  fc.assert(fc.property(bytes(1, 64), bytes(1, 64), bytes(0, 64), fc.integer({ min: 1, max: 200 }), same))
})

it('make the same keystream of ChaCha20', () => {
  const same = (key: Uint8Array, length: number) => {
    expect(Uint8Array.from(node.chacha20(key, length))).toEqual(browsers.chacha20(key, length))
  }
  fc.assert(fc.property(bytes(32), fc.integer({ min: 1, max: 1_000 }), same))
})

it('seal the same by AES-SIV, and open what the other has sealed', () => {
  const same = (key: Uint8Array, data: Uint8Array, text: Uint8Array) => {
    const sealed = browsers.sivSeal(key, data, text)
    expect(node.sivSeal(key, data, text)).toEqual(sealed)
    expect(node.sivOpen(key, data, sealed)).toEqual(text)
    expect(browsers.sivOpen(key, data, node.sivSeal(key, data, text))).toEqual(text)
  }
  fc.assert(fc.property(bytes(64), bytes(1, 40), bytes(1, 64), same))
})

it('open nothing in which a bit is another, nor what is cut off, nor by other data', () => {
  const refused = (key: Uint8Array, data: Uint8Array, text: Uint8Array, at: number) => {
    const sealed = browsers.sivSeal(key, data, text)
    const other = sealed.map((byte, i) => (i === (at >> 3) % sealed.length ? byte ^ (1 << (at & 7)) : byte))
    const shorter = sealed.subarray(0, at % sealed.length)
    const otherData = data.map((byte) => byte ^ 1)
    for (const { sivOpen } of [node, browsers])
      expect([sivOpen(key, data, other), sivOpen(key, data, shorter), sivOpen(key, otherData, sealed)]).toEqual([
        null,
        null,
        null,
      ])
  }
  fc.assert(fc.property(bytes(64), bytes(8), bytes(12, 24), fc.nat(10_000), refused))
})
