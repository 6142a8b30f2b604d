import pino, { type Logger } from 'pino'
import { printable } from '../system/fault'

/** The daemon's log, on standard error: a line of JSON each, which is safe to show. @param level the least that is said */
export function openLog(level: string): Logger {
  const destination = pino.destination({ fd: 2, sync: true })
  // A log that can't be written (a full disk) must not shut doors; what was to be said is lost.
  destination.on('error', () => {})
  return pino(
    {
      level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      hooks: { streamWrite: (line) => `${printable(line.trimEnd())}\n` },
    },
    destination,
  )
}
