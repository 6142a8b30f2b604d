import { aessiv } from '@noble/ciphers/aes.js'
import { chacha20 } from '@noble/ciphers/chacha.js'
import { expand, extract } from '@noble/hashes/hkdf.js'
import { sha256 } from '@noble/hashes/sha2.js'
import { bytesToHex, hexToBytes, utf8ToBytes } from '@noble/hashes/utils.js'
import { describe, expect, it } from 'vitest'
import type { Key } from '../../src/protocol/key'
import { passcode } from '../../src/protocol/totp'

/** The bytes first, first + 1, ... last. */
const run = (first: number, last: number) => Uint8Array.from({ length: last - first + 1 }, (_, i) => first + i)

describe('AES-SIV (RFC 5297)', () => {
  const key = hexToBytes('fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff')
  const data = hexToBytes('101112131415161718191a1b1c1d1e1f2021222324252627')
  const plaintext = hexToBytes('112233445566778899aabbccddee')
  const sealed = '85632d07c6e8f37f950acd320a2ecc9340c02b9690c4dc04daef7f6afe5c'

  it('A.1: seals one associated data and a plaintext shorter than a block', () => {
    expect(bytesToHex(aessiv(key, data).encrypt(plaintext))).toBe(sealed)
  })

  it('A.1: opens again', () => {
    expect(aessiv(key, data).decrypt(hexToBytes(sealed))).toEqual(plaintext)
  })

  it('A.1: other associated data do not open it', () => {
    expect(() => aessiv(key, data.slice(1)).decrypt(hexToBytes(sealed))).toThrow()
  })

  it('A.2: seals two associated data, a nonce and a plaintext longer than two blocks', () => {
    const cipher = aessiv(
      hexToBytes('7f7e7d7c7b7a79787776757473727170404142434445464748494a4b4c4d4e4f'),
      hexToBytes('00112233445566778899aabbccddeeffdeaddadadeaddadaffeeddccbbaa99887766554433221100'),
      hexToBytes('102030405060708090a0'),
      hexToBytes('09f911029d74e35bd84156c5635688c0'),
    )
    expect(bytesToHex(cipher.encrypt(utf8ToBytes('this is some plaintext to encrypt using SIV-AES')))).toBe(
      '7bdb6e3b432667eb06f4d14bff2fbd0fcb900f2fddbe404326601965c889bf17dba77ceb094fa663b7a3f748ba8af829ea64ad544a272e9c' +
        '485b62a3fd5c0d',
    )
  })
})

describe('HKDF-SHA256 (RFC 5869)', () => {
  const cases = [
    {
      name: 'A.1, basic',
      ikm: new Uint8Array(22).fill(0x0b),
      salt: run(0x00, 0x0c),
      info: run(0xf0, 0xf9),
      prk: '077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5',
      okm: '3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865',
    },
    {
      name: 'A.2, longer inputs',
      ikm: run(0x00, 0x4f),
      salt: run(0x60, 0xaf),
      info: run(0xb0, 0xff),
      prk: '06a6b88c5853361a06104c9ceb35b45cef760014904671014a193f40c15fc244',
      okm:
        'b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09da3275600c2f09b8' +
        '367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87',
    },
    {
      name: 'A.3, no salt and no info',
      ikm: new Uint8Array(22).fill(0x0b),
      salt: new Uint8Array(0),
      info: new Uint8Array(0),
      prk: '19ef24a32c717b167f33a91d6f648bdf96596776afdb6377ac434c1c293ccb04',
      okm: '8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8',
    },
  ]

  it.each(cases.map((row) => [row.name, row] as const))('%s: extracts', (_, { ikm, salt, prk }) => {
    expect(bytesToHex(extract(sha256, ikm, salt))).toBe(prk)
  })

  it.each(cases.map((row) => [row.name, row] as const))('%s: expands', (_, { prk, info, okm }) => {
    expect(bytesToHex(expand(sha256, hexToBytes(prk), info, okm.length / 2))).toBe(okm)
  })
})

describe('ChaCha20 (RFC 8439)', () => {
  it('2.3.2: gives the block of counter 1', () => {
    expect(bytesToHex(chacha20(run(0, 31), hexToBytes('000000090000004a00000000'), new Uint8Array(64), undefined, 1))).toBe(
      '10f1e7e4d13b5915500fdd1fa32071c4c7d1f4c733c068030422aa9ac3d46c4ed2826446079faa0914c2d705d98b02a2b5129cd1de164eb9' +
        'cbd083e8a2503c4e',
    )
  })

  it('2.4.2: encrypts across a block boundary', () => {
    const text =
      "Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it."
    expect(bytesToHex(chacha20(run(0, 31), hexToBytes('000000000000004a00000000'), utf8ToBytes(text), undefined, 1))).toBe(
      '6e2e359a2568f98041ba0728dd0d6981e97e7aec1d4360c20a27afccfd9fae0bf91b65c5524733ab8f593dabcd62b3571639d624e65152ab' +
        '8f530c359f0861d807ca0dbf500d6a6156a38e088a22b65e52bc514d16ccf806818ce91ab77937365af90bbf74a35be6b40b8eedf2785e42' +
        '874d',
    )
  })

  it('A.1, 1 and 2: the keystream starts at counter 0 where none is named, and counts on', () => {
    expect(bytesToHex(chacha20(new Uint8Array(32), new Uint8Array(12), new Uint8Array(128)))).toBe(
      '76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7da41597c5157488d7724e03fb8d84a376a43b8f41518a11c' +
        'c387b669b2ee65869f07e7be5551387a98ba977c732d080dcb0f29a048e3656912c6533e32ee7aed29b721769ce64e43d57133b074d839d5' +
        '31ed1f28510afb45ace10a1f4b794d6f',
    )
  })
})

describe('TOTP (RFC 6238, appendix B, SHA-1)', () => {
  const key = { totpSecret: utf8ToBytes('12345678901234567890'), period: 30 } as Key

  it.each([
    [59, '94287082'],
    [1111111109, '07081804'],
    [1111111111, '14050471'],
    [1234567890, '89005924'],
    [2000000000, '69279037'],
    [20000000000, '65353130'],
  ])('at %i s the passcode is %s', (seconds, code) => {
    expect(passcode(key, Math.floor(seconds / 30))).toBe(code)
  })
})
