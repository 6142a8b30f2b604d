import { bytesToHex } from '@noble/hashes/utils.js'
import type { ServerKey } from '../gate/server-key'
import type { KeyFile } from '../keys/key-file'
import { type Keyring, keyPath, readKeyring } from '../keys/keyring'
import { formatPool } from '../protocol/pool'
import { Fault, reason } from '../system/fault'

/** Keys that are looked at before others get their turn: with thousands of them the loop must not be held up. */
const AT_ONCE = 1_000

/** Milliseconds between looks at what can't be read: it may come back without a word. */
const AGAIN = 10_000
/** The same with so many keys that a look takes long: this many times as long as it takes, and a minute at most. */
const SHARE = 20
const SELDOM = 60_000

/** The keys that a daemon listens for, and what was wrong with the others. */
export interface ServerKeys {
  readonly keys: readonly ServerKey[]
  /** Why keys are refused. */
  readonly faults: readonly Fault[]
  /** Faulty files whose keys stay as they were read before, for a while. */
  readonly held: readonly HeldKey[]
  /** What can't be read, files or the whole keyring: nobody knows what they say, and what was read before holds. */
  readonly unread: readonly Fault[]
  readonly ignored: readonly string[]
}

/** A key that stays as it was read before. */
export interface HeldKey {
  readonly id: string
  /** Empty where its file can't be read now. */
  readonly faults: readonly Fault[]
  /** When it is refused if its file is read and is faulty still, in steady milliseconds; null where it has not been read since. */
  readonly until: number | null
}

/** What a load goes by. */
interface Loading {
  /** Ports of datagram knocks: none of them may lie in a key's pool. */
  readonly datagrams?: readonly number[] | undefined
  /**
   * What was loaded before: keys whose material has not changed keep their objects, and so their place in the table. One whose file has
   * become faulty stays as it was for its grace, but a word of `revoked` counts at once.
   */
  readonly before?: ServerKeys | undefined
  /** Steady milliseconds. */
  readonly now?: number
}

/**
 * Loads a daemon's keys (docs/protocol.md, "Derivation": one label, and no fingerprint twice).
 * @param server the daemon's own label
 * @throws {Fault} when the keyring can't be read, and nothing was read before
 */
export async function loadServerKeys(folder: string, server: string, loading: Loading = {}): Promise<ServerKeys> {
  const { before } = loading
  try {
    return await judgeKeys(folder, await readKeyring(folder), server, loading)
  } catch (error) {
    if (!before) throw error
    const held = before.held.map((key) => ({ ...key, faults: [] }))
    return { ...before, held, unread: [error instanceof Fault ? error : new Fault(`${folder}: ${reason(error)}`)] }
  }
}

/** What a daemon makes of a keyring that has been read. It looks at nothing but its arguments. */
export async function judgeKeys(
  folder: string,
  { keys: files, faulty, ignored }: Keyring,
  server: string,
  { before, datagrams = [], now = 0 }: Loading,
): Promise<ServerKeys> {
  const was = new Map(before?.keys.map((key) => [key.id, key]))
  const deadlines = new Map(before?.held.map(({ id, until }) => [id, until]))
  const keys: ServerKey[] = []
  const faults: Fault[] = []
  const held: HeldKey[] = []
  const unread: Fault[] = []
  for (const one of faulty) {
    const key = was.get(one.id)
    const isUnread = one.grace === Infinity
    const deadline = deadlines.get(one.id) ?? null
    const until = isUnread ? deadline : Math.min(deadline ?? Infinity, now + one.grace)
    const isHeld = key !== undefined && !one.revoked && (isUnread || (until as number) > now)
    if (key && one.revoked) keys.push({ ...key, revoked: key.revoked ?? 0 })
    if (isHeld) {
      keys.push(key)
      held.push({ id: one.id, faults: isUnread ? [] : one.faults, until })
    }
    if (isUnread) unread.push(...one.faults)
    else if (!isHeld) faults.push(...one.faults)
  }
  const stays = new Map(keys.map(({ id, fingerprint }) => [fingerprint, id]))
  const byFingerprint = new Map<string, KeyFile[]>()
  for (const [i, file] of files.entries()) {
    if (i % AT_ONCE === AT_ONCE - 1) await new Promise(setImmediate)
    const fingerprint = bytesToHex(file.key.fingerprint)
    byFingerprint.set(fingerprint, [...(byFingerprint.get(fingerprint) ?? []), file])
  }
  const known = new Map(before?.keys.map((key) => [key.fingerprint, key]))
  let done = 0
  for (const [fingerprint, [file, next]] of byFingerprint) {
    if (++done % AT_ONCE === 0) await new Promise(setImmediate)
    const path = keyPath(folder, file.id)
    const twin = next?.id ?? stays.get(fingerprint)
    if (twin !== undefined) {
      faults.push(new Fault(`${path}: has the same secret as ${keyPath(folder, twin)}`, { hint: 'remove one of the two files' }))
    } else if (file.key.server !== server) {
      faults.push(
        new Fault(`${path}: expected server "${server}", as in the config, got "${file.key.server}"`, {
          hint: 'make a key for this server, or fix the config',
        }),
      )
    } else if (!file.grant) {
      const hint = "this may be a client's copy, which opens nothing on a server: use the server's own file"
      faults.push(new Fault(`${path}: the table [grant] is missing`, { hint }))
    } else {
      const fault = poolFault(path, file, datagrams)
      if (fault) faults.push(fault)
      else keys.push(serverKey(file, fingerprint, file.grant, known.get(fingerprint)))
    }
  }
  return { keys, faults, held, unread, ignored }
}

/**
 * When the keyring is to be read again though nothing tells of a change: when a grace is over, and to see whether what can't be read can.
 * @param began when the last reading began, and `ended`: in steady milliseconds
 * @param isWatched whether the system tells of files that are changed in their place
 * @returns steady milliseconds; Infinity where there is no need
 */
export function readAgainAt({ held, unread }: ServerKeys, began: number, ended: number, isWatched: boolean): number {
  const later = ended + Math.min(SELDOM, Math.max(AGAIN, SHARE * (ended - began)))
  const graces = held.flatMap(({ faults, until }) => (faults.length > 0 && until !== null ? [Math.max(until, ended)] : []))
  return Math.min(...graces, isWatched && unread.length === 0 ? Infinity : later)
}

/** A pool that holds a port of datagram knocks: a tap there could mean either. @returns null where there is none */
export function poolFault(path: string, { key }: KeyFile, datagrams: readonly number[]): Fault | null {
  // Ten thousand keys are looked at, and such ports lie nearly always below the pool.
  const port = datagrams.find((one) => one >= key.pool[0] && key.pool.includes(one))
  if (port === undefined) return null
  return new Fault(`${path}: the pool ${formatPool(key.pool)} contains port ${port}, which [datagram] ports has, too`, {
    hint: 'set another port in [datagram] ports, or make a key with another pool',
  })
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
