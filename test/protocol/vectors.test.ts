import { createHash, createHmac } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { hexToBytes } from '@noble/hashes/utils.js'
import { describe, expect, it } from 'vitest'
import { codebook, rendezvous, symbolPort } from '../../src/protocol/codebook'
import { composeDatagram, hint, openDatagram } from '../../src/protocol/datagram'
import { encode } from '../../src/protocol/erasure'
import { deriveKey, type Key } from '../../src/protocol/key'
import { compose, identity } from '../../src/protocol/knock'
import { passcodePorts } from '../../src/protocol/passcode'
import { parsePool } from '../../src/protocol/pool'
import { decodeRequest, encodeRequest, type Request } from '../../src/protocol/request'
import { seal, unseal } from '../../src/protocol/seal'
import { passcode } from '../../src/protocol/totp'

const rows = <T>(name: string): T[] => JSON.parse(readFileSync(new URL(`../vectors/${name}.json`, import.meta.url), 'utf8'))
const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex')

interface KeyRow {
  secret: string
  server: string
  period: number
  pool: string
}
const keyOf = (row: KeyRow): Key => deriveKey({ ...row, secret: hexToBytes(row.secret), pool: parsePool(row.pool) })

interface DeriveRow {
  key: KeyRow
  window: number
  rendezvous_key: string
  codebook_key: string
  seal_key: string
  totp_secret: string
  hint_key: string
  fingerprint: string
  pages: number
  rendezvous: number[]
  hint: string
  symbols: Record<string, number>
  codebook_sha256: string
}

describe('derive.json', () => {
  it.each(rows<DeriveRow>('derive').map((row, i) => [i, row] as const))(
    'row %i derives as the independent implementation',
    (_, row) => {
      const key = keyOf(row.key)
      expect({
        rendezvous_key: hex(key.rendezvousKey),
        codebook_key: hex(key.codebookKey),
        seal_key: hex(key.sealKey),
        totp_secret: hex(key.totpSecret),
        hint_key: hex(key.hintKey),
        fingerprint: hex(key.fingerprint),
        hint: hex(hint(key, row.window)),
        rendezvous: [...rendezvous(key, row.window)],
      }).toEqual({
        rendezvous_key: row.rendezvous_key,
        codebook_key: row.codebook_key,
        seal_key: row.seal_key,
        totp_secret: row.totp_secret,
        hint_key: row.hint_key,
        fingerprint: row.fingerprint,
        hint: row.hint,
        rendezvous: row.rendezvous,
      })
      const book = codebook(key, row.window)
      expect(book.pages).toBe(row.pages)
      expect([...book.ports.subarray(0, 8)]).toEqual(row.rendezvous)
      for (const [symbol, port] of Object.entries(row.symbols)) {
        const [page, byte] = symbol.split(',').map(Number)
        expect(symbolPort(book, page, byte)).toBe(port)
      }
      const bytes = Buffer.alloc(2 * book.ports.length)
      book.ports.forEach((port, i) => {
        bytes.writeUInt16BE(port, 2 * i)
      })
      expect(createHash('sha256').update(bytes).digest('hex')).toBe(row.codebook_sha256)
    },
  )
})

interface KnockRow {
  key: KeyRow
  window: number
  request: Request
  message: string
  sealed: string
  parity: number
  codeword: string
  ports: number[]
}

describe('knocks.json', () => {
  it.each(rows<KnockRow>('knocks').map((row, i) => [i, row] as const))(
    'row %i composes as the independent implementation',
    (_, row) => {
      const key = keyOf(row.key)
      const message = encodeRequest(row.request)
      expect(hex(message)).toBe(row.message)
      const sealed = seal(key, row.window, message)
      expect(hex(sealed)).toBe(row.sealed)
      expect(hex(encode(sealed, row.codeword.length / 2))).toBe(row.codeword)
      expect(compose(key, row.window, row.request, row.parity)).toEqual(row.ports)
    },
  )

  it.each(rows<KnockRow>('knocks').map((row, i) => [i, row] as const))(
    'row %i opens again, under its own window only',
    (_, row) => {
      const key = keyOf(row.key)
      const sealed = hexToBytes(row.sealed)
      expect(decodeRequest(unseal(key, row.window, sealed) as Uint8Array)).toEqual(row.request)
      expect(unseal(key, row.window + 1, sealed)).toBeNull()
      expect(hex(identity(sealed))).toBe(row.sealed.slice(0, 32))
    },
  )
})

describe('a datagram of knocks.json', () => {
  it.each(rows<KnockRow>('knocks').map((row, i) => [i, row] as const))(
    'row %i is the hint and the sealed request, and opens under its own key and window only',
    (_, row) => {
      const key = keyOf(row.key)
      const window = Buffer.alloc(8)
      window.writeBigUInt64BE(BigInt(row.window))
      const announcement = createHmac('sha256', key.hintKey).update(window).digest('hex').slice(0, 16)
      const datagram = composeDatagram(key, row.window, row.request)
      expect(hex(datagram)).toBe(announcement + row.sealed)
      const opened = openDatagram(key, row.window, datagram)
      expect([opened?.request, hex(opened?.sealed as Uint8Array)]).toEqual([row.request, row.sealed])
      expect(openDatagram(key, row.window + 1, datagram)).toBeNull()
      expect(openDatagram({ ...key, sealKey: key.sealKey.toReversed() }, row.window, datagram)).toBeNull()
    },
  )
})

interface PasscodeRow {
  key: KeyRow
  window: number
  pin: string
  totp_secret: string
  code: string
  base: number
  ports: number[]
}

describe('passcodes.json', () => {
  it.each(rows<PasscodeRow>('passcodes').map((row, i) => [i, row] as const))(
    'row %i shows the same code on the same ports',
    (_, row) => {
      const key = keyOf(row.key)
      expect(hex(key.totpSecret)).toBe(row.totp_secret)
      expect(passcode(key, row.window)).toBe(row.code)
      expect(passcodePorts(row.pin, row.code, row.base)).toEqual(row.ports)
    },
  )
})
