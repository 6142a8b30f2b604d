import type { Readable } from 'node:stream'
import type { Tap } from '../../gate/tap'
import { lineSplitter } from './lines'
import { logLineReader } from './log-line'
import type { TapSource } from './source'

/** LOG lines on standard input, until it ends. */
export function stdinSource(prefix: string, input: Readable = process.stdin): TapSource {
  const counters = { seen: 0, ignored: 0, unreadable: 0, dropped: null }
  const read = logLineReader(prefix, () => counters.unreadable++)
  return {
    counters,
    async start(hear, ended) {
      const lines = lineSplitter((line) => {
        counters.seen++
        const tap: Tap | null = read(line)
        if (tap) hear(tap)
        else counters.ignored++
      })
      input.setEncoding('latin1')
      input.on('data', lines.push)
      const end = () => {
        lines.end()
        ended()
      }
      input.once('end', end).once('error', end)
    },
    async stop() {
      input.removeAllListeners('data')
      input.destroy()
    },
  }
}
