import type { Tap } from '../../../src/gate/tap'

/** What a tap says, however it is held; null for none. */
export function plain(tap: Tap | null): Tap | null {
  if (!tap) return null
  const { source, destination, port, payload } = tap
  return payload ? { source, destination, port, payload } : { source, destination, port }
}
