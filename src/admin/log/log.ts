import { UNIT } from '../../daemon/command/network'
import { run } from '../../system/commands'
import { LOG } from '../setup/places'
import { readLogFile } from './file'
import { readJournal } from './journal'
import { type AuditLine, isWanted, readAuditLine, type Wanted } from './line'

/** How far back the journal is read where nobody says it, in milliseconds: it may have years. */
const DAY = 24 * 3_600_000

/** Where the log is read, and what of it. */
export interface LogRequest extends Wanted {
  /** The file that the daemon logs to; `-`: standard input; undefined: the journal where a unit logs, else the usual file. */
  readonly file?: string | undefined
  /** Whether to go on with what comes. */
  readonly follow?: boolean | undefined
}

/** What has been read of a log. */
export interface LogRead {
  /** Where it was read: a path, or the unit's name for the journal. */
  readonly from: string
  /** Lines that were handed over. */
  readonly shown: number
  /** Lines that are none of the daemon's log: plain text, what was cut off, entries of the journal that somebody else has written. */
  readonly skipped: number
  /** From when on it was read, in Unix milliseconds; null: from its beginning. */
  readonly since: number | null
}

/**
 * Reads the daemon's log.
 * @param now Unix milliseconds
 * @param take told each line that is asked for
 * @param warn told what takes away from what the lines prove
 * @returns what has been read; never, where the log is followed, unless its source ends
 * @throws {Fault} where it can't be read
 */
export async function readLog(
  request: LogRequest,
  now: number,
  take: (line: AuditLine) => void,
  warn: (message: string) => void,
): Promise<LogRead> {
  const file = request.file ?? ((await hasUnit()) ? undefined : LOG)
  const since = request.since ?? (file === undefined ? now - DAY : undefined)
  let shown = 0
  let skipped = 0
  const each = (text: string | null) => {
    if (text === '') return
    const line = text === null ? null : readAuditLine(text)
    if (!line) skipped++
    else if (isWanted(line, { ...request, since })) {
      shown++
      take(line)
    }
  }
  if (file === undefined) await readJournal(since, request.follow ?? false, each)
  else await readLogFile(file, request.follow ?? false, each, warn)
  return { from: file ?? UNIT, shown, skipped, since: since ?? null }
}

/** Whether systemd knows the daemon's unit; where there is no systemd, it does not. */
async function hasUnit(): Promise<boolean> {
  const state = await run('systemctl', ['show', '--property=LoadState', UNIT]).catch(() => '')
  return state.trim() === 'LoadState=loaded'
}
