import type { Tap } from '../../gate/tap'
import { keepAlive } from './child'
import { lineSplitter } from './lines'
import { logLineReader, MAX_LINE } from './log-line'
import type { TapCounters, TapSource } from './source'

/**
 * Longest entry that is read. journalctl gives no field of more than 4,096 bytes, and writes one that is no text as numbers, up to four
 * characters for each of them.
 */
export const MAX_ENTRY = 32 * 1024
/** journalctl says nothing before the first entry: it hears when it has lived for this many milliseconds. */
const SETTLE = 1_000
/** The id of journald's message that it has missed some of the kernel's (systemd/sd-messages.h), and that message. */
const MISSED_ID = 'e9bf28e6e834481bb6f48f548ad13606'
const MISSED = /^Missed (\d{1,15}) kernel messages$/

/**
 * The kernel's LOG lines in systemd's journal, read by journalctl as a child. Any user may write to the journal, but what an entry's
 * transport was is for journald alone to say. Restarted when it dies.
 * @param warn told when journalctl has died
 */
export function journalSource(prefix: string, warn: (message: string) => void): TapSource {
  const counters = { seen: 0, ignored: 0, unreadable: 0, dropped: 0 }
  let hear: Parameters<TapSource['start']>[0] = () => {}
  const take = journalReader(prefix, counters, (tap) => hear(tap))
  const options = '--system --follow --lines=0 --output=json --output-fields=_TRANSPORT,MESSAGE --quiet --no-pager'
  const wanted = `_TRANSPORT=kernel + _TRANSPORT=driver MESSAGE_ID=${MISSED_ID}`
  const journalctl = keepAlive(
    {
      argv: ['journalctl', ...options.split(' '), ...wanted.split(' ')],
      hears: 'the journal',
      settle: SETTLE,
      // It explains itself before it says what is wrong.
      chatter: /^(Hint: | {6})/,
      plain: true,
      reader() {
        // Half a line at the end of a life is no line, and goes with it.
        const lines = lineSplitter(take, MAX_ENTRY)
        return (chunk) => lines.push(chunk.toString('latin1'))
      },
    },
    warn,
  )
  return {
    counters,
    start(each) {
      hear = each
      return journalctl.start()
    },
    stop: journalctl.stop,
  }
}

/** Makes a reader of entries in journalctl's JSON, one a line, which counts them and hands over the taps. */
export function journalReader(
  prefix: string,
  counters: TapCounters & { dropped: number },
  hear: (tap: Tap) => void,
): (entry: string) => void {
  const readLine = logLineReader(prefix, () => counters.unreadable++)
  return (entry) => {
    const { transport, message } = readEntry(entry)
    const missed = transport === 'driver' ? MISSED.exec(message) : null
    if (missed) {
      counters.dropped += Number(missed[1])
      return
    }
    counters.seen++
    // Nothing stands in front of the prefix here: the journal keeps the stamps of the kernel's lines in fields of their own.
    const tap = transport === 'kernel' && message.startsWith(prefix) ? readLine(message) : null
    if (tap) hear(tap)
    else counters.ignored++
  }
}

/**
 * Of an entry in journalctl's JSON what concerns us; empty where it is none, or is not as journald itself writes it. `at`: when it was written, in
 * Unix milliseconds; null where it does not say.
 */
export function readEntry(text: string): { transport: string; message: string; at: number | null } {
  let entry: { _TRANSPORT?: unknown; MESSAGE?: unknown; __REALTIME_TIMESTAMP?: unknown } | null = null
  try {
    // A line that was cut off is no JSON any more.
    entry = JSON.parse(text)
  } catch {}
  const { _TRANSPORT: transport, MESSAGE: message, __REALTIME_TIMESTAMP: at } = entry ?? {}
  // A field that came more than once is a list of strings: the kernel writes none.
  return {
    transport: typeof transport === 'string' ? transport : '',
    message: readMessage(message),
    at: typeof at === 'string' && /^\d{1,17}$/.test(at) ? Number(at) / 1000 : null,
  }
}

/** A message is a string, or the list of its bytes where it is no plain text. */
function readMessage(message: unknown): string {
  if (typeof message === 'string') return message
  if (!Array.isArray(message) || message.length > MAX_LINE || !message.every(isPrintable)) return ''
  return String.fromCharCode(...message)
}

const isPrintable = (byte: unknown): boolean => typeof byte === 'number' && byte >= 0x20 && byte <= 0x7e
