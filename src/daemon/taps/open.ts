import type { TapsConfig } from '../config'
import { fileSource } from './file'
import { journalSource } from './journal'
import { nflogSource } from './nflog'
import type { TapSource } from './source'
import { stdinSource } from './stdin'

/**
 * The source that the config names, and never another in its place.
 * @param warn told what an administrator should know of it
 * @param datagrams ports of datagram knocks: only NFLOG carries what is in a packet
 */
export function openTaps(
  { source, file, group, prefix }: TapsConfig,
  warn: (message: string) => void,
  datagrams: readonly number[] = [],
): TapSource {
  // Only the source "file" has one.
  if (file !== null) return fileSource(file, prefix, warn)
  if (source === 'journal') return journalSource(prefix, warn)
  if (source === 'stdin') return stdinSource(prefix)
  return nflogSource(group, prefix, warn, datagrams)
}

/** The commands that a source is read with. */
export function tapCommands({ source }: TapsConfig): string[] {
  if (source === 'nflog') return ['setpriv', 'tcpdump']
  return source === 'journal' ? ['setpriv', 'journalctl'] : []
}
