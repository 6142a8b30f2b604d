import { expect, it, vi } from 'vitest'
import * as node from '../../src/build/node-primitives'
import * as used from '../../src/protocol/primitives'
import './vectors.test'

/* The vectors once more, as the built programs compute them. */

vi.mock('../../src/protocol/primitives', () => import('../../src/build/node-primitives'))

it('are computed by OpenSSL here', () => {
  expect(used.hmacSha256).toBe(node.hmacSha256)
})
