import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { spawn } from '../../../system/child-process'
import { commandPath, findCommand, WHEREVER } from '../../../system/commands'
import { reason } from '../../../system/fault'
import { AGENT_PROGRAM, type Work } from './agent'
import { Hindrance } from './hindrance'

/*
 * A private place: namespaces of the kernel that have no name anywhere. They are there as long as a process in them is, and that is an agent
 * which ends when the pipe to it does. So whatever becomes of us, a kill -9 too, the kernel takes away the place and all that is in it: its
 * processes (they are in a pid namespace, whose first the agent is), its interfaces with their other ends, its mounts.
 */

/** Milliseconds for a place to be there: it starts a Node. */
const START_LIMIT = 15_000
/** Milliseconds for a command in a place. */
const COMMAND_LIMIT = 15_000
/** Milliseconds for an answer of the agent beyond what the work itself may take. */
const ANSWER_LIMIT = 10_000
/** Milliseconds for a place to end by itself. */
const END_LIMIT = 3_000
/** Most of what is kept of a complaint, in characters. */
const MAX_COMPLAINT = 4_096

/** What is in front of a remedy, in what our programs say. */
const HINT = 'hint: '

/** What a command finds in its environment. */
const around = (more: NodeJS.ProcessEnv = {}): NodeJS.ProcessEnv => ({ PATH: commandPath(), LC_ALL: 'C', TZ: 'UTC', ...more })

/** A private place, held by a child. */
export class Place {
  readonly #child: ChildProcess
  readonly #calls = new Map<number, { resolve: (result: unknown) => void; reject: (error: Error) => void }>()
  #asked = 0
  #complaint = ''
  #isOver = false

  private constructor(hasMounts: boolean) {
    const namespaces = ['--net', '--pid', '--fork', '--kill-child', ...(hasMounts ? ['--mount-proc'] : [])]
    this.#child = spawn('unshare', [...namespaces, process.execPath, '-e', AGENT_PROGRAM], {
      stdio: ['pipe', 'pipe', 'pipe'],
      env: around(),
      cwd: WHEREVER,
      // Ctrl-C is for us: the place ends with us, and says nothing.
      detached: true,
    })
    const { stdin, stdout, stderr } = this.#child
    stdin?.on('error', () => {})
    stderr?.setEncoding('utf8').on('data', (text) => {
      if (this.#complaint.length < MAX_COMPLAINT) this.#complaint += text
    })
    if (stdout) createInterface({ input: stdout }).on('line', (line) => this.#hear(line))
    this.#child.on('error', (error) => this.#end(reason(error))).on('close', () => this.#end('it has ended'))
  }

  /**
   * Makes a place with a network of its own in which there is nothing but an interface lo, and processes of its own.
   * @param hasMounts whether it has mounts of its own, too
   * @throws {Fault} where that can't be made: it takes root, and a kernel or container that allows it
   */
  static async open({ hasMounts = false } = {}): Promise<Place> {
    if (process.geteuid?.() !== 0) throw new Hindrance('a private network requires root', { hint: 'run this as root' })
    for (const command of ['unshare', 'ip']) await findCommand(command)
    const place = new Place(hasMounts)
    try {
      await place.#ask('ready', [], START_LIMIT)
      await place.batch('link set lo up\n')
    } catch (error) {
      await place.close()
      throw new Hindrance(`cannot make a private network: ${place.#complaint.trim().split('\n')[0] || reason(error)}`)
    }
    return place
  }

  /** A process in whose network and mounts the place is. */
  get pid(): number {
    return this.#child.pid ?? 0
  }

  /** Has the agent do something. @param limit milliseconds that the work itself may take @throws {Fault} where it can't, or does not answer */
  ask<Name extends keyof Work>(name: Name, args: Parameters<Work[Name]>, limit = 0): Promise<ReturnType<Work[Name]>> {
    return this.#ask(name, args, limit + ANSWER_LIMIT)
  }

  /**
   * Runs a command here that has to succeed.
   * @param input its standard input
   * @param env what it finds in its environment beside what every command does
   * @returns its standard output
   * @throws {Fault} with what it complains of, and its hint
   */
  async run(command: readonly string[], input = '', env: NodeJS.ProcessEnv = {}): Promise<string> {
    const { exitCode, stdout, stderr } = await this.ask('run', [command, around(env), input, COMMAND_LIMIT], COMMAND_LIMIT)
    if (exitCode === 0) return stdout
    const [line, hint] = stderr.trim().split('\n')
    const why = exitCode === null ? 'it was ended' : 'it failed'
    throw new Hindrance(line || `${command[0]}: ${why}`, { hint: hint?.startsWith(HINT) ? hint.slice(HINT.length) : undefined })
  }

  /** Starts a program here that goes on until the place ends. */
  async start(command: readonly string[], env: NodeJS.ProcessEnv): Promise<void> {
    await this.ask('start', [command, around(env)])
  }

  /** Waits for a line of that program that has this text in it. @throws {Fault} where none comes in so many milliseconds, with what came instead */
  async line(text: string, limit: number): Promise<void> {
    const { line, why, last } = await this.ask('line', [text, limit], limit)
    if (line !== null) return
    const said = last.findLast((one) => !one.startsWith(HINT))
    const hint = last.findLast((one) => one.startsWith(HINT))?.slice(HINT.length)
    throw new Hindrance(said === undefined ? why : `${why}; its last line: ${said}`, { hint })
  }

  /** Has ip do what its lines say. @throws {Fault} with what it complains of */
  async batch(lines: string): Promise<void> {
    await this.run(['ip', '-batch', '-'], lines)
  }

  /** Ends the place, and with it all that is in it. */
  async close(): Promise<void> {
    this.#child.stdin?.end()
    if (this.#isOver || this.#child.pid === undefined) return
    const patience = setTimeout(() => this.#child.kill('SIGKILL'), END_LIMIT)
    await once(this.#child, 'close').catch(() => {})
    clearTimeout(patience)
  }

  #ask<Result>(name: string, args: readonly unknown[], limit: number): Promise<Result> {
    return new Promise((resolve, reject) => {
      if (this.#isOver) return reject(new Hindrance('the private network has ended'))
      const id = ++this.#asked
      const done = () => {
        clearTimeout(timer)
        this.#calls.delete(id)
      }
      const timer = setTimeout(() => {
        done()
        reject(new Hindrance(`no answer from the private network within ${limit} ms`))
      }, limit)
      this.#calls.set(id, {
        resolve: (result) => {
          done()
          resolve(result as Result)
        },
        reject: (error) => {
          done()
          reject(error)
        },
      })
      this.#child.stdin?.write(`${JSON.stringify({ id, name, args })}\n`)
    })
  }

  #hear(line: string): void {
    const { id, result, error } = JSON.parse(line) as { id: number; result?: unknown; error?: string }
    const call = this.#calls.get(id)
    if (error === undefined) call?.resolve(result)
    else call?.reject(new Hindrance(error))
  }

  #end(why: string): void {
    this.#isOver = true
    for (const { reject } of [...this.#calls.values()]) reject(new Hindrance(`the private network has ended: ${why}`))
  }
}

/** Does something in a place, and ends the place whatever comes of it. @throws {Fault} where there can't be one, and what `work` throws */
export async function inPlace<T>(options: { readonly hasMounts?: boolean }, work: (place: Place) => Promise<T>): Promise<T> {
  const place = await Place.open(options)
  try {
    return await work(place)
  } finally {
    await place.close()
  }
}
