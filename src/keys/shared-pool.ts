import { parsePool } from '../protocol/pool'

/** Pools by their text: ten thousand keys with one pool share its 32 KB. */
const pools = new Map<string, Uint16Array>()
/** Pools that are kept for sharing; more are read each for itself. */
const MAX_SHARED_POOLS = 64

/** As `parsePool`, with one pool for all who have the same text. @throws {RangeError} */
export function sharedPool(input: string): Uint16Array {
  const pool = pools.get(input) ?? parsePool(input)
  if (pools.size < MAX_SHARED_POOLS) pools.set(input, pool)
  return pool
}
