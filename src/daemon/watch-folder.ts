import { type FSWatcher, type Stats, statSync, watch } from 'node:fs'
import { reason } from '../system/fault'

/** Changes in a folder come in bursts; they are taken together after this many milliseconds. */
const WATCH_DELAY = 30
/** Milliseconds between two looks at the folder itself, unless it is told otherwise. */
const LOOK = 1_000

/**
 * Files that are added or taken away are seen at once. What no watch sees (another folder in the place of this one, one that is not there yet,
 * a filesystem that can't be watched) is seen by looking, but for what is changed in its place.
 * @param every milliseconds between two looks
 * @returns tells whether there is a watch
 */
export function watchFolder(folder: string, changed: () => void, warn: (message: string) => void, every = LOOK): () => boolean {
  let isDue = false
  const tell = () => {
    isDue = false
    changed()
  }
  const soon = () => {
    // Not put off by what comes meanwhile: a folder that never rests must not keep a revocation waiting.
    if (!isDue) setTimeout(tell, WATCH_DELAY).unref()
    isDue = true
  }
  const observe = () => {
    try {
      const watching = watch(folder, { persistent: false }, soon)
      return watching.on('error', (error) => {
        warn(`${folder}: is no longer watched: ${reason(error)}`)
        if (watcher === watching) watcher = undefined
        soon()
      })
    } catch (error) {
      warn(`${folder}: cannot be watched: ${reason(error)}`)
      return undefined
    }
  }
  const look = () => {
    try {
      return statSync(folder)
    } catch {
      // Out of reach for a while, perhaps: what was read before holds.
      return undefined
    }
  }
  let watcher: FSWatcher | undefined
  watcher = observe()
  let before = look()
  setInterval(() => {
    const after = look()
    const isAnother = !isSameFolder(after, before)
    if (after && isAnother) {
      watcher?.close()
      watcher = observe()
    }
    // The time of any change: of its mode, too.
    if (isAnother || after?.ctimeMs !== before?.ctimeMs) soon()
    before = after
  }, every).unref()
  return () => watcher !== undefined
}

/** By its birth, too: a new folder may get the number of one that was deleted. */
const isSameFolder = (a: Stats | undefined, b: Stats | undefined): boolean =>
  a?.dev === b?.dev && a?.ino === b?.ino && a?.birthtimeMs === b?.birthtimeMs
