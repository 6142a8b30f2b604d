import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import { PATIENCE } from './waiters'

export interface RunOptions {
  timeoutMs?: number
  input?: string
  env?: NodeJS.ProcessEnv
}

/** How a command has ended. */
export interface Ended {
  code: number | null
  signal: string | null
  stdout: string
  stderr: string
  ms: number
}

/** A long-lived child: its lines, as they come, and its end. */
export class Child {
  /** All lines of both its outputs. */
  lines: string[] = []
  readonly child: ChildProcessByStdio<null, Readable, Readable>
  readonly pid: number | undefined
  readonly exited: Promise<{ code: number | null; signal: NodeJS.Signals | null }>
  #waiting = new Set<() => void>()
  #over = ''

  constructor([program = '', ...args]: string[], env: NodeJS.ProcessEnv) {
    this.child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'], env: childEnvironment(env) })
    this.pid = this.child.pid
    for (const input of [this.child.stdout, this.child.stderr]) {
      createInterface({ input }).on('line', (line) => {
        this.lines.push(line)
        for (const look of this.#waiting) look()
      })
    }
    this.exited = once(this.child, 'exit').then(([code, signal]) => ({ code, signal }))
    this.child.on('close', (code, signal) => {
      this.#over = `it has ended with ${signal ?? code}`
      for (const look of this.#waiting) look()
    })
  }

  /** The first line that fits, from line number `since` on, waiting for it. */
  line(fits: (line: string) => boolean, since = 0, timeoutMs = PATIENCE): Promise<string> {
    return new Promise((resolve, reject) => {
      let next = since
      const done = () => {
        clearTimeout(timer)
        this.#waiting.delete(look)
      }
      const fail = (why: string) => {
        done()
        reject(new Error(`no such line, ${why}; its last lines:\n${this.lines.slice(-10).join('\n')}`))
      }
      const look = () => {
        for (const line of this.lines.slice(next)) {
          next++
          if (!fits(line)) continue
          done()
          return resolve(line)
        }
        if (this.#over) fail(this.#over)
      }
      const timer = setTimeout(() => fail(`waited ${timeoutMs} ms`), timeoutMs)
      this.#waiting.add(look)
      look()
    })
  }

  /** Asks it to end, kills it after five seconds. */
  async end(signal: NodeJS.Signals = 'SIGTERM') {
    this.child.kill(signal)
    const patience = setTimeout(() => this.child.kill('SIGKILL'), 5_000)
    try {
      return await this.exited
    } finally {
      clearTimeout(patience)
    }
  }
}

function childEnvironment(env: NodeJS.ProcessEnv) {
  // Nowhere to keep the last knock in: the home is somebody's.
  return { ...process.env, NODE_EXTRA_CA_CERTS: undefined, XDG_STATE_HOME: '/dev/null', ...env }
}

/** Runs a command to its end. */
export function run(
  [program = '', ...args]: string[],
  { timeoutMs = 20_000, input = '', env = {} }: RunOptions = {},
): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const began = performance.now()
    const child = spawn(program, args, { env: childEnvironment(env), timeout: timeoutMs, killSignal: 'SIGKILL' })
    let stdout = ''
    let stderr = ''
    child.stdout.setEncoding('utf8').on('data', (text) => (stdout += text))
    child.stderr.setEncoding('utf8').on('data', (text) => (stderr += text))
    child.stdin.on('error', () => {}) // it may end without reading
    child.stdin.end(input)
    child.on('error', reject)
    child.on('close', (code, signal) => resolve({ code, signal, stdout, stderr, ms: performance.now() - began }))
  })
}

/** Runs a command that has to succeed, and gives its standard output. */
export async function must(argv: string[], options?: RunOptions) {
  const { code, signal, stdout, stderr } = await run(argv, options)
  if (code !== 0) throw new Error(`${argv.join(' ')}: ${signal ?? `exit ${code}`}\n${stdout}${stderr}`)
  return stdout
}
