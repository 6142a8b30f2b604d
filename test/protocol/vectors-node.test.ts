import { expect, it, vi } from 'vitest'
import * as used from '../../src/protocol/primitives'
import * as node from '../../src/system/primitives'
import './vectors.test'

/* The vectors once more, as the built programs compute them. */

vi.mock('../../src/protocol/primitives', () => import('../../src/system/primitives'))

it('are computed by OpenSSL here', () => {
  expect(used.hmacSha256).toBe(node.hmacSha256)
})
