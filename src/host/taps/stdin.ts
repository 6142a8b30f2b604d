import type { Readable } from 'node:stream'
import type { Tap } from '../../gate/listener'
import { logLineReader, MAX_LINE } from './log-line'
import type { TapSource } from './source'

/** LOG lines on standard input, until it ends. */
export function stdinSource(prefix: string, input: Readable = process.stdin): TapSource {
  const read = logLineReader(prefix)
  const counters = { seen: 0, ignored: 0 }
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

/**
 * Cuts a stream of text into lines. What is longer than a line may be is cut off, and kept no longer than it takes to find the
 * line's end: a stream without any end of line costs no memory.
 */
export function lineSplitter(take: (line: string) => void): { push: (chunk: string) => void; end: () => void } {
  let rest = ''
  const keep = (text: string) => text.slice(0, MAX_LINE + 1)
  return {
    push(chunk) {
      const lines = chunk.split('\n')
      lines[0] = rest + lines[0]
      rest = keep(lines.pop() as string)
      for (const line of lines) take(keep(line))
    },
    end() {
      if (rest) take(rest)
      rest = ''
    },
  }
}
