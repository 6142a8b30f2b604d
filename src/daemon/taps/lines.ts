import { MAX_LINE } from './log-line'

/**
 * Cuts a stream of text into lines. What is longer than a line may be is cut off, and kept no longer than it takes to find the
 * line's end: a stream without any end of line costs no memory.
 * @param max the longest line that is given whole
 */
export function lineSplitter(take: (line: string) => void, max = MAX_LINE): { push: (chunk: string) => void; end: () => void } {
  let rest = ''
  const keep = (text: string) => text.slice(0, max + 1)
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
