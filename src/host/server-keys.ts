import { bytesToHex } from '@noble/hashes/utils.js'
import type { ServerKey } from '../gate/policy'
import { formatPool } from '../protocol/pool'
import { Fault } from './fault'
import type { KeyFile } from './key-file'
import { keyPath, readKeyring } from './keyring'

/** Keys that are looked at before others get their turn: with thousands of them the loop must not be held up. */
const AT_ONCE = 1_000

/** The keys that a daemon listens for, and what was wrong with the others. */
export interface ServerKeys {
  readonly keys: readonly ServerKey[]
  readonly faults: readonly Fault[]
  readonly ignored: readonly string[]
}

/**
 * Loads a daemon's keys (docs/protocol.md, "Derivation": one label, and no fingerprint twice).
 * @param server the daemon's own label
 * @param before keys loaded earlier: those whose material has not changed keep their objects, and so their place in the table;
 *   one whose file has become faulty stays as it was, until it is mended or removed, but a word of `revoked` in it counts
 * @param datagrams ports of datagram knocks: none of them may lie in a key's pool
 * @throws {Fault} when the keyring can't be read at all
 */
export async function loadServerKeys(
  folder: string,
  server: string,
  before: readonly ServerKey[] = [],
  datagrams: readonly number[] = [],
): Promise<ServerKeys> {
  const { keys: files, faulty, ignored } = await readKeyring(folder)
  const faults = faulty.map(({ fault }) => fault)
  const byFingerprint = new Map<string, KeyFile[]>()
  for (const [i, file] of files.entries()) {
    if (i % AT_ONCE === AT_ONCE - 1) await new Promise(setImmediate)
    const fingerprint = bytesToHex(file.key.fingerprint)
    byFingerprint.set(fingerprint, [...(byFingerprint.get(fingerprint) ?? []), file])
  }
  const faultyById = new Map(faulty.map((one) => [one.id, one]))
  const keys = before
    .filter(({ id }) => faultyById.has(id))
    .map((key) => (faultyById.get(key.id)?.revoked ? { ...key, revoked: 0 } : key))
  const known = new Map(before.map((key) => [key.fingerprint, key]))
  let done = 0
  for (const [fingerprint, [file, twin]] of byFingerprint) {
    if (++done % AT_ONCE === 0) await new Promise(setImmediate)
    const path = keyPath(folder, file.id)
    if (twin) {
      faults.push(new Fault(`${path}: holds the same secret as ${keyPath(folder, twin.id)}: remove one of the two`))
    } else if (file.key.server !== server) {
      faults.push(
        new Fault(
          `${path}: expected server "${server}", as in the config, got "${file.key.server}": make a key for this server, or mend the config`,
        ),
      )
    } else if (!file.grant) {
      faults.push(new Fault(`${path}: expected a table [grant], and it is missing: a client's copy opens nothing on a server`))
    } else {
      const fault = poolFault(path, file, datagrams)
      if (fault) faults.push(fault)
      else keys.push(serverKey(file, fingerprint, file.grant, known.get(fingerprint)))
    }
  }
  return { keys, faults, ignored }
}

/** A pool that holds a port of datagram knocks: a tap there could mean either. @returns null where there is none */
export function poolFault(path: string, { key }: KeyFile, datagrams: readonly number[]): Fault | null {
  // Ten thousand keys are looked at, and such ports lie nearly always below the pool.
  const port = datagrams.find((one) => one >= key.pool[0] && key.pool.includes(one))
  if (port === undefined) return null
  return new Fault(
    `${path}: expected a pool without port ${port}, which [datagram] in the config has for datagrams, got ${formatPool(key.pool)}: take another port there, or make a key with another pool`,
  )
}

function serverKey(
  { id, key, expires, revoked, passcode }: KeyFile,
  fingerprint: string,
  grant: NonNullable<KeyFile['grant']>,
  before: ServerKey | undefined,
): ServerKey {
  const material = before && sameMaterial(before.key, key) ? before.key : key
  return { id, key: material, fingerprint, expires, revoked, grant, ...(passcode ? { passcode } : {}) }
}

/** Keys of one fingerprint have one secret and label; period and pool remain. */
function sameMaterial(a: KeyFile['key'], b: KeyFile['key']): boolean {
  return a.period === b.period && (a.pool === b.pool || formatPool(a.pool) === formatPool(b.pool))
}
