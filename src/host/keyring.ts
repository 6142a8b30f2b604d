import type { Stats } from 'node:fs'
import { mkdir, readdir, stat } from 'node:fs/promises'
import { homedir } from 'node:os'
import { dirname, join } from 'node:path'
import { errorCode, Fault, reason, UsageFault } from './fault'
import { changeText, checkPrivate, checkSecret, readText, writeNew } from './files'
import { formatKeyFile, type KeyFile, MAX_KEY_FILE, parseKeyFile } from './key-file'
import { isoTime } from './time'

/** Most keys of a keyring: a bound on a folder's listing. */
const MAX_KEYS = 100_000
/** Files that are read at a time: some of them while others are parsed, and no more open than need be. */
const READ_AT_ONCE = 16
const SUFFIX = '.key'
/** A key's file while it is changed. */
const CHANGING = `${SUFFIX}.new`
const REVOKED = /^\s*"?revoked"?\s*=/m
/** What may lie in a keyring's folder besides keys (the keyring of a checkout has both). */
const COMPANIONS = ['README.md', '.gitignore']

export const SERVER_KEYS = '/etc/knockturn/keys'

/** The keyring of a client: ~/.config/knockturn/keys, or where XDG_CONFIG_HOME says. */
export function clientKeys(): string {
  return join(process.env.XDG_CONFIG_HOME || join(homedir(), '.config'), 'knockturn', 'keys')
}

/** A key file that is refused; `revoked`: it says so all the same, in a line that can't be read. */
export interface FaultyKey {
  readonly id: string
  readonly fault: Fault
  readonly revoked: boolean
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
export async function readKeyring(folder: string, hint = 'make a key with "knockturn key new"'): Promise<Keyring> {
  const names = await list(folder, hint)
  const keys: KeyFile[] = []
  const faulty: FaultyKey[] = []
  const found = names.filter(isKeyName)
  for (let at = 0; at < found.length; at += READ_AT_ONCE) {
    for (const read of await Promise.all(found.slice(at, at + READ_AT_ONCE).map((name) => readKey(folder, name)))) {
      if (read.key) keys.push(read.key)
      faulty.push(...read.faulty)
    }
  }
  const ignored = names.filter((name) => !isKeyName(name) && !COMPANIONS.includes(name) && !name.endsWith(CHANGING))
  return { keys, faulty, ignored: ignored.map((name) => join(folder, name)) }
}

async function readKey(folder: string, name: string): Promise<{ key?: KeyFile; faulty: FaultyKey[] }> {
  const id = name.slice(0, -SUFFIX.length)
  const path = join(folder, name)
  try {
    const source = await readText(path, MAX_KEY_FILE, checkSecret)
    const { value, faults = [] } = parseKeyFile(path, source)
    if (value?.id === id) return { key: value, faulty: [] }
    if (value) faults.push(new Fault(`${path}: expected the key "${id}", got "${value.id}": rename the file`))
    return { faulty: faults.map((fault) => ({ id, fault, revoked: REVOKED.test(source) })) }
  } catch (error) {
    if (!(error instanceof Fault)) throw error
    // Where only its mode or owner is wrong, a word of revocation in it counts all the same.
    const source = await readText(path, MAX_KEY_FILE).catch(() => '')
    return { faulty: [{ id, fault: error, revoked: REVOKED.test(source) }] }
  }
}

/**
 * Reads a key of a keyring by its id.
 * @throws {Fault} its first fault, or that there is no such key
 */
export async function findKey(folder: string, id: string): Promise<KeyFile> {
  const path = keyPath(folder, id)
  await stat(path).catch((error) => {
    if (errorCode(error) !== 'ENOENT') return
    throw new Fault(`${folder}: expected a key "${id}", and there is none: "knockturn key list" shows what there is`)
  })
  return loadKeyFile(path)
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
  if (faults) throw new UsageFault(faults[0].message)
  try {
    // The keyring alone is private: a daemon of its own user has to get through /etc/knockturn.
    await mkdir(dirname(folder), { recursive: true })
    await mkdir(folder, { mode: 0o700 }).catch((error) => {
      if (errorCode(error) !== 'EEXIST') throw error
    })
    checkPrivate(folder, await stat(folder), 0o700)
  } catch (error) {
    throw error instanceof Fault ? error : new Fault(`${folder}: cannot be made: ${reason(error)}`)
  }
  await writeNew(path, text)
  return path
}

/**
 * Writes `revoked` into a key's file; everything else in it stays as it is, comments too.
 * @param at Unix milliseconds
 * @returns when it was revoked: `at`, or earlier if it had been already
 * @throws {Fault}
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
    const next = errorCode(error) === 'EACCES' ? 'run this as its owner, or as root' : hint
    throw new Fault(`${folder}: the keyring cannot be read: ${reason(error)}: ${next}`)
  }
}

function isKeyName(name: string): boolean {
  return name.endsWith(SUFFIX) && !name.startsWith('.')
}
