import { chmodSync, existsSync, readdirSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

/** Where Debian's libfaketime is. */
const LIBRARIES = '/usr/lib'

/** Debian's libfaketime, for a command whose monotonic clock stays. */
function fakeTime(): string[] {
  const libraries = readdirSync(LIBRARIES).map((folder) => join(LIBRARIES, folder, 'faketime', 'libfaketime.so.1'))
  const library = libraries.find((path) => existsSync(path))
  if (!library) throw new Error('expected libfaketime, found none: install the Debian package faketime')
  return ['env', `LD_PRELOAD=${library}`, 'FAKETIME_DONT_FAKE_MONOTONIC=1']
}

/**
 * Gives a command another clock (the kernel's stays): this many seconds off, or a moment at which it starts.
 * @param time as faketime(1) takes it
 */
export function clockOf(time: string) {
  return [...fakeTime(), `FAKETIME=${time}`]
}

/** Gives a command a clock that is set while it runs (the kernel's stays): see {@link setClock}. */
export function clockFrom(file: string): string[] {
  return [...fakeTime(), `FAKETIME_TIMESTAMP_FILE=${file}`, 'FAKETIME_NO_CACHE=1']
}

/** Sets a clock of {@link clockFrom} so many seconds off, in one step: it is read at any moment. */
export function setClock(file: string, seconds: number): void {
  writeFileSync(`${file}.new`, `${seconds < 0 ? '-' : '+'}${Math.abs(seconds)}\n`)
  // Whoever's daemon reads it.
  chmodSync(`${file}.new`, 0o644)
  renameSync(`${file}.new`, file)
}
