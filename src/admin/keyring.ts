import type { KeyFile } from '../keys/key-file'
import { findKey, type Keyring, readKeyring, revokeKey } from '../keys/keyring'
import { asOwner } from '../system/files'

/* The server's keyring, always as the user who owns it: root works there for the daemon's user. */

/** Reads a keyring. @throws {Fault} where its folder can't be read, or others than its owner may use it */
export function readKeys(folder: string): Promise<Keyring> {
  return asOwner(folder, () => readKeyring(folder))
}

/** Reads a key by its id. @throws {Fault} its first fault, or that there is no such key */
export function readKey(folder: string, id: string): Promise<KeyFile> {
  return asOwner(folder, () => findKey(folder, id))
}

/**
 * Revokes a key.
 * @param at Unix milliseconds, whole seconds
 * @returns when it was revoked: `at`, or earlier if it had been already
 * @throws {Fault} also where the daemon would not take it for revoked
 */
export function revoke(folder: string, id: string, at: number): Promise<number> {
  return asOwner(folder, () => revokeKey(folder, id, at))
}
