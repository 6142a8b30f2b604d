import { createInterface } from 'node:readline'

/** Asks for yes or no on the terminal; anything else is no. @returns false where there is none */
export async function isConfirmed(question: string): Promise<boolean> {
  if (!process.stdin.isTTY || !process.stderr.isTTY) return false
  // The terminal's own editing, so that Ctrl-C ends us, and is no answer.
  const asking = createInterface({ input: process.stdin, output: process.stderr, terminal: false })
  const answer = await new Promise<string>((resolve) => {
    asking.question(`${question}\nyes or no [no]: `, resolve)
    asking.once('close', () => resolve(''))
  })
  asking.close()
  return /^y(es)?$/i.test(answer.trim())
}
