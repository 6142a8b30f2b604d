import { fstatSync, openSync, read, writeSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { isatty, ReadStream } from 'node:tty'
import { promisify } from 'node:util'
import { errorCode, Fault, printable, reason } from './fault'

/** Longest secret in bytes, typed or piped: nobody types more, and what feeds us without end is no secret. */
const MAX_SECRET = 1024
/** Milliseconds until standard input is looked at again that had nothing to say. */
const PAUSE = 20
/** What the keys send that are no text (ECMA-48, and the control characters of a terminal's line discipline). */
const KEY = {
  interrupt: 0x03,
  end: 0x04,
  backspace: 0x08,
  newLine: 0x0a,
  enter: 0x0d,
  clear: 0x15,
  escape: 0x1b,
  quit: 0x1c,
  delete: 0x7f,
}

/** Signals that end us, and at which Node leaves the terminal as it is. (It ignores SIGPIPE.) */
const DEADLY = ['SIGHUP', 'SIGQUIT'] as const

/** Whether secrets are typed: standard input is a terminal, or a device such as /dev/null that has none to give. */
export function isTyped(): boolean {
  return isatty(0) || fstatSync(0).isCharacterDevice()
}

/**
 * Asks for a secret: on the terminal, without echo; where standard input is a pipe or a file, its next line is the secret.
 * @param prompt is shown on the terminal, and never on standard output
 * @param what names it in faults
 * @param typed whether it is typed on the terminal, whatever standard input is
 * @returns what was typed, without its line end; it may be empty
 * @throws {Fault} when there is neither, or it is too long, or no UTF-8
 */
export async function askSecret(prompt: string, what: string, typed = false): Promise<string> {
  const secret = Buffer.alloc(MAX_SECRET)
  try {
    const length = typed || isTyped() ? await type(prompt, what, secret, typed) : await readLine(what, secret)
    return new TextDecoder('utf-8', { fatal: true }).decode(secret.subarray(0, length))
  } catch (error) {
    throw error instanceof TypeError ? new Fault(`${what}: is not UTF-8 text`) : error
  } finally {
    // The string lives on until it is collected; this at least does not.
    secret.fill(0)
  }
}

/** Says a secret where it would be typed and is not logged. @param what names it in faults @throws {Fault} when there is no terminal */
export function sayOnTerminal(what: string, text: string): void {
  const { write, close } = openTerminal(what, true)
  write(text)
  close()
}

interface Terminal {
  /** Keys that are pressed. */
  readonly keys: ReadStream
  write(text: string): void
  close(): void
}

/**
 * The terminal that we were started from, whatever standard input and output are; where the system has no name for it, standard input.
 * @param alone whether nothing else would do
 */
function openTerminal(what: string, alone = false): Terminal {
  try {
    const fd = openSync('/dev/tty', 'r+')
    const keys = new ReadStream(fd)
    // The stream closes the descriptor with itself.
    return { keys, write: (text) => writeSync(fd, text), close: () => keys.destroy() }
  } catch (error) {
    const keys = process.stdin
    if (keys.isTTY) return { keys, write: (text) => process.stderr.write(text), close: () => keys.pause() }
    const code = errorCode(error) ?? reason(error)
    const why = code === 'ENXIO' ? '' : ` (${code})`
    const hint = alone ? 'run this in a terminal' : 'run this in a terminal, or give it as a line on standard input'
    throw new Fault(`${what} cannot be asked for: there is no terminal${why}`, { hint })
  }
}

/** Fills `secret` with what is typed. @returns its length */
async function type(prompt: string, what: string, secret: Buffer, alone: boolean): Promise<number> {
  const { keys, write, close } = openTerminal(what, alone)
  // At SIGINT and SIGTERM Node puts the terminal right; what else would end us, here: a shell without echo is left behind otherwise.
  const endAt = (signal: NodeJS.Signals) => {
    keys.setRawMode(false)
    process.kill(process.pid, signal)
  }
  for (const signal of DEADLY) process.once(signal, endAt)
  keys.setRawMode(true)
  write(printable(prompt))
  try {
    return await new Promise((resolve, reject) => {
      let length = 0
      const take = (chunk: Buffer) => {
        for (const key of chunk) {
          if (key === KEY.enter || key === KEY.newLine || (key === KEY.end && length > 0)) return resolve(length)
          if (key === KEY.end) return reject(noneGiven(what))
          // Default for the signal: the process ends, and Node puts the terminal right.
          if (key === KEY.interrupt) return process.kill(process.pid, 'SIGINT')
          if (key === KEY.quit) return process.kill(process.pid, 'SIGQUIT')
          // An arrow, or another key that sends several bytes at once.
          if (key === KEY.escape) break
          if (key === KEY.clear) length = 0
          else if (key === KEY.backspace || key === KEY.delete) length = withoutLast(secret, length)
          else if (key >= 0x20) {
            if (length === MAX_SECRET) return reject(tooLong(what))
            secret[length++] = key
          }
        }
      }
      keys.once('error', (error) => reject(new Fault(`${what}: the terminal cannot be read: ${reason(error)}`)))
      keys.once('end', () => reject(new Fault(`${what}: the terminal is gone`)))
      keys.on('data', (chunk: Buffer) => {
        take(chunk)
        chunk.fill(0)
      })
    })
  } finally {
    for (const signal of DEADLY) process.removeListener(signal, endAt)
    keys.removeAllListeners('data')
    keys.setRawMode(false)
    write('\n')
    close()
  }
}

/** The length without the last character, which may be of several bytes. */
function withoutLast(text: Buffer, length: number): number {
  let end = Math.max(length - 1, 0)
  while (end > 0 && (text[end] & 0xc0) === 0x80) end--
  return end
}

/** Fills `secret` with the next line of standard input, and reads no further: another line may be another secret. @returns its length */
async function readLine(what: string, secret: Buffer): Promise<number> {
  const byte = Buffer.alloc(1)
  let length = 0
  for (;;) {
    const bytesRead = await readByte(what, byte)
    if (bytesRead === null) {
      await sleep(PAUSE)
      continue
    }
    if (bytesRead === 0 && length === 0) throw noneGiven(what)
    if (bytesRead === 0 || byte[0] === KEY.newLine) break
    if (length === MAX_SECRET) throw tooLong(what)
    secret[length++] = byte[0]
  }
  byte.fill(0)
  return secret[length - 1] === KEY.enter ? length - 1 : length
}

/** @returns 1, 0 at the end, or null where there is nothing yet: a library that looks at process.stdin has made reading it not wait */
async function readByte(what: string, byte: Buffer): Promise<number | null> {
  try {
    return (await promisify(read)(0, byte, 0, 1, null)).bytesRead
  } catch (error) {
    if (errorCode(error) === 'EAGAIN') return null
    throw new Fault(`${what}: standard input cannot be read: ${reason(error)}`)
  }
}

const noneGiven = (what: string): Fault => new Fault(`${what}: nothing was entered`)

function tooLong(what: string): Fault {
  return new Fault(`${what}: expected at most ${MAX_SECRET} bytes, got more`)
}
