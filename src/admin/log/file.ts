import { createReadStream, statSync } from 'node:fs'
import { stat } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { FollowedFile } from '../../daemon/taps/followed-file'
import { lineSplitter } from '../../daemon/taps/lines'
import { Fault, reason } from '../../system/fault'
import { checkOwned } from '../../system/files'
import { MAX_LINE } from './line'

/** Milliseconds between two looks at a file that is followed. */
const LOOK = 250
/** Most files that are followed at once: the one that has the name, and those that had it before. */
const MAX_FILES = 4

/**
 * Reads the lines of the file that a daemon logs to.
 * @param path of the file; `-`: standard input
 * @param isFollowed whether to go on with what comes, however the file is rotated: then this never resolves
 * @param take told each line
 * @param warn told when others may write the file, so that its lines prove nothing, and when lines may be lost
 * @throws {Fault} where it can't be read
 */
export async function readLogFile(
  path: string,
  isFollowed: boolean,
  take: (text: string) => void,
  warn: (message: string) => void,
): Promise<void> {
  if (path === '-') return readStream(process.stdin, take)
  const stats = await stat(path).catch((error) => {
    throw new Fault(`${path}: cannot be read: ${reason(error)}`, { hint: 'name the file that the daemon logs to with --file' })
  })
  if (!stats.isFile()) throw new Fault(`${path}: is not a regular file`)
  try {
    checkOwned(path, stats)
  } catch (error) {
    warn(`${reason(error)}: its lines prove nothing`)
  }
  await (isFollowed ? follow(path, take, warn) : readStream(createReadStream(path), take)).catch((error) => {
    if (error instanceof Fault) throw error
    throw new Fault(`${path}: cannot be read: ${reason(error)}`, { hint: 'run this as root' })
  })
}

async function readStream(input: NodeJS.ReadableStream, take: (text: string) => void): Promise<void> {
  const lines = lineSplitter(take, MAX_LINE)
  for await (const chunk of input.setEncoding('utf8')) lines.push(chunk as string)
  lines.end()
}

/** A name, and the files that have it or had it: each is followed by its inode. */
async function follow(path: string, take: (text: string) => void, warn: (message: string) => void): Promise<never> {
  const files: FollowedFile[] = []
  const ears = {
    // It gives each byte as a character.
    line: (text: string) => take(Buffer.from(text, 'latin1').toString('utf8')),
    read: () => {},
    cut: () => warn(`${path}: was truncated while being read: lines may be missing here`),
    skipped: () => warn(`${path}: has grown too much to be read: lines are missing here`),
    failed: (error: unknown) => warn(`${path}: cannot be read: ${reason(error)}`),
  }
  for (;;) {
    // While it is rotated there is none for a moment.
    const stats = statSync(path, { throwIfNoEntry: false })
    const known = stats && files.find((file) => file.is(stats))
    if (stats && !known) files.push(new FollowedFile(path, false, ears))
    known?.keep()
    for (const file of files) file.look()
    for (const file of files.filter((file, i) => file.isOver() || i < files.length - MAX_FILES)) {
      file.close()
      files.splice(files.indexOf(file), 1)
    }
    await sleep(LOOK)
  }
}
