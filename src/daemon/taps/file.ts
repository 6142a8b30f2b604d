import { type FSWatcher, realpathSync, statSync, watch } from 'node:fs'
import { basename, dirname } from 'node:path'
import type { Tap } from '../../gate/tap'
import { errorCode, Fault, inOneLine, reason } from '../../system/fault'
import { type Ears, FollowedFile, LINGER, LOOK, MAX_UNREAD } from './followed-file'
import { logLineReader } from './log-line'
import type { TapSource } from './source'

/** Most files that are followed at once, a descriptor each: the one that has the name, and those that had it. */
export const MAX_FILES = 8

/**
 * LOG lines from a file that another program writes, however it is rotated. What is in it at the start is past and is not read;
 * a file that appears later is read from its beginning.
 * @param warn told why the file can't be read, and when it can; and that lines are lost
 */
export function fileSource(path: string, prefix: string, warn: (message: string) => void): TapSource {
  return new FileSource(path, prefix, warn)
}

/** A name, and the files that have it or had it: each is followed to its end, by itself. */
class FileSource implements TapSource {
  readonly counters = { seen: 0, ignored: 0, unreadable: 0, dropped: null }
  readonly #path: string
  readonly #warn: (message: string) => void
  readonly #readLine: (line: string) => Tap | null
  #hear: (tap: Tap) => void = () => {}
  /** The oldest first. */
  readonly #files: FollowedFile[] = []
  readonly #watchers: FSWatcher[] = []
  #timer: NodeJS.Timeout | undefined
  #isDue = false
  /** Until when the name may be without a file that can be read, before something is said. */
  #patience = 0
  #trouble = ''
  #isCutKnown = false

  readonly #ears: Ears = {
    line: (text) => {
      this.counters.seen++
      const tap = this.#readLine(text)
      if (tap) this.#hear(tap)
      else this.counters.ignored++
    },
    read: () => this.#soon(),
    cut: () => {
      if (this.#isCutKnown) return
      this.#isCutKnown = true
      this.#warn(
        `${this.#path}: was truncated while being read; unread lines are lost at every rotation: ` +
          'let logrotate "create" a new file instead of "copytruncate", or set [taps] source = "nflog"',
      )
    },
    skipped: () =>
      this.#warn(`${this.#path}: has more than ${MAX_UNREAD} unread bytes, skipping them: find out what writes so much`),
    failed: (error) => this.#warn(inOneLine(explain(this.#path, error))),
  }

  constructor(path: string, prefix: string, warn: (message: string) => void) {
    this.#path = path
    this.#warn = warn
    this.#readLine = logLineReader(prefix, () => this.counters.unreadable++)
  }

  async start(hear: (tap: Tap) => void): Promise<void> {
    this.#hear = hear
    try {
      this.#find(true)
    } catch (error) {
      if (!isMissing(error)) throw explain(this.#path, error)
      this.#complain(error)
    }
    this.#timer = setInterval(() => this.#look(), LOOK)
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer)
    this.#timer = undefined
    for (const watcher of this.#watchers.splice(0)) watcher.close()
    for (const file of this.#files.splice(0)) file.close()
  }

  #soon(): void {
    if (!this.#isDue) setImmediate(() => this.#look())
    this.#isDue = true
  }

  #look(): void {
    this.#isDue = false
    if (!this.#timer) return
    try {
      this.#find(false)
    } catch (error) {
      // Each rotation passes through this; and who writes a file that was deleted may go on.
      this.#files.at(-1)?.keep()
      if (performance.now() > this.#patience) this.#complain(error)
    }
    for (const file of this.#files) file.look()
    for (const file of this.#files.filter((file) => file.isOver())) {
      file.close()
      this.#files.splice(this.#files.indexOf(file), 1)
    }
  }

  /** Follows what has the name now. */
  #find(atEnd: boolean): void {
    const stats = statSync(this.#path)
    const known = this.#files.find((file) => file.is(stats))
    if (known) known.keep()
    else {
      this.#files.push(new FollowedFile(this.#path, atEnd, this.#ears))
      if (this.#files.length > MAX_FILES) this.#files.shift()?.close()
      this.#watchFolders()
    }
    if (this.#trouble) this.#warn(`${this.#path}: is being read now`)
    this.#trouble = ''
    this.#patience = performance.now() + LINGER
  }

  #complain(error: unknown): void {
    const message = inOneLine(explain(this.#path, error))
    if (message !== this.#trouble) this.#warn(message)
    this.#trouble = message
  }

  /** Has a look at each change in the folders of the name and of the file, which a link may have elsewhere. */
  #watchFolders(): void {
    for (const watcher of this.#watchers.splice(0)) watcher.close()
    try {
      for (const name of new Set([this.#path, realpathSync(this.#path)])) {
        const watcher = watch(dirname(name), { persistent: false }, (_, changed) => {
          if (changed === basename(name)) this.#soon()
        })
        this.#watchers.push(watcher.on('error', () => {}))
      }
    } catch {
      // What can't be watched is looked at all the same, only later.
    }
  }
}

const isMissing = (error: unknown): boolean => ['ENOENT', 'ENOTDIR'].includes(errorCode(error) ?? '')

function explain(path: string, error: unknown): Fault {
  if (error instanceof Fault) return error
  if (isMissing(error))
    return new Fault(`${path}: does not exist yet, waiting for it`, { hint: 'let the log daemon write it, or fix [taps] file' })
  return new Fault(`${path}: cannot be read: ${reason(error)}`, {
    hint: 'let the daemon\'s user read it, or set [taps] source = "nflog"',
  })
}
