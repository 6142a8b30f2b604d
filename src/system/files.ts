import { constants, type Stats } from 'node:fs'
import { access, type FileHandle, lstat, open, realpath, rename, stat, unlink } from 'node:fs/promises'
import { dirname } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { beginAgainAs, CHANGES_NO_USER } from './begin-again'
import { errorCode, Fault, reason } from './fault'

/** What can't be read, so that nobody knows what it says. */
export class ReadFault extends Fault {
  /** Node's code, such as EIO; undefined where there is none. */
  readonly code: string | undefined

  constructor(path: string, error: unknown) {
    const ours = `run this as its owner or as root; or, to make it yours, run as root "chown ${process.geteuid?.()} ${path}"`
    const hint = errorCode(error) === 'EACCES' ? ours : undefined
    super(`${path}: cannot be read: ${reason(error)}`, { hint })
    this.code = errorCode(error)
  }
}

/** Bytes that are read at a time: the whole of nearly every file. */
const CHUNK = 64 * 1024

/**
 * Reads a whole text file, never more than `max` bytes of it and never a device or a pipe.
 * @param judge refuses modes and owners: {@link checkSecret}, {@link checkOwned}, {@link checkOurs}, or nothing
 * @throws {Fault}
 */
export async function readText(path: string, max: number, judge?: (path: string, stats: Stats) => void): Promise<string> {
  const bytes = await readBytes(path, max, judge)
  try {
    return decodeText(path, bytes)
  } finally {
    // It may be a key, and the text alone is used.
    bytes.fill(0)
  }
}

/** Whether there is something at a path. @throws {Fault} where that can't be seen: it may be there */
export async function exists(path: string): Promise<boolean> {
  try {
    await access(path)
    return true
  } catch (error) {
    if (errorCode(error) === 'ENOENT' || errorCode(error) === 'ENOTDIR') return false
    throw new Fault(`${path}: cannot be read: ${reason(error)}`)
  }
}

/** Reads a file of the user's own that nobody else may write, otherwise like {@link readText}; null: there is none. @throws {Fault} */
export async function readOurs(path: string, max: number): Promise<string | null> {
  try {
    await realpath(path)
  } catch (error) {
    if (errorCode(error) === 'ENOENT' || errorCode(error) === 'ENOTDIR') return null
  }
  return readText(path, max, checkOurs)
}

/** The text that a file's bytes are. @throws {Fault} where they are no UTF-8 */
export function decodeText(path: string, bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch {
    throw new Fault(`${path}: is not UTF-8 text`)
  }
}

/** Reads a whole file of any bytes, otherwise like {@link readText}. @throws {Fault} */
export async function readBytes(
  path: string,
  max: number,
  judge: (path: string, stats: Stats) => void = () => {},
): Promise<Uint8Array> {
  const { bytes, stats } = await readHead(path, max)
  judge(path, stats)
  if (stats.size > max) throw tooLong(path, max, stats.size)
  return bytes
}

export const tooLong = (path: string, max: number, size: number): Fault =>
  new Fault(`${path}: expected at most ${max} bytes, got ${size}`)

/**
 * Reads the beginning of a file, whatever its length, mode and owner; never a device or a pipe.
 * @param most bytes at most
 * @param flags more of those of open(2), such as O_NOFOLLOW
 * @throws {ReadFault} where it can't be read
 * @throws {Fault} where it is no file
 */
export async function readHead(path: string, most: number, flags = 0): Promise<{ bytes: Uint8Array; stats: Stats }> {
  const unreadable = (error: unknown) => Promise.reject(new ReadFault(path, error))
  // Not blocking, so that a pipe in the place of a file can't hold us up; it is refused below.
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK | flags).catch(unreadable)
  try {
    const stats = await file.stat().catch(unreadable)
    if (!stats.isFile()) throw new Fault(`${path}: is not a regular file`)
    const chunks: Uint8Array[] = []
    for (let at = 0; at < most; ) {
      const chunk = Buffer.alloc(Math.min(CHUNK, most - at))
      const { bytesRead } = await file.read(chunk, 0, chunk.length, at).catch(unreadable)
      chunks.push(chunk.subarray(0, bytesRead))
      at += bytesRead
      if (bytesRead < chunk.length) break
    }
    return { bytes: chunks.length === 1 ? chunks[0] : Buffer.concat(chunks), stats }
  } finally {
    await file.close()
  }
}

/** @throws {Fault} where others than its owner may use a file or folder, or its owner is neither we nor root */
export function checkPrivate(path: string, stats: Stats, wanted: 0o600 | 0o700): void {
  checkHidden(path, stats, wanted)
  checkOwner(path, stats, `, then "${fixOf(path, wanted)}"`)
}

/** As {@link checkPrivate}, whoever its owner is. @throws {Fault} */
export function checkHidden(path: string, stats: Stats, wanted: 0o600 | 0o700): void {
  const mode = stats.mode & 0o777
  // No modes and owners where there is no uid, as on Windows.
  if (process.geteuid === undefined || (mode & 0o077) === 0) return
  const hint = `run "${fixOf(path, wanted)}"`
  throw new Fault(`${path}: expected mode 0${wanted.toString(8)}, got 0${mode.toString(8)}`, { hint })
}

const fixOf = (path: string, wanted: number): string => `chmod ${wanted.toString(8)} ${path}`

/**
 * @param then what there is to do behind a change of the owner
 * @throws {Fault} where a file or folder is neither ours nor root's
 */
function checkOwner(path: string, { uid: owner }: Stats, then = ''): void {
  const uid = process.geteuid?.()
  if (uid === undefined || owner === uid || owner === 0) return
  // Root is here for somebody else, more likely than not: the daemon's user, or one whose HOME it has kept.
  const ours = `run this as that user or as root; or, to make it yours, run as root "chown ${uid} ${path}"${then}`
  const hint = uid === 0 ? 'run this as that user, with runuser(1), or with setpriv(1) for the daemon' : ours
  throw new Fault(`${path}: expected owner ${uid} (you) or root, got ${owner}`, { hint })
}

/** Refuses a file with a secret that others may read. @throws {Fault} */
export const checkSecret = (path: string, stats: Stats): void => checkPrivate(path, stats, 0o600)

/** @throws {Fault} where anybody but its owner may write a file that tells us what to do */
export function checkOwned(path: string, stats: Stats): void {
  if (process.geteuid === undefined || (stats.mode & 0o022) === 0) return
  const mode = (stats.mode & 0o777).toString(8)
  throw new Fault(`${path}: users other than its owner may write it (mode 0${mode})`, { hint: `run "chmod go-w ${path}"` })
}

/** As {@link checkOwned}, and somebody else's file is refused, too. @throws {Fault} */
function checkOurs(path: string, stats: Stats): void {
  checkOwned(path, stats)
  checkOwner(path, stats)
}

/**
 * Looks whether files may be made in a folder. access(2) asks for the real user, which is root while {@link asOwner} works.
 * @throws where they may not
 */
export async function checkWritable(folder: string): Promise<void> {
  await access(folder, constants.W_OK)
  const uid = process.geteuid?.()
  if (uid === process.getuid?.()) return
  const stats = await stat(folder)
  const bit = stats.uid === uid ? 0o200 : stats.gid === process.getegid?.() ? 0o020 : 0o002
  if ((stats.mode & bit) === 0) throw Object.assign(new Fault(`EACCES: permission denied for user ${uid}`), { code: 'EACCES' })
}

/**
 * Works in a folder as the user who owns it, where root does that for somebody else, such as a daemon that has a user of its own: what
 * is made there is theirs, and no link that they put there leads root astray. Nothing else may go on meanwhile. Where this Node changes its user for
 * nobody, the whole command begins again as theirs, and this never returns.
 */
export async function asOwner<T>(folder: string, work: () => Promise<T>): Promise<T> {
  if (process.geteuid?.() !== 0) return work()
  // A link of theirs may lead to a folder of root's: then they can't work there either.
  const [link, target] = [await lstat(folder).catch(() => null), await stat(folder).catch(() => null)]
  const owner = link && link.uid !== 0 ? link : target
  if (!owner || owner.uid === 0) return work()
  const groups = process.getgroups?.() ?? []
  try {
    process.setgroups?.([owner.gid])
  } catch (error) {
    if (errorCode(error) === CHANGES_NO_USER) return beginAgainAs(owner)
    throw error
  }
  process.setegid?.(owner.gid)
  process.seteuid?.(owner.uid)
  try {
    return await work()
  } finally {
    process.seteuid?.(0)
    process.setegid?.(0)
    process.setgroups?.(groups)
  }
}

/** Refuses a name that {@link writeNew} would refuse, before anybody is asked for anything. @throws {Fault} */
export async function checkFree(path: string): Promise<void> {
  if (await lstat(path).catch(() => null)) throw isThere(path)
  await access(dirname(path), constants.W_OK).catch((error) => {
    throw new Fault(`${path}: cannot be written: ${reason(error)}`)
  })
}

const isThere = (path: string): Fault =>
  new Fault(`${path}: already exists and is not overwritten`, { hint: 'choose another name, or move the old one away' })

/**
 * Writes a new file of mode 0600, whole and durable, or nothing at all; never over an existing one.
 * @throws {Fault}
 */
export async function writeNew(path: string, text: string | Uint8Array): Promise<void> {
  let file: FileHandle
  try {
    file = await open(path, 'wx', 0o600)
  } catch (error) {
    throw errorCode(error) === 'EEXIST' ? isThere(path) : new Fault(`${path}: cannot be written: ${reason(error)}`)
  }
  try {
    await file.writeFile(text)
    await file.sync()
  } catch (error) {
    await unlink(path)
    throw new Fault(`${path}: cannot be written: ${reason(error)}`)
  } finally {
    await file.close()
  }
  await syncFolder(dirname(path))
}

/** A change of a file takes milliseconds, or seconds on a busy disk: after so many milliseconds its process has been killed. */
const UNFINISHED = 10_000
/** Milliseconds between two tries to change a file. */
const PAUSE = 20

/**
 * Changes a file in one step: readers see the old text or the new one, and of two changes at a time the second sees what the first has made.
 * @param change reads the file and gives the new text, or null where nothing is to be changed
 * @param mode of the new file
 * @throws {Fault}
 */
export async function changeText(path: string, change: () => Promise<string | Uint8Array | null>, mode = 0o600): Promise<void> {
  while (!(await tryToChange(path, change, mode)));
  await syncFolder(dirname(path))
}

/** @returns false where another change has taken us for killed, since we were so slow: nothing is changed then */
async function tryToChange(path: string, change: () => Promise<string | Uint8Array | null>, mode: number): Promise<boolean> {
  // The new file is the lock, too: whoever has made it may read and replace the old one.
  const next = `${path}.new`
  const file = await makeAlone(next)
  const isOurs = async () => {
    const [ours, there] = await Promise.all([file.stat(), stat(next).catch(() => null)])
    return there !== null && there.dev === ours.dev && there.ino === ours.ino
  }
  try {
    const text = await change()
    if (text !== null) {
      await file.writeFile(text)
      await file.chmod(mode)
      await file.sync()
    }
    if (!(await isOurs())) return false
    await (text === null ? unlink(next) : rename(next, path))
    return true
  } catch (error) {
    if (await isOurs()) await unlink(next)
    throw error instanceof Fault ? error : new Fault(`${path}: cannot be written: ${reason(error)}`)
  } finally {
    await file.close()
  }
}

async function makeAlone(path: string): Promise<FileHandle> {
  for (;;) {
    try {
      return await open(path, 'wx', 0o600)
    } catch (error) {
      if (errorCode(error) !== 'EEXIST') throw new Fault(`${path}: cannot be written: ${reason(error)}`)
    }
    const age = await stat(path).then(
      ({ mtimeMs }) => Math.abs(Date.now() - mtimeMs),
      () => 0,
    )
    // What a killed run left behind is nobody's.
    if (age > UNFINISHED) await unlink(path).catch(() => {})
    else await sleep(PAUSE)
  }
}

/** Makes a rename or a new name durable. */
export async function syncFolder(path: string): Promise<void> {
  // Folders can't be opened everywhere (Windows); there nothing more can be done.
  const folder = await open(path, constants.O_RDONLY).catch(() => null)
  await folder?.sync().catch(() => {})
  await folder?.close()
}
