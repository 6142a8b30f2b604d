import type { ChildProcess } from 'node:child_process'
import { createInterface } from 'node:readline'
import { spawn } from '../../../system/child-process'
import { commandPath, WHEREVER } from '../../../system/commands'
import { Fault, reason } from '../../../system/fault'
import type { Place } from './place'

/** Lines of a program that are kept: more than a daemon says that opens one door. */
const MAX_LINES = 500
/** Longest of them, in characters. */
const MAX_LINE = 2_000

/** A program that goes on in a place, at the latest until its end. */
export class Program {
  readonly #child: ChildProcess
  readonly #lines: string[] = []
  readonly #waiting = new Set<() => void>()
  #over = ''

  constructor(place: Place, command: readonly string[], env: NodeJS.ProcessEnv) {
    const [program, ...args] = [...place.words(), ...command]
    this.#child = spawn(program, args, {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { PATH: commandPath(), LC_ALL: 'C', TZ: 'UTC', ...env },
      cwd: WHEREVER,
      // Ctrl-C is for us: it ends with the place.
      detached: true,
    })
    for (const input of [this.#child.stdout, this.#child.stderr])
      if (input) createInterface({ input }).on('line', (line) => this.#hear(line))
    this.#child
      .on('error', (error) => this.#end(reason(error)))
      .on('close', (code, signal) => this.#end(`it has ended with ${signal ?? code}`))
  }

  /** Resolves with the first line that has this text in it. @throws {Fault} where none comes in so many milliseconds, with what came instead */
  line(text: string, limit: number): Promise<string> {
    return new Promise((resolve, reject) => {
      const done = () => {
        clearTimeout(timer)
        this.#waiting.delete(look)
      }
      const look = () => {
        const line = this.#lines.find((one) => one.includes(text))
        if (line !== undefined) {
          done()
          resolve(line)
        } else if (this.#over !== '') {
          done()
          reject(this.#fault(this.#over))
        }
      }
      const timer = setTimeout(() => {
        done()
        reject(this.#fault(`not within ${limit / 1000} s`))
      }, limit)
      this.#waiting.add(look)
      look()
    })
  }

  /** Asks it to end. */
  end(): void {
    this.#child.kill()
  }

  /** A fault with the last that the program has said, and its hint. */
  #fault(why: string): Fault {
    const said = this.#lines.findLast((line) => !line.startsWith('hint: '))
    const hint = this.#lines.findLast((line) => line.startsWith('hint: '))?.slice('hint: '.length)
    return new Fault(said === undefined ? why : `${why}; its last line: ${said}`, { hint })
  }

  #hear(line: string): void {
    if (this.#lines.length < MAX_LINES) this.#lines.push(line.slice(0, MAX_LINE))
    for (const look of [...this.#waiting]) look()
  }

  #end(why: string): void {
    this.#over = why
    for (const look of [...this.#waiting]) look()
  }
}
