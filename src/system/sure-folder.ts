import { constants, type Stats } from 'node:fs'
import { type FileHandle, lstat, open, opendir, realpath, rename, unlink } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { errorCode, Fault, reason } from './fault'
import { checkOwned, decodeText, ReadFault, readHead, tooLong } from './files'

const OTHERS = 0o022
const STICKY = 0o1000

/** Whether an owner may tell us what to do: root, or we ourselves. */
const isTrusted = ({ uid }: Stats): boolean => uid === 0 || uid === process.geteuid?.()

/**
 * A folder that root, or we ourselves, alone may write. It is held by its descriptor, and what is in it is reached by that: whatever takes its
 * place or the place of a folder above it meanwhile, this one is meant. Links in it are not followed.
 */
export class SureFolder {
  readonly path: string
  readonly #handle: FileHandle

  private constructor(path: string, handle: FileHandle) {
    this.path = path
    this.#handle = handle
  }

  /**
   * Opens a folder.
   * @returns null where there is none
   * @throws {Fault} where it is a link or no folder, somebody else may write it, or it can't be opened
   */
  static async open(path: string): Promise<SureFolder | null> {
    const flags = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW
    let handle: FileHandle
    try {
      handle = await open(path, flags)
    } catch (error) {
      const code = errorCode(error)
      if (code === 'ENOENT') return null
      if (code === 'ELOOP' || code === 'ENOTDIR')
        throw new Fault(`${path}: expected a folder, and no link`, { hint: 'look who has put it there, and delete it' })
      throw new ReadFault(path, error)
    }
    try {
      const stats = await handle.stat()
      if (!isTrusted(stats))
        throw new Fault(`${path}: expected a folder of root's, got one of user ${stats.uid}`, {
          hint: 'look who has made it, and delete it',
        })
      checkOwned(path, stats)
      return new SureFolder(path, handle)
    } catch (error) {
      await handle.close()
      throw error
    }
  }

  #at(name: string): string {
    return `/proc/self/fd/${this.#handle.fd}/${name}`
  }

  /** Lets everybody look into it, and nobody else write, whatever the umask. */
  async setMode(mode: number): Promise<void> {
    await this.#handle.chmod(mode)
  }

  /** The names in it. @param max names at most @returns null where there are more @throws where it can't be read */
  async names(max: number): Promise<string[] | null> {
    const names: string[] = []
    for await (const { name } of await opendir(this.#at('.'))) if (names.push(name) > max) return null
    return names
  }

  /** When what has a name was last changed, in Unix milliseconds; null: there is nothing. */
  async changed(name: string): Promise<number | null> {
    return lstat(this.#at(name)).then(
      ({ mtimeMs }) => mtimeMs,
      () => null,
    )
  }

  /**
   * Reads a file that root, or we ourselves, alone may write, and that has no other name.
   * @throws {Fault} where it can't be read, is none, or is longer than `max` bytes
   */
  async read(name: string, max: number): Promise<string> {
    const { bytes, stats } = await readHead(this.#at(name), max, constants.O_NOFOLLOW)
    const path = `${this.path}/${name}`
    if (!isTrusted(stats) || stats.nlink > 1) throw new Fault(`${path}: expected a file of root's with no other name`)
    checkOwned(path, stats)
    if (stats.size > max) throw tooLong(path, max, stats.size)
    return decodeText(path, bytes)
  }

  /** Puts a file there in one step, over one that has its name. @throws where it can't be written */
  async place(name: string, text: string, mode: number): Promise<void> {
    const next = `.${name}.new`
    // What a killed run has left, or a link.
    await this.remove(next)
    const file = await open(this.#at(next), 'wx', mode)
    try {
      await file.writeFile(text)
      await file.chmod(mode)
    } catch (error) {
      await this.remove(next)
      throw error
    } finally {
      await file.close()
    }
    await rename(this.#at(next), this.#at(name))
  }

  /** Removes a file or a link, where there is one. */
  async remove(name: string): Promise<void> {
    await unlink(this.#at(name)).catch(() => {})
  }

  async close(): Promise<void> {
    await this.#handle.close()
  }
}

/**
 * Looks whether nobody else can lead us elsewhere by a folder above a path: all of them are root's, or ours, and others can't change what is in
 * them, or only what is their own.
 * @throws {Fault} where somebody can, or that can't be known
 */
export async function checkWay(path: string): Promise<void> {
  const above = dirname(resolve(path))
  const real = await realpath(above).catch((error) => Promise.reject(new Fault(`${above}: cannot be read: ${reason(error)}`)))
  for (const folder of new Set([...ancestors(above), ...ancestors(real)])) {
    const stats = await lstat(folder).catch((error) => Promise.reject(new Fault(`${folder}: cannot be read: ${reason(error)}`)))
    const isFixed = stats.isSymbolicLink() || (stats.mode & OTHERS) === 0 || (stats.mode & STICKY) !== 0
    if (isTrusted(stats) && isFixed) continue
    throw new Fault(`${folder}: expected a folder that root alone may change: whoever else may could lead root elsewhere`, {
      hint: `set [ledger] path so that the folder beside its own can be root's, such as /var/lib/knockturn/ledger`,
    })
  }
}

const ancestors = (path: string): string[] => (path === dirname(path) ? [path] : [path, ...ancestors(dirname(path))])
