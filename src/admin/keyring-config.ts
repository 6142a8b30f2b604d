import { resolve } from 'node:path'
import { readConfig, readPlaces, SERVER_CONFIG } from '../daemon/config'
import { SERVER_KEYS } from '../keys/keyring'
import { ReadFault } from '../system/files'

/** A keyring, and what the daemon's config says of its keys. */
export interface ServerKeyring {
  readonly folder: string
  /** Null where no config is known to be this keyring's. */
  readonly config: { readonly file: string; readonly server: string; readonly datagrams: readonly number[] } | null
}

/**
 * Finds the config that a keyring belongs to. Without a word of it, that is the usual one, where it is there and has this keyring.
 * @param file the config as it was named
 * @param keys the keyring as it was named; else it is the config's
 * @throws {Fault} where the config can't be read, or has no label
 */
export async function serverKeyring(file: string | undefined, keys: string | undefined): Promise<ServerKeyring> {
  const path = file ?? SERVER_CONFIG
  const folder = keys ?? SERVER_KEYS
  const { value, faults } = await readConfig(path)
  // What else is wrong with it is for the daemon to say.
  const { server, keys: own } = value ?? (await readPlaces(path))
  const isMissing = faults?.[0] instanceof ReadFault && faults[0].code === 'ENOENT'
  const isOthers = keys !== undefined && resolve(keys) !== (own ?? SERVER_KEYS)
  if (file === undefined && (isMissing || isOthers)) return { folder, config: null }
  if (faults && (server === undefined || own === undefined)) throw faults[0]
  const config = { file: path, server: server as string, datagrams: value?.datagram.ports ?? [] }
  return { folder: keys ?? (own as string), config }
}
