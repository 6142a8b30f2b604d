import { constants, type Stats } from 'node:fs'
import { type FileHandle, open, rename, stat, statfs, unlink } from 'node:fs/promises'
import { dirname } from 'node:path'
import { errorCode, Fault, reason } from '../../system/fault'
import { checkPrivate, syncFolder } from '../../system/files'
import { hold } from './lock'

/* The file of a ledger: one that only its owner may use, that one daemon holds, and that another takes the place of when it is written anew. */

/**
 * Largest ledger that is read. It is written anew when it has grown by a mebibyte, and what it must remember of one key is bounded: it takes hundreds of keys (with
 * the largest skew, dozens) whose holders fill it together to make it this large.
 */
export const MAX_LEDGER = 256 * 1024 * 1024
/** File systems in memory, by their numbers (statfs(2)). */
const TMPFS_MAGIC = 0x01021994
const RAMFS_MAGIC = 0x858458f6

/** A ledger of more than MAX_LEDGER bytes. */
export function tooLarge(path: string, size: number): Fault {
  const hint = 'revoke the keys that filled it, delete it, and start the daemon without --new-ledger'
  return new Fault(`${path}: expected a ledger of at most ${MAX_LEDGER} bytes, got ${size}`, { hint })
}

/** A ledger's file that is held, with what it holds. */
interface HeldFile {
  readonly file: FileHandle
  readonly bytes: Buffer
  /** It was not there before. One that was there and is empty has been emptied: that is damage. */
  readonly isNew: boolean
}

/**
 * Opens the file behind the path, holds it and reads it; where it was replaced in between, once more.
 * @param isToMake whether it is made where it is missing
 * @throws {Fault} when it can't be read, others may read it, or another daemon holds it
 */
export async function openHeld(path: string, isToMake: boolean): Promise<HeldFile> {
  for (;;) {
    const { file, isNew } = isToMake ? await openOrMake(path) : { file: await openThere(path), isNew: false }
    if (await holdIfSame(path, file).catch(closing(file)))
      return { file, isNew, bytes: await readWhole(path, file).catch(closing(file)) }
    await file.close()
  }
}

/**
 * Puts a new file with these bytes in the place of a ledger's, held before it has the name; whole and durable, or not at all.
 * @returns the new one; the old one is still open
 * @throws {Error} where it can't be
 */
export async function replaceHeld(path: string, bytes: Buffer): Promise<FileHandle> {
  const next = `${path}.new`
  await unlink(next).catch(() => {})
  const file = await open(next, 'wx+', 0o600)
  try {
    await writeAll(file, bytes, 0)
    await file.sync()
    await hold(next, file)
    await rename(next, path)
    await syncFolder(dirname(path))
    return file
  } catch (error) {
    await file.close()
    await unlink(next).catch(() => {})
    throw error
  }
}

/** Writes all of the bytes at a place of a file. @throws {Error} where the disk takes no more */
export async function writeAll(file: FileHandle, bytes: Buffer, position: number): Promise<void> {
  for (let at = 0; at < bytes.length; ) at += (await file.write(bytes, at, bytes.length - at, position + at)).bytesWritten
}

/** Whether a file lies in memory, and is lost with the machine's power. */
export async function isVolatile(path: string): Promise<boolean> {
  const { type } = await statfs(path)
  return type === TMPFS_MAGIC || type === RAMFS_MAGIC
}

/** Holds a file that is as a ledger has to be. @returns whether it still is the one behind the path */
async function holdIfSame(path: string, file: FileHandle): Promise<boolean> {
  const stats = await file.stat()
  if (!stats.isFile()) throw new Fault(`${path}: is not a regular file`)
  // Compaction puts another file in its place, and the other name would keep the old one.
  if (stats.nlink > 1) throw new Fault(`${path}: has ${stats.nlink} hard links`, { hint: 'give the ledger a file of its own' })
  checkPrivate(path, stats, 0o600)
  await hold(path, file)
  return sameFile(stats, await stat(path).catch(() => null))
}

async function readWhole(path: string, file: FileHandle): Promise<Buffer> {
  const { size } = await file.stat()
  if (size > MAX_LEDGER) throw tooLarge(path, size)
  const bytes = Buffer.alloc(size)
  await file.read(bytes, 0, size, 0).catch((cause) => Promise.reject(cannotOpen(path, cause)))
  return bytes
}

/** Closes a file that is of no use, and goes on failing: from Node 25 on, one that is forgotten open ends the process some day. */
const closing =
  (file: FileHandle) =>
  async (error: unknown): Promise<never> => {
    await file.close()
    throw error
  }

const FLAGS = constants.O_RDWR | constants.O_NONBLOCK

async function openOrMake(path: string): Promise<{ file: FileHandle; isNew: boolean }> {
  try {
    return { file: await open(path, FLAGS | constants.O_CREAT | constants.O_EXCL, 0o600), isNew: true }
  } catch (error) {
    if (errorCode(error) !== 'EEXIST') throw cannotOpen(path, error)
  }
  return { file: await openThere(path), isNew: false }
}

async function openThere(path: string): Promise<FileHandle> {
  // On a disk that is read-only for now, what is spent can be read at least; it is written again when that is over.
  const readOnly = (error: unknown) =>
    errorCode(error) === 'EROFS' ? open(path, constants.O_RDONLY | constants.O_NONBLOCK) : Promise.reject(error)
  return open(path, FLAGS)
    .catch(readOnly)
    .catch((cause) => Promise.reject(cannotOpen(path, cause)))
}

/** A ledger that can't be opened, with what to do. */
export function cannotOpen(path: string, error: unknown): Fault {
  return new Fault(`${path}: the ledger cannot be opened: ${reason(error)}`, { hint: ledgerRemedy(path, error) })
}

/** What to do where a ledger can't be opened or made. */
export function ledgerRemedy(path: string, error: unknown): string {
  const folder = dirname(path)
  // Root is here to look only, before there is anything that would tell who the daemon's user is.
  const user = process.geteuid?.() || 'knockturn'
  if (errorCode(error) === 'ENOENT') return `create its folder: as root, run "install -d -m 700 -o ${user} ${folder}"`
  if (errorCode(error) === 'EACCES') return `give it to the daemon's user: as root, run "chown -R ${user}: ${folder}"`
  return 'set [ledger] path to a file that the daemon may write'
}

const sameFile = (a: Stats, b: Stats | null): boolean => a.ino === b?.ino && a.dev === b.dev
