import { access, constants } from 'node:fs/promises'
import { isAbsolute } from 'node:path'
import { spawn } from '../../system/child-process'
import { commandPath, findCommand } from '../../system/commands'
import { Fault, printable, reason } from '../../system/fault'
import type { Words } from './words'

/** What a program runs by: setpriv ends it with us and takes our privileges from it, timeout ends all that it has started. */
export const RUNNERS = ['setpriv', 'timeout']
const SETPRIV = ['--pdeathsig', 'TERM', '--ambient-caps', '-all', '--inh-caps', '-all', '--']
/** Seconds from the end of its time until what does not end is killed. */
const KILL_AFTER = 1
/** timeout's exit codes where the time was over. */
const TIME_IS_OVER = [124, 137]
/** Milliseconds behind all that, after which even timeout has failed. */
const LATEST = 2_000
/** Milliseconds in which the output of a program that has ended is read: what it left in the background may hold it open for hours. */
const REST_OF_OUTPUT = 200

/** Most that a program may print, in bytes: a list of every door, with long addresses, four times over. */
const MAX_OUTPUT = 1024 * 1024
/** What is kept of it for the log: the end, where the reason stands. */
const MAX_KEPT = 4_096
/** Characters of it that are shown. */
const MAX_SHOWN = 400

/** A user's program that did not do what it was asked for. */
export class ProgramError extends Error {
  constructor(
    message: string,
    /** Whether it took all its time: the next call is likely to. */
    readonly isHung = false,
  ) {
    super(message)
  }
}

/** What a program has printed. */
export interface Printed {
  /** On standard output. */
  readonly output: string
  /** The end of all that it has printed, in one line that is safe to show. */
  readonly shown: string
}

/**
 * Runs a user's program: no shell, nothing on standard input, the daemon's environment and none of its privileges. If the daemon dies, so does
 * the program: nothing may open a door that the next daemon has closed.
 * @param timeLimit in seconds
 * @throws {ProgramError} where it fails, takes too long or prints too much
 */
export function runProgram(words: Words, timeLimit: number): Promise<Printed> {
  const [program] = words
  return new Promise((resolve, reject) => {
    const began = performance.now()
    const child = spawn('setpriv', [...SETPRIV, 'timeout', '-k', `${KILL_AFTER}`, `${timeLimit}`, ...words], {
      env: { ...process.env, PATH: commandPath() },
      cwd: '/',
      stdio: ['ignore', 'pipe', 'pipe'],
      // A group of its own: a terminal's Ctrl-C is for us alone, and the whole group can be killed.
      detached: true,
    })
    const killAll = () => {
      try {
        if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL')
      } catch {
        // It has ended meanwhile.
      }
    }
    let output = ''
    let kept = ''
    let bytes = 0
    const isTooMuch = () => bytes > MAX_OUTPUT
    const take = (text: string) => {
      bytes += Buffer.byteLength(text)
      if (isTooMuch()) {
        child.stdout.destroy()
        child.stderr.destroy()
        return killAll()
      }
      kept = (kept + text).slice(-MAX_KEPT)
    }
    child.stderr.setEncoding('utf8').on('data', take)
    child.stdout.setEncoding('utf8').on('data', (text) => {
      take(text)
      if (!isTooMuch()) output += text
    })
    const limit = setTimeout(killAll, (timeLimit + KILL_AFTER) * 1000 + LATEST)

    const end = (code: number | null, signal: NodeJS.Signals | null) => {
      clearTimeout(limit)
      child.stdout.destroy()
      child.stderr.destroy()
      const shown = endOf(kept)
      const fail = (what: string, isHung?: boolean) =>
        reject(new ProgramError(`${program} ${what}${shown ? `: ${shown}` : ''}`, isHung))
      if (isTooMuch()) return fail(`printed more than ${MAX_OUTPUT} bytes`)
      if (code === 0) return resolve({ output, shown })
      const isOver = performance.now() - began >= timeLimit * 1000
      if (isOver && (code === null || TIME_IS_OVER.includes(code))) {
        // BusyBox's timeout ends the program alone.
        killAll()
        return fail(`took more than ${timeLimit} s`, true)
      }
      return fail(code === null ? `was ended by ${signal}` : `ended with exit code ${code}`)
    }
    child.on('error', (error) => {
      clearTimeout(limit)
      reject(new ProgramError(`${program} cannot be started: ${reason(error)}`))
    })
    child.on('exit', (code, signal) => {
      const rest = setTimeout(() => end(code, signal), REST_OF_OUTPUT)
      child.on('close', () => {
        clearTimeout(rest)
        end(code, signal)
      })
    })
  })
}

/** The end of a text in one line, without anything that a terminal would act on. */
function endOf(text: string): string {
  const line = printable(text.replace(/[\p{Cc}\p{Zl}\p{Zp}]+/gu, ' ').trim())
  return line.length > MAX_SHOWN ? `…${line.slice(-MAX_SHOWN)}` : line
}

/** @throws {Fault} where a user's program is not there, or can't be executed */
export async function findProgram([program]: Words): Promise<void> {
  const isThere = isAbsolute(program) ? access(program, constants.X_OK) : findCommand(program)
  await isThere.catch((error) => {
    const hint = 'correct [firewall.command], or install it'
    throw new Fault(`${program}: cannot be executed: ${reason(error)}`, { hint })
  })
}
