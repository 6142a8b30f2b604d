import { once } from 'node:events'
import { createInterface } from 'node:readline'

/** Whether there is somebody to ask: standard input and where the question is shown are terminals. */
export const canAsk = (output: { readonly isTTY?: boolean }): boolean => process.stdin.isTTY === true && output.isTTY === true

/**
 * Asks for a line on standard input, which is a terminal: with its own editing, so that Ctrl-C ends us, as ever.
 * @param output where the question is shown
 * @returns what was typed, without blanks around it; null: the input has ended
 */
export async function askLine(question: string, output: NodeJS.WritableStream): Promise<string | null> {
  output.write(question)
  const reader = createInterface({ input: process.stdin, terminal: false })
  try {
    const ending = new AbortController()
    const typed = once(reader, 'line', { signal: ending.signal }).then(([text]) => String(text).trim())
    const closed = once(reader, 'close', { signal: ending.signal }).then(() => null)
    const answer = await Promise.race([typed, closed])
    ending.abort()
    await Promise.allSettled([typed, closed])
    return answer
  } finally {
    reader.close()
  }
}
