import { randomBytes } from 'node:crypto'
import { poolFault } from '../daemon/server-keys'
import type { GrantRules } from '../gate/server-key'
import type { KeyFile } from '../keys/key-file'
import { addKey, keyPath } from '../keys/keyring'
import { deriveKey, SECRET_BYTES } from '../protocol/key'
import { asOwner } from '../system/files'
import type { ServerKeyring } from './keyring-config'

/** What a new key is to be, but for its secret. */
interface NewKey {
  readonly id: string
  /** The server's label. */
  readonly server: string
  /** Seconds of a window. */
  readonly period: number
  readonly pool: Uint16Array
  /** Where its client will knock; null where the key is not to say. */
  readonly host: string | null
  /** Unix milliseconds; null: never */
  readonly expires: number | null
  readonly grant: GrantRules
}

/**
 * Makes a key with a new secret and adds it to a keyring, as its owner; never over an existing one.
 * @param now Unix milliseconds
 * @returns the path of the new file
 * @throws {Fault} also where its pool has a port of datagrams in it
 */
export async function makeKey(
  { folder, config }: ServerKeyring,
  { id, server, period, pool, host, expires, grant }: NewKey,
  now: number,
): Promise<string> {
  const file: KeyFile = {
    id,
    key: deriveKey({ secret: randomBytes(SECRET_BYTES), server, period, pool }),
    created: Math.floor(now / 1000) * 1000,
    expires,
    revoked: null,
    host,
    grant,
  }
  const conflict = poolFault(keyPath(folder, id), file, config?.datagrams ?? [])
  if (conflict) throw conflict
  return asOwner(folder, () => addKey(folder, file))
}
