import { createInterface } from 'node:readline'
import { Fault } from './fault'

/** Longest secret that is read, in characters: a bound on input, far above what anybody types. */
const MAX_SECRET = 1024
const [ENTER, CTRL_C, CTRL_D, CTRL_U, BACKSPACE] = [/[\r\n]/, '\x03', '\x04', '\x15', /[\b\x7f]/]

/**
 * Asks for a secret: on a terminal without showing it, elsewhere as the next line of standard input.
 * @param prompt is said on standard error, on a terminal only
 * @throws {Fault} where there is none, or no end of it, or the user has had enough
 */
export function askSecret(prompt: string): Promise<string> {
  return process.stdin.isTTY ? typed(prompt) : nextLine()
}

function typed(prompt: string): Promise<string> {
  const { stdin, stderr } = process
  // In this order: what is typed as soon as the prompt is seen must not be shown either.
  stdin.setRawMode(true).setEncoding('utf8').resume()
  stderr.write(prompt)
  return new Promise((resolve, reject) => {
    let secret = ''
    const end = (settle: () => void) => {
      stdin.off('data', read).setRawMode(false).pause()
      stderr.write('\n')
      settle()
    }
    const read = (text: string) => {
      for (const letter of text) {
        if (ENTER.test(letter)) return end(() => resolve(secret))
        if (letter === CTRL_C || letter === CTRL_D)
          return end(() => reject(new Fault('no secret was given: nothing has been done')))
        if (letter === CTRL_U) secret = ''
        else if (BACKSPACE.test(letter)) secret = [...secret].slice(0, -1).join('')
        else if (secret.length < MAX_SECRET) secret += letter
      }
    }
    stdin.on('data', read)
  })
}

async function nextLine(): Promise<string> {
  process.stdin.setEncoding('utf8')
  const lines = createInterface({ input: process.stdin })
  for await (const line of lines) {
    if (line.length > MAX_SECRET) throw new Fault(`standard input: expected a secret of at most ${MAX_SECRET} characters`)
    return line
  }
  throw new Fault('standard input: expected a line with the secret, got nothing')
}
