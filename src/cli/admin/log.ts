import type { Command } from 'commander'
import { Option } from 'commander'
import type { AuditLine } from '../../admin/log/line'
import { type LogRead, readLog } from '../../admin/log/log'
import { sentenceOf } from '../../admin/log/sentence'
import { KEY_ID_RULE } from '../../protocol/key'
import { parseInstant } from '../../system/calendar'
import { printable, UsageFault } from '../../system/fault'
import { isoTime, parseDuration } from '../../system/time'
import { readId, reading, subcommand } from '../options'
import { paint } from '../paint'
import { EXIT, jsonOption, noteOf } from '../voice'
import { ENDING } from './ending'
import { NAME, print, warn } from './voice'

interface LogOptions {
  readonly key?: string
  /** Unix milliseconds. */
  readonly since?: number
  readonly refused?: boolean
  readonly follow?: boolean
  readonly file?: string
  readonly json?: boolean
}

/** Gives knockturn the command that reads the daemon's log. */
export function addLog(parent: Command): void {
  subcommand(parent, 'log', "read the daemon's log: who opened what, who was refused, and why", 'log --since 1h --refused')
    .addOption(reading('--key <id>', 'only what is about this key', readId, KEY_ID_RULE))
    .addOption(
      reading(
        '--since <time>',
        'only what came since: a duration such as 1h, or a date (default: 1d of the journal, all of a file)',
        (text) => readSince(text, Date.now()),
        'a duration such as 30m or 1d, or a date such as 2026-11-30 or 2026-11-30T12:00Z',
      ),
    )
    .option('--refused', 'only what was refused')
    .option('--follow', 'go on with what comes, until Ctrl-C')
    .addOption(
      new Option(
        '--file <file>',
        'the file that the daemon logs to, or - for standard input (default: the journal, or where no unit logs /var/log/knockdaemon.log)',
      ),
    )
    .addOption(jsonOption("print the daemon's own lines"))
    .action(showLog)
}

/** @param now Unix milliseconds, as what is returned; null for a text that is neither a duration nor a date */
function readSince(text: string, now: number): number | null {
  const seconds = parseDuration(text)
  return seconds === null ? parseInstant(text) : now - seconds * 1000
}

async function showLog({ json, ...request }: LogOptions): Promise<void> {
  if (request.file === '-' && request.follow)
    throw new UsageFault('--follow cannot be used with --file -: standard input is read until it ends')
  // Whoever follows a log ends it so, and nothing has failed.
  if (request.follow) for (const signal of ENDING) process.once(signal, () => process.exit(EXIT.ok))
  const show = (line: AuditLine) => print(json ? line.text : inWords(line))
  tellEnd(await readLog(request, Date.now(), show, warn))
}

function inWords(line: AuditLine): string {
  const { level, at, msg } = line
  const sentence = printable(sentenceOf(line))
  const style = level === 'error' ? 'bad' : msg === 'refused' || level === 'warning' ? 'warn' : null
  return `${isoTime(at)}  ${style ? paint(style, sentence) : sentence}`
}

/** An empty answer is not to be taken for a quiet server. */
function tellEnd({ from, shown, skipped, since }: LogRead): void {
  const when = since === null ? '' : ` (since ${isoTime(since)})`
  if (shown === 0) noteOf(NAME, `${from}: no line that was asked for${when}`)
  if (skipped > 0) noteOf(NAME, `${from}: left out what is no line of the daemon's log: ${skipped} in all`)
}
