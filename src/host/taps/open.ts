import type { TapsConfig } from '../config'
import { fileSource } from './file'
import { journalSource } from './journal'
import { nflogSource } from './nflog'
import type { TapSource } from './source'
import { stdinSource } from './stdin'

/**
 * The source that the config names, and never another in its place.
 * @param warn told what an administrator should know of it
 */
export function openTaps({ source, file, group, prefix }: TapsConfig, warn: (message: string) => void): TapSource {
  // Only the source "file" has one.
  if (file !== null) return fileSource(file, prefix, warn)
  if (source === 'journal') return journalSource(prefix, warn)
  if (source === 'stdin') return stdinSource(prefix)
  return nflogSource(group, prefix, warn)
}

/** The commands that a source is read with. */
export function tapCommands({ source }: TapsConfig): string[] {
  if (source === 'nflog') return ['setpriv', 'tcpdump']
  return source === 'journal' ? ['setpriv', 'journalctl'] : []
}
