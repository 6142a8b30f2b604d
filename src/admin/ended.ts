import { endOf } from '../gate/server-key'
import type { KeyFile } from '../keys/key-file'
import { Fault } from '../system/fault'

/**
 * Refuses a key that opens nothing any more.
 * @param now Unix milliseconds
 * @throws {Fault} where it is revoked or expired
 */
export function refuseEnded(key: Pick<KeyFile, 'id' | 'revoked' | 'expires'>, now: number): void {
  const end = endOf(key, now)
  if (end) throw new Fault(`the key ${key.id} is ${end}`, { hint: 'make a new key with "knockturn key new"' })
}
