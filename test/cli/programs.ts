import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import type { Readable, Writable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { afterEach } from 'vitest'
import { scratch } from '../system/scratch'

export type Program = 'knockturn' | 'knockclient' | 'knockdaemon'

export const programPath = (program: Program) => fileURLToPath(new URL(`../../bin/${program}`, import.meta.url))

/** Where the last knock is kept. */
const STATE = scratch()

/** The environment without what slows a start or points a client at somebody's keys. */
export function environment(more: NodeJS.ProcessEnv = {}): NodeJS.ProcessEnv {
  const { NODE_EXTRA_CA_CERTS: _, XDG_CONFIG_HOME: __, ...rest } = process.env
  return { ...rest, HOME: '/nonexistent', XDG_STATE_HOME: STATE, ...more }
}

/** Without capabilities, also where the tests run as root: knockdaemon refuses those, and none of these tests needs one. */
export const UNPRIVILEGED = process.getuid?.() === 0 ? ['setpriv', '--inh-caps=-all', '--bounding-set=-all'] : []

type Child = ChildProcessByStdio<Writable, Readable, Readable>
const children = new Set<Child>()
afterEach(async () => {
  for (const child of children) {
    child.kill('SIGKILL')
    await once(child, 'close')
  }
})

function launch(
  program: string,
  args: readonly string[],
  { env = {}, cwd }: { env?: NodeJS.ProcessEnv; cwd?: string | undefined },
) {
  const [command, ...rest] = [...UNPRIVILEGED, process.execPath, program, ...args]
  const child = spawn(command, rest, { cwd, env: environment(env), stdio: ['pipe', 'pipe', 'pipe'] })
  children.add(child)
  child.once('close', () => children.delete(child))
  // Whoever ends while we still write to it has had enough.
  child.stdin.on('error', () => {})
  return child
}

export interface Outcome {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

/** Runs a program to its end. @param options `deaf`: who reads its standard error is gone before it says a word */
export async function run(
  program: Program | { path: string },
  args: readonly string[],
  options: { env?: NodeJS.ProcessEnv; cwd?: string; input?: string; deaf?: boolean } = {},
): Promise<Outcome> {
  const child = launch(typeof program === 'string' ? programPath(program) : program.path, args, options)
  let [stdout, stderr] = ['', '']
  child.stdout.setEncoding('utf8').on('data', (text) => {
    stdout += text
  })
  child.stderr.setEncoding('utf8').on('data', (text) => {
    stderr += text
  })
  if (options.deaf) child.stderr.destroy()
  child.stdin.end(options.input ?? '')
  const [code] = await once(child, 'close')
  return { code, stdout, stderr }
}

/** What anybody on the machine sees of its processes while something is done: their arguments and, as far as we may, environments. */
export async function seenMeanwhile<T>(act: () => Promise<T>): Promise<{ result: T; seen: string }> {
  const seen = new Set<string>()
  const look = setInterval(() => {
    for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name)))
      for (const file of ['cmdline', 'environ'])
        try {
          seen.add(readFileSync(`/proc/${pid}/${file}`, 'latin1'))
        } catch {
          // Another's, or gone.
        }
  }, 5)
  try {
    return { result: await act(), seen: [...seen].join('\n') }
  } finally {
    clearInterval(look)
  }
}

type Json = Record<string, unknown>

/** The lines of a stream: those that have come, and waiting for one that is yet to come. */
class Lines {
  readonly all: string[] = []
  readonly #waiting = new Set<() => void>()
  #over = false

  constructor(stream: Readable) {
    const lines = createInterface({ input: stream })
    const tell = () => {
      for (const look of this.#waiting) look()
    }
    lines.on('line', (line) => {
      this.all.push(line)
      tell()
    })
    lines.on('close', () => {
      this.#over = true
      tell()
    })
  }

  get json(): Json[] {
    return this.all.map((line) => JSON.parse(line))
  }

  /** The first line, from the `from`th on, that `fits`; rejects when the stream ends without one. */
  find(fits: (line: Json) => boolean, from = 0): Promise<Json> {
    return new Promise((resolve, reject) => {
      let at = from
      const look = () => {
        for (; at < this.all.length; at++) {
          const line: Json = JSON.parse(this.all[at])
          if (!fits(line)) continue
          this.#waiting.delete(look)
          return resolve(line)
        }
        if (this.#over) {
          this.#waiting.delete(look)
          reject(new Error(`the stream has ended without the line:\n${this.all.join('\n')}`))
        }
      }
      this.#waiting.add(look)
      look()
    })
  }
}

/** A daemon that reads LOG lines on standard input and says on standard output what it would do. */
export class RunningDaemon {
  readonly out: Lines
  readonly log: Lines
  readonly #child: Child
  readonly #closed: Promise<unknown[]>

  constructor(args: readonly string[]) {
    this.#child = launch(programPath('knockdaemon'), args, {})
    this.out = new Lines(this.#child.stdout)
    this.log = new Lines(this.#child.stderr)
    this.#closed = once(this.#child, 'close')
  }

  /** Resolves when it hears. */
  async ready(): Promise<this> {
    await this.log.find(({ msg }) => msg === 'ready')
    return this
  }

  get pid(): number {
    return this.#child.pid as number
  }

  feed(text: string | Uint8Array): void {
    this.#child.stdin.write(text)
  }

  signal(name: NodeJS.Signals): void {
    this.#child.kill(name)
  }

  /** Its exit code, or the signal that killed it. */
  async end(): Promise<number | string | null> {
    const [code, signal] = await this.#closed
    return (code ?? signal) as number | string | null
  }

  /** Ends its input and waits for it to end. */
  finish(): Promise<number | string | null> {
    this.#child.stdin.end()
    return this.end()
  }
}
