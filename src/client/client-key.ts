import { close, existsSync, fstat, read, type Stats } from 'node:fs'
import { basename } from 'node:path'
import { promisify } from 'node:util'
import { type KeyFile, MAX_KEY_FILE, parseKeyFile } from '../keys/key-file'
import { clientKeys, findKey, keyPath, loadKeyFile, readKeyring } from '../keys/keyring'
import { KEY_ID } from '../protocol/key'
import { Fault, hintOf, reason, thereAre } from '../system/fault'
import { checkSecret, decodeText, readBytes } from '../system/files'
import { tell } from '../system/tell'
import { isSameName } from './host'

/* The client's side of a key: plain or under a passphrase, from a file, the keyring or a descriptor. */

/** What the name of a key's file has behind it where it is under a passphrase. */
export const SEALED_SUFFIX = '.age'
const SEALED_NAME = `.key${SEALED_SUFFIX}`
/** Longest of either kind, in bytes: the longest key file, and armour around it, which is a third more. */
export const MAX_FILE = 2 * MAX_KEY_FILE
/** What age files begin with, the second behind any white space. */
const SEALED = /^(age-encryption\.org\/|\s*-----BEGIN AGE )/
/** How often a passphrase is asked for on a terminal. */
const TRIES = 3

/*
 * Everywhere below, `typed` says that a passphrase is typed, whatever standard input is; else it is where that is a terminal, and otherwise
 * the first line of it.
 */

const CHOOSE = 'choose one with -k'
const NO_KEY = 'put a key there, from "knockturn key export" on the server, or give its file with -k'

/**
 * The key to knock with; for one under a passphrase, that is asked for.
 * @param options -k: its file, or its name in the client's keyring; --key-fd; neither: the only one in the keyring
 * @throws {Fault} where there is none, or not one alone
 */
export async function chosenKey(options: { key?: string; keyFd?: number }, typed = false): Promise<KeyFile> {
  const { key: name, keyFd } = options
  if (keyFd !== undefined) return readKeyFrom(keyFd, typed)
  // A plain name is a key of the keyring, where no file has it.
  if (name !== undefined && KEY_ID.test(name) && !existsSync(name)) return findClientKey(clientKeys(), name, typed)
  return name !== undefined ? loadClientKey(name, typed) : onlyClientKey(clientKeys(), typed)
}

/**
 * The key for a host: the only one, else that whose host it is, else that which is named so. A passphrase is typed.
 * @param name what somebody has called it
 * @param at another name of it
 * @throws {Fault} where there is none, or not one alone
 */
export async function keyForHost(name: string, at: string): Promise<KeyFile> {
  const folder = clientKeys()
  const { keys, faulty } = await readKeyring(folder, NO_KEY)
  if (keys.length === 1 && faulty.length === 0) return keys[0]
  // Or one under a passphrase.
  if (keys.length + faulty.length === 0) return onlyClientKey(folder, true)
  const hosted = keys.filter(({ host }) => host && [name, at].some((one) => isSameName(one, host)))
  const found = hosted.length > 0 ? hosted : keys.filter(({ id }) => id === name)
  if (found.length === 1) return found[0]
  // A key that can't be read may be the one.
  if (faulty.length > 0) throw faulty[0].faults[0]
  const there = (found.length > 0 ? found : keys).map(({ id }) => id).join(', ')
  if (found.length > 0) throw new Fault(`${folder}: several keys for ${name} (there are: ${there})`, { hint: CHOOSE })
  throw new Fault(`${folder}: no key for ${name} (there are: ${there})`, { hint: CHOOSE })
}

/** A key of the client's keyring by its name, plain or under a passphrase. @throws {Fault} */
export async function findClientKey(folder: string, id: string, typed = false): Promise<KeyFile> {
  const path = keyPath(folder, id)
  if (existsSync(path)) return findKey(folder, id)
  if (orSealed(path) !== path) return loadClientKey(path, typed)
  const hint = `check the spelling of -k: there is no file "${id}" in the current folder either`
  const { keys, ignored } = await readKeyring(folder, hint)
  throw new Fault(`${folder}: no key "${id}" ${thereAre(namesOf(keys, ignored))}`, { hint })
}

/** The only key of the client's keyring. @throws {Fault} where there is none, or not one alone */
export async function onlyClientKey(folder: string, typed = false): Promise<KeyFile> {
  const { keys, faulty, ignored } = await readKeyring(folder, NO_KEY)
  if (faulty.length > 0) throw faulty[0].faults[0]
  const sealed = ignored.filter((path) => path.endsWith(SEALED_NAME))
  if (keys.length + sealed.length === 1) return keys[0] ?? loadClientKey(sealed[0], typed)
  const names = namesOf(keys, ignored)
  if (names === '') throw new Fault(`${folder}: there is no key (the names of key files end in .key)`, { hint: NO_KEY })
  throw new Fault(`${folder}: there are several keys (${names})`, { hint: CHOOSE })
}

/** The names of keys, those under a passphrase too. */
function namesOf(keys: readonly KeyFile[], others: readonly string[]): string {
  const sealed = others.filter((path) => path.endsWith(SEALED_NAME)).map((path) => basename(path, SEALED_NAME))
  return [...keys.map(({ id }) => id), ...sealed].join(', ')
}

/**
 * Reads a key from its file, or where there is none from the one beside it that is under a passphrase. A plain one must be the owner's
 * alone; the other may have any mode, as on a USB stick, whose file system knows none.
 * @throws {Fault}
 */
export async function loadClientKey(named: string, typed = false): Promise<KeyFile> {
  const path = orSealed(named)
  const bytes = await readBytes(path, MAX_FILE)
  return isSealed(bytes) ? unseal(path, bytes, typed) : loadKeyFile(path, checkClientSecret)
}

/**
 * The key that {@link chosenKey} would read, as far as that asks for nothing and fails for nothing: to look at what it says of itself.
 * @returns null where it is under a passphrase, can't be read, or is not one alone
 */
export async function glimpsedKey(name: string | undefined): Promise<KeyFile | null> {
  const isId = name !== undefined && KEY_ID.test(name) && !existsSync(name)
  try {
    if (name !== undefined) return await loadKeyFile(isId ? keyPath(clientKeys(), name) : name, checkClientSecret)
    const { keys, ignored } = await readKeyring(clientKeys(), NO_KEY)
    return keys.length === 1 && !ignored.some((path) => path.endsWith(SEALED_NAME)) ? keys[0] : null
  } catch (error) {
    if (!(error instanceof Fault)) throw error
    return null
  }
}

/**
 * Reads a key, plain or under a passphrase, from an open descriptor, and closes it.
 * @throws {Fault} also when nothing that can be read to its end is open there
 */
export async function readKeyFrom(fd: number, typed = false): Promise<KeyFile> {
  const path = `--key-fd ${fd}`
  // Standard input has been read to its end: there is no passphrase in it.
  return openKey(path, await readOpen(path, fd, `open a key there, as in "${path} ${fd}< alice.key"`), fd === 0 || typed)
}

/**
 * The bytes of a key, plain or under a passphrase, from an open descriptor, which is then closed.
 * @param name of it, in faults
 * @param hint what to do where nothing that can be read to its end is open there
 * @throws {Fault}
 */
export async function readOpen(name: string, fd: number, hint: string): Promise<Uint8Array> {
  const bytes = Buffer.alloc(MAX_FILE + 1)
  let length = 0
  try {
    const stats = await promisify(fstat)(fd)
    // What is open under a number that nobody gave us is Node's own: reading it could wait for ever.
    if (!stats.isFile() && !stats.isFIFO() && !stats.isSocket()) throw new Error('neither a file nor a pipe is open there')
    for (let got = -1; got !== 0 && length < bytes.length; length += got)
      got = (await promisify(read)(fd, bytes, length, bytes.length - length, null)).bytesRead
    // Standard input and the outputs stay, or the next file would take their number.
    if (fd > 2) await promisify(close)(fd)
  } catch (error) {
    throw new Fault(`${name}: cannot be read: ${reason(error)}`, { hint })
  }
  if (length > MAX_FILE) throw new Fault(`${name}: expected at most ${MAX_FILE} bytes, got more`)
  return bytes.subarray(0, length)
}

/** The key that some bytes are, plain or under a passphrase. @param name of them, in faults @throws {Fault} */
export function openKey(name: string, bytes: Uint8Array, typed = false): Promise<KeyFile> | KeyFile {
  return isSealed(bytes) ? unseal(name, bytes, typed) : parse(name, bytes)
}

/** A key's path, with the suffix of a passphrase where only that file is there. */
function orSealed(path: string): string {
  return !existsSync(path) && existsSync(path + SEALED_SUFFIX) ? path + SEALED_SUFFIX : path
}

/** Whether these are the bytes of a key under a passphrase. */
export function isSealed(bytes: Uint8Array): boolean {
  return SEALED.test(Buffer.from(bytes.subarray(0, 256)).toString('latin1'))
}

async function unseal(path: string, bytes: Uint8Array, typed: boolean): Promise<KeyFile> {
  const [{ readSealed }, { askSecret, isTyped }] = await Promise.all([import('../keys/sealed-key'), import('../system/terminal')])
  const open = await readSealed(path, bytes)
  for (let left = typed || isTyped() ? TRIES : 1; left > 0; left--) {
    const text = await open(await askSecret(`passphrase of ${basename(path)}: `, 'the passphrase', typed))
    if (text) return parse(path, text)
    if (left > 1) tell('wrong passphrase, try again\n')
  }
  throw new Fault(`${path}: wrong passphrase`, { hint: 'try again, or export the key again' })
}

/** Reads a key file's bytes, and overwrites them. */
function parse(path: string, bytes: Uint8Array): KeyFile {
  try {
    const { value, faults } = parseKeyFile(path, decodeText(path, bytes))
    if (faults) throw faults[0]
    return value
  } finally {
    bytes.fill(0)
  }
}

function checkClientSecret(path: string, stats: Stats): void {
  try {
    checkSecret(path, stats)
  } catch (error) {
    const other = 'on a USB stick, which knows no modes, use a key exported with --passphrase'
    throw new Fault(reason(error), { hint: [hintOf(error), other].filter(Boolean).join('; ') })
  }
}
