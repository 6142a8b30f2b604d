import { closeSync, constants, fstatSync, openSync, readSync, type Stats } from 'node:fs'
import { Tail } from 'tail'
import { Fault } from '../../system/fault'
import { lineSplitter } from './lines'

/** Milliseconds between two looks at the name and at what is followed: what no watch sees (NFS, another link) is seen by looking. */
export const LOOK = 20
/** How long a file that has lost its name is followed after its last line, in milliseconds: its writer may keep it for a while. */
export const LINGER = 5_000
/** Bytes before the next one to be read that must be as they were: more than a LOG line, so that a packet's numbers are in them. */
const MARK = 512
/** Most bytes that are caught up with: half a minute of the worst flood, and seconds to read. */
export const MAX_UNREAD = 256 * 1024 * 1024

/** Told of a followed file: each line; that a piece was read; that it was cut; that too much is skipped; why it can't be read, once. */
export interface Ears {
  line(text: string): void
  read(): void
  cut(): void
  skipped(): void
  failed(error: unknown): void
}

/**
 * One file, followed by its inode and not by its name. The package `tail` reads it, by way of our descriptor; but what it has read
 * counts only while what was read before stands in front of it. So no line is spliced from before and after a cut.
 */
export class FollowedFile {
  readonly #fd: number
  readonly #stats: Stats
  readonly #ears: Ears
  #tail: Reader | null = null
  #lines: ReturnType<typeof lineSplitter>
  /** Bytes read, and the last of them. */
  #position: number
  #mark: string
  #hasFailed = false
  #keptUntil = 0

  /** @throws {Error} when it can't be opened; {@link Fault} when it is no file */
  constructor(path: string, atEnd: boolean, ears: Ears) {
    this.#ears = ears
    this.#lines = lineSplitter(ears.line)
    // Not blocking, so that a pipe in the place of a file can't hold us up.
    this.#fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK)
    try {
      this.#stats = fstatSync(this.#fd)
      if (!this.#stats.isFile()) throw new Fault(`${path}: is not a regular file`)
      this.#position = atEnd ? this.#stats.size : 0
      this.#mark = this.#before(this.#position)
    } catch (error) {
      closeSync(this.#fd)
      throw error
    }
    this.keep()
    this.look()
  }

  is({ dev, ino }: Stats): boolean {
    return this.#stats.dev === dev && this.#stats.ino === ino
  }

  keep(): void {
    this.#keptUntil = performance.now() + LINGER
  }

  /** Whether it has had no name and no new line for long enough. */
  isOver(): boolean {
    return performance.now() > this.#keptUntil
  }

  /** Has what was written since read. */
  look(): void {
    // If it was cut, that begins again.
    this.#stands()
    this.#skip()
    try {
      this.#tail ??= this.#read()
    } catch (error) {
      this.#fail(error)
    }
    this.#tail?.watchFileEvent()
  }

  close(): void {
    this.#end()
    closeSync(this.#fd)
  }

  /** A file that has grown by more than a log does (a hole of terabytes costs nothing to make) is taken up again at its end. */
  #skip(): void {
    const { size } = fstatSync(this.#fd)
    if (size - this.#position <= MAX_UNREAD) return
    this.#end()
    this.#lines = lineSplitter(this.#ears.line)
    this.#position = size
    this.#mark = this.#before(size)
    this.#ears.skipped()
  }

  #read(): Reader {
    const tail = new Reader(`/proc/self/fd/${this.#fd}`, this.#position)
    // What it says after it was put aside is none of this file any more; an error without a listener would end the daemon.
    tail.on('line', (chunk) => tail === this.#tail && this.#take(chunk))
    tail.on('error', (error) => tail === this.#tail && this.#fail(error))
    return tail
  }

  #end(): void {
    this.#tail?.unwatch()
    this.#tail = null
  }

  #take(chunk: string): void {
    if (!this.#stands()) return
    this.#position += chunk.length
    this.#mark = (this.#mark + chunk).slice(-MARK)
    this.keep()
    this.#lines.push(chunk)
    this.#ears.read()
  }

  /** Whether what was read last stands in the file still; if it doesn't, the file was cut. */
  #stands(): boolean {
    try {
      if (this.#before(this.#position) === this.#mark) return true
      this.#cut()
    } catch (error) {
      this.#fail(error)
    }
    return false
  }

  /** The last bytes in front of a place, as they are now. */
  #before(position: number): string {
    const bytes = Buffer.alloc(Math.min(MARK, position))
    const read = readSync(this.#fd, bytes, 0, bytes.length, position - bytes.length)
    return bytes.toString('latin1', 0, read)
  }

  /** It was cut, and perhaps filled again: another file in all but the inode. */
  #cut(): void {
    this.#end()
    this.#lines = lineSplitter(this.#ears.line)
    this.#position = 0
    this.#mark = ''
    this.#ears.cut()
  }

  /** The next look tries again, from where it stopped. */
  #fail(error: unknown): void {
    this.#end()
    if (!this.#hasFailed) this.#ears.failed(error)
    this.#hasFailed = true
  }
}

/**
 * The package `tail`, from a given byte on, chunk by chunk. Where its own watch sees growth, it reads from where that watch has looked
 * before, which is not where it has read to: what was written before the first look is skipped. Asked for a change, it does it right.
 */
class Reader extends Tail {
  declare currentCursorPos: number
  declare readonly queue: unknown[]
  declare change: () => void

  constructor(path: string, from: number) {
    // Without a separator it keeps nothing; in latin1 each byte is a character, whatever it is.
    super(path, {
      separator: null,
      encoding: 'latin1',
      useWatchFile: true,
      fsWatchOptions: { interval: LOOK, persistent: false },
    })
    this.currentCursorPos = from
  }

  watchFileEvent(): void {
    // One piece at a time: what is written meanwhile is the next, however much that is.
    if (this.queue.length > 0) return
    try {
      this.change()
    } catch {
      // It has said so, as its error.
    }
  }
}
