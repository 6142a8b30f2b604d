import { inspect } from 'node:util'
import { expect, it } from 'vitest'
import { deriveKey } from '../../src/protocol/key'
import { DEFAULT_POOL, parsePool } from '../../src/protocol/pool'

const SECRET = new Uint8Array(32).fill(0xa7)
const key = deriveKey({ secret: SECRET, server: 'gate.example', period: 30, pool: parsePool(DEFAULT_POOL) })

it.each([
  ['JSON', JSON.stringify({ key })],
  ['what console.log prints', inspect({ key }, { depth: 9 })],
])('a key in %s shows its fingerprint and no byte of its secrets', (_, text) => {
  expect(text).toContain(Buffer.from(key.fingerprint).toString('hex'))
  expect(text).not.toMatch(/167|a7a7|secret|sealKey/i)
})
