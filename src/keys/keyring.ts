import type { Stats } from 'node:fs'
import { lstat, mkdir, readdir, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { errorCode, Fault, listed, reason, thereAre, UsageFault } from '../system/fault'
import {
  changeText,
  checkPrivate,
  checkSecret,
  decodeText,
  ReadFault,
  readHead,
  readText,
  tooLong,
  writeNew,
} from '../system/files'
import { isoTime } from '../system/time'
import { ourConfigFolder } from './client-folder'
import { formatKeyFile, type KeyFile, MAX_KEY_FILE, parseKeyFile } from './key-file'
import { saysRevoked } from './says-revoked'

/** Most keys of a keyring: a bound on a folder's listing. */
const MAX_KEYS = 100_000
/** Files that are read at a time: some of them while others are parsed, and no more open than need be. */
const READ_AT_ONCE = 16
const MAKE_ONE = 'make a key with "knockturn key new"'
/** Keys that are named in one line. */
const NAMED = 8
const SUFFIX = '.key'
/** A key's file while it is changed. */
const CHANGING = `${SUFFIX}.new`
/** Bytes of a file in which a word of revocation is looked for, however much longer than a key file it is. */
const MAX_HEAD = 1024 * 1024
/** Milliseconds for which a file may be faulty before its key is refused: an editor writes in steps, and people read what they have written. */
const GRACE = 10_000
/** Node's words for a name behind which there is no file: a link that leads nowhere. */
const ABSENT = ['ENOENT', 'ENOTDIR', 'ELOOP']
/** What may lie in a keyring's folder besides keys (the keyring of a checkout has both). */
const COMPANIONS = ['README.md', '.gitignore']

export const SERVER_KEYS = '/etc/knockturn/keys'

/** The keyring of a client. */
export function clientKeys(): string {
  return join(ourConfigFolder(), 'keys')
}

/** A key file that is refused. */
export interface FaultyKey {
  readonly id: string
  readonly faults: readonly [Fault, ...Fault[]]
  /** Whether it says `revoked` all the same, in a line that can't be read. */
  readonly revoked: boolean
  /** For how long a daemon may go on with what it read before, in milliseconds: Infinity where nobody can say what the file says now. */
  readonly grace: number
}

/** What became of reading one file: neither, where it has been deleted meanwhile. */
interface ReadKey {
  readonly key?: KeyFile
  readonly faulty?: FaultyKey
}

/** What a keyring's folder holds. A faulty key is refused by itself: the others still open doors. */
export interface Keyring {
  readonly keys: readonly KeyFile[]
  readonly faulty: readonly FaultyKey[]
  /** Files that were passed over because of their names. */
  readonly ignored: readonly string[]
}

/**
 * Reads a keyring.
 * @param hint what to do where there is none
 * @throws {Fault} when the folder can't be read, or others than its owner may use it
 */
export async function readKeyring(folder: string, hint = MAKE_ONE): Promise<Keyring> {
  const names = await list(folder, hint)
  const keys: KeyFile[] = []
  const faulty: FaultyKey[] = []
  const found = names.filter(isKeyName)
  for (let at = 0; at < found.length; at += READ_AT_ONCE) {
    for (const read of await Promise.all(found.slice(at, at + READ_AT_ONCE).map((name) => readKey(folder, name)))) {
      if (read.key) keys.push(read.key)
      if (read.faulty) faulty.push(read.faulty)
    }
  }
  const ignored = names.filter((name) => !isKeyName(name) && !COMPANIONS.includes(name) && !name.endsWith(CHANGING))
  return { keys, faulty, ignored: ignored.map((name) => join(folder, name)) }
}

async function readKey(folder: string, name: string): Promise<ReadKey> {
  const id = name.slice(0, -SUFFIX.length)
  const path = join(folder, name)
  let bytes: Uint8Array = new Uint8Array()
  const refused = (faults: FaultyKey['faults'], grace: number): ReadKey => ({
    faulty: { id, faults, revoked: saysRevoked(bytes), grace },
  })
  try {
    const head = await readHead(path, MAX_HEAD)
    bytes = head.bytes
    // No editor's half of a file: something was added, and nobody may be kept from revoking by how much there is.
    if (bytes.length > MAX_KEY_FILE) return refused([tooLong(path, MAX_KEY_FILE, head.stats.size)], 0)
    checkSecret(path, head.stats)
    const { value, faults } = parseKeyFile(path, decodeText(path, bytes))
    if (value?.id === id) return { key: value }
    const misnamed =
      value && new Fault(`${path}: id expected "${id}", got "${value.id}"`, { hint: `rename the file to ${value.id}${SUFFIX}` })
    return refused(misnamed ? [misnamed] : (faults as Fault[] as [Fault]), GRACE)
  } catch (error) {
    // Whatever is wrong with a file, the others are read.
    if (!(error instanceof Fault)) return refused([new Fault(`${path}: ${reason(error)}`)], GRACE)
    if (!(error instanceof ReadFault)) return refused([error], GRACE)
    if (!ABSENT.includes(error.code ?? '')) return refused([error], Infinity)
    const isThere = await lstat(path).catch(() => null)
    return isThere ? refused([error], 0) : {}
  } finally {
    bytes.fill(0)
  }
}

/** What stands in a key's file now, as a daemon sees it. @throws {Fault} where the daemon refuses the folder */
async function readBack(folder: string, id: string): Promise<ReadKey> {
  await list(folder, MAKE_ONE)
  return readKey(folder, `${id}${SUFFIX}`)
}

/**
 * Looks whether a daemon takes up what has just been written into a key's file: by its own reader.
 * @param isDone whether it is what was meant
 * @param unseen what to say where it does not, such as "the daemon does not see that alice is revoked"
 * @throws {Fault}
 */
export async function checkTaken(folder: string, id: string, isDone: (read: ReadKey) => boolean, unseen: string): Promise<void> {
  const failed = ({ message, hint }: Pick<Fault, 'message' | 'hint'>) => new Fault(`${unseen}: ${message}`, { hint })
  const refuse = (error: unknown) => Promise.reject(failed(error instanceof Fault ? error : new Fault(reason(error))))
  const read = await readBack(folder, id).catch(refuse)
  if (!isDone(read)) throw failed(read.faulty?.faults[0] ?? new Fault(`${keyPath(folder, id)} was changed at the same time`))
}

/**
 * Reads a key of a keyring by its id.
 * @throws {Fault} its first fault, or that there is no such key
 */
export async function findKey(folder: string, id: string): Promise<KeyFile> {
  const path = keyPath(folder, id)
  await stat(path).catch(async (error) => {
    if (errorCode(error) !== 'ENOENT') return
    throw await noKey(folder, id)
  })
  return loadKeyFile(path)
}

async function noKey(folder: string, id: string): Promise<Fault> {
  const names = await readdir(folder).catch((): string[] => [])
  const ids = names.filter(isKeyName).map((name) => name.slice(0, -SUFFIX.length))
  const hint = ids.length === 0 ? MAKE_ONE : undefined
  return new Fault(`${folder}: no key "${id}" ${thereAre(listed(ids.sort(), NAMED))}`, { hint })
}

/**
 * Reads one key file, judging its own mode and owner and nothing else's.
 * @param judge refuses modes and owners
 * @throws {Fault} its first fault, or that it can't be read, or that others may read it
 */
export async function loadKeyFile(path: string, judge: (path: string, stats: Stats) => void = checkSecret): Promise<KeyFile> {
  const read = parseKeyFile(path, await readText(path, MAX_KEY_FILE, judge))
  if (read.faults) throw read.faults[0]
  return read.value
}

/** The path of a key in a keyring. */
export function keyPath(folder: string, id: string): string {
  return join(folder, `${id}${SUFFIX}`)
}

/**
 * Adds a key, making the folder where it is missing; never over an existing one.
 * @returns the path of the new file
 * @throws {Fault}
 */
export async function addKey(folder: string, key: KeyFile): Promise<string> {
  const path = keyPath(folder, key.id)
  const text = formatKeyFile(key)
  // What could not be read again is not written.
  const { faults } = parseKeyFile(path, text)
  if (faults) throw new UsageFault(faults[0].message, { hint: faults[0].hint })
  await makeRoom(folder)
  await writeNew(path, text)
  await checkTaken(folder, key.id, (read) => read.key !== undefined, `the daemon cannot use ${key.id}`)
  return path
}

/** Readies a keyring for one more key, making its folder where it is missing. @throws {Fault} also where others than its owner may use it */
export async function makeRoom(folder: string): Promise<void> {
  try {
    // The keyring alone is private: a daemon of its own user has to get through /etc/knockturn.
    await mkdir(dirname(folder), { recursive: true })
    await mkdir(folder, { mode: 0o700 }).catch((error) => {
      if (errorCode(error) !== 'EEXIST') throw error
    })
    // With one more than may be, none of them would be read any more.
    if ((await list(folder, MAKE_ONE)).length >= MAX_KEYS)
      throw new Fault(`${folder}: holds ${MAX_KEYS} files, the most that a keyring may have`)
  } catch (error) {
    throw error instanceof Fault ? error : new Fault(`${folder}: cannot be made: ${reason(error)}`)
  }
}

/**
 * Writes `revoked` into a key's file; everything else in it stays as it is, comments too.
 * @param at Unix milliseconds
 * @returns when it was revoked: `at`, or earlier if it had been already
 * @throws {Fault} also where a daemon that reads the file would not take the key for revoked
 */
export async function revokeKey(folder: string, id: string, at: number): Promise<number> {
  await findKey(folder, id)
  const path = keyPath(folder, id)
  let since = at
  await changeText(path, async () => {
    const source = await readText(path, MAX_KEY_FILE, checkSecret)
    const before = parseKeyFile(path, source)
    if (before.faults) throw before.faults[0]
    since = before.value.revoked ?? at
    // In front of everything it is at the top level, whatever tables follow.
    return before.value.revoked === null ? `revoked = ${isoTime(at)}\n${source}` : null
  })
  // A file that has become too long by that is refused by the daemon, and says it all the same.
  const isRevoked = ({ key, faulty }: ReadKey) => (key ? key.revoked !== null : faulty?.revoked === true)
  await checkTaken(folder, id, isRevoked, `the daemon does not see that ${id} is revoked`)
  return since
}

async function list(folder: string, hint: string): Promise<string[]> {
  try {
    checkPrivate(folder, await stat(folder), 0o700)
    const names = await readdir(folder)
    if (names.length > MAX_KEYS) throw new Fault(`${folder}: expected at most ${MAX_KEYS} files, got ${names.length}`)
    return names.sort()
  } catch (error) {
    if (error instanceof Fault) throw error
    const ours = `to make it yours, run as root: "chown -R ${process.geteuid?.()}: ${folder}"`
    const next = errorCode(error) === 'EACCES' ? `run this as its owner or as root; ${ours}` : hint
    throw new Fault(`${folder}: the keyring cannot be read: ${reason(error)}`, { hint: next })
  }
}

function isKeyName(name: string): boolean {
  return name.endsWith(SUFFIX) && !name.startsWith('.')
}
