import { UNIT } from '../../daemon/command/network'
import { lineSplitter } from '../../daemon/taps/lines'
import { CommandFault, stream } from '../../system/commands'
import { Fault, reason } from '../../system/fault'
import { MAX_LINE } from './line'

/** Longest entry that is read: a line, each character of which may be written as six, and the fields that journalctl adds to it. */
const MAX_ENTRY = 6 * MAX_LINE + 4_096

/**
 * Reads the daemon's lines from systemd's journal. Any user may write to it whatever they like, under any name. Whose unit an entry came from is for
 * journald alone to say, in the fields that begin with an underscore: only the unit's own entries are asked for, and what comes is looked at once more.
 * @param since Unix milliseconds; undefined: all that there is
 * @param isFollowed whether to go on with what comes: then this resolves only when journalctl ends
 * @param take told the text of each entry; null for one that is not the daemon's, or has no text
 * @throws {Fault} where the journal can't be read
 */
export async function readJournal(
  since: number | undefined,
  isFollowed: boolean,
  take: (text: string | null) => void,
): Promise<void> {
  const options = '--system --quiet --no-pager --all --output=json --output-fields=_SYSTEMD_UNIT,_TRANSPORT,MESSAGE'
  const args = [
    ...options.split(' '),
    ...(since === undefined ? [] : [`--since=@${Math.floor(since / 1000)}`]),
    ...(isFollowed ? ['--follow', '--no-tail'] : []),
    `_SYSTEMD_UNIT=${UNIT}`,
  ]
  const lines = lineSplitter((entry) => take(readEntry(entry)), MAX_ENTRY)
  try {
    // A year of a busy server takes longer than a command usually may, and to follow has no end.
    await stream('journalctl', args, lines.push, 0)
  } catch (error) {
    if (!(error instanceof CommandFault)) throw error
    const hint = 'run this as root, or name the file that the daemon logs to with --file'
    throw new Fault(`the journal cannot be read: ${reason(error)}`, { hint })
  }
  lines.end()
}

/**
 * The text of an entry in journalctl's JSON.
 * @returns null where journald does not say that the daemon's unit has written it, to its standard error; or where it is no text
 */
export function readEntry(text: string): string | null {
  let entry: { _SYSTEMD_UNIT?: unknown; _TRANSPORT?: unknown; MESSAGE?: unknown } | null = null
  try {
    // A line that was cut off is no JSON any more.
    entry = JSON.parse(text)
  } catch {}
  const { _SYSTEMD_UNIT: unit, _TRANSPORT: transport, MESSAGE: message } = entry ?? {}
  // What came more than once is a list; who runs below the daemon, such as a user's own program, may log, too, but not by this way.
  return unit === UNIT && transport === 'stdout' && typeof message === 'string' ? message : null
}
