/*
 * What runs in a private place: it makes connections and starts programs there, and the place lives as long as it does. It is the first process of the
 * place, so that all others are its children: one whose parent is outside would keep the place from its end until that one has seen it end.
 */

/** A port that the agent is to try. */
export interface Touch {
  readonly protocol: 'tcp' | 'udp'
  readonly address: string
  readonly port: number
  /** The address to send from; absent: what the system chooses. */
  readonly from?: string
}

/** What came back: an answer, a refusal, nothing in time, or the code of another error. */
export type Saw = 'open' | 'refused' | 'silence' | string

/** What the agent can be asked to do, by its names. */
export interface Work {
  ready(): null
  /** Tries ports, all at once. @param limit milliseconds */
  touch(touches: readonly Touch[], limit: number): Saw[]
  /** Serves a TCP port, in both families where there are two, until its end. */
  serve(port: number): null
  /** Runs a command to its end. @param limit milliseconds after which it is killed */
  run(command: readonly string[], env: NodeJS.ProcessEnv, input: string, limit: number): Ended
  /** Starts a program that goes on, of which there is one. */
  start(command: readonly string[], env: NodeJS.ProcessEnv): null
  /** Waits for a line of that program with this text in it. @param limit milliseconds */
  line(text: string, limit: number): Waited
}

/** How a command has ended. */
export interface Ended {
  /** Null where it was killed, or could not be started. */
  readonly exitCode: number | null
  readonly stdout: string
  readonly stderr: string
}

/** How waiting for a line has ended. */
export interface Waited {
  /** Null where none has come. */
  readonly line: string | null
  /** Why not. */
  readonly why: string
  /** The last lines that have come. */
  readonly last: readonly string[]
}

/** Most that is kept of an output of a command, in characters, and of the lines of a program. */
const MAX_OUTPUT = 1024 * 1024
const MAX_LINES = 500
const MAX_LINE = 2_000

/** Milliseconds that a place lives at most, whatever has become of those who made it: more than all checks together take. */
const LIFE = 120_000

/**
 * The whole of the agent. It is handed to another Node as text ({@link AGENT_PROGRAM}), so it names nothing outside of itself. It takes requests on
 * standard input, one JSON line each, and ends with it: a pipe ends with whoever holds its other end, however that dies.
 */
function agent(life: number, maxOutput: number, maxLines: number, maxLine: number): void {
  const { connect, createServer } = process.getBuiltinModule('node:net')
  const { createSocket } = process.getBuiltinModule('node:dgram')
  const { createInterface } = process.getBuiltinModule('node:readline')
  const { spawn } = process.getBuiltinModule('node:child_process')

  const nameOf = (error: NodeJS.ErrnoException) => (error.code === 'ECONNREFUSED' ? 'refused' : (error.code ?? 'failed'))

  const tryTcp = ({ address, port, from }: Touch, limit: number) =>
    new Promise<Saw>((resolve) => {
      const socket = connect({ host: address, port, ...(from && { localAddress: from }) })
      const finish = (saw: Saw) => {
        clearTimeout(timer)
        socket.destroy()
        resolve(saw)
      }
      // Where we were held up, what has come meanwhile counts: it is heard before the next immediate.
      const timer = setTimeout(() => setImmediate(finish, 'silence'), limit)
      socket.on('connect', () => finish('open')).on('error', (error) => finish(nameOf(error)))
    })

  const tryUdp = ({ address, port, from }: Touch, limit: number) =>
    new Promise<Saw>((resolve) => {
      const socket = createSocket(address.includes(':') ? 'udp6' : 'udp4')
      const timers: NodeJS.Timeout[] = []
      let isOver = false
      // A refusal may come for each datagram.
      const once = (saw: Saw) => {
        if (isOver) return
        isOver = true
        for (const timer of timers) clearTimeout(timer)
        socket.close()
        resolve(saw)
      }
      timers.push(setTimeout(() => setImmediate(once, 'silence'), limit))
      socket.on('message', () => once('open')).on('error', (error) => once(nameOf(error)))
      socket.bind(0, from, () =>
        socket.connect(port, address, () => {
          const send = () => isOver || socket.send('?', (error) => error && once(nameOf(error)))
          send()
          timers.push(setTimeout(send, limit / 2))
        }),
      )
    })

  const run = ([program = '', ...args]: string[], env: NodeJS.ProcessEnv, input: string, limit: number) =>
    new Promise<Ended>((resolve) => {
      const child = spawn(program, args, { env, timeout: limit, killSignal: 'SIGKILL' })
      let [stdout, stderr] = ['', '']
      child.stdout.setEncoding('utf8').on('data', (text) => {
        if (stdout.length < maxOutput) stdout += text
      })
      child.stderr.setEncoding('utf8').on('data', (text) => {
        if (stderr.length < maxOutput) stderr += text
      })
      // It may end without having read all of it, and says why.
      child.stdin.on('error', () => {}).end(input)
      child.on('error', (error) => resolve({ exitCode: null, stdout, stderr: error.message }))
      child.on('close', (exitCode) => resolve({ exitCode, stdout, stderr }))
    })

  const lines: string[] = []
  const waiting = new Set<() => void>()
  let over = ''
  const lookAll = () => {
    for (const look of [...waiting]) look()
  }

  const start = ([program = '', ...args]: string[], env: NodeJS.ProcessEnv) => {
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'], env })
    for (const input of [child.stdout, child.stderr])
      createInterface({ input }).on('line', (line) => {
        if (lines.length < maxLines) lines.push(line.slice(0, maxLine))
        lookAll()
      })
    const end = (why: string) => {
      over = why
      lookAll()
    }
    child.on('error', (error) => end(error.message)).on('close', (code, signal) => end(`it has ended with ${signal ?? code}`))
    return null
  }

  const waitFor = (text: string, limit: number) =>
    new Promise<Waited>((resolve) => {
      const finish = (line: string | null, why: string) => {
        clearTimeout(timer)
        waiting.delete(look)
        resolve({ line, why, last: lines.slice(-2) })
      }
      const look = () => {
        const line = lines.find((one) => one.includes(text))
        if (line !== undefined) finish(line, '')
        else if (over !== '') finish(null, over)
      }
      const timer = setTimeout(() => finish(null, `not within ${limit / 1000} s`), limit)
      waiting.add(look)
      look()
    })

  // biome-ignore lint/suspicious/noExplicitAny: whoever asks knows what each takes
  const work: Record<string, (...args: any[]) => unknown> = {
    ready: () => null,
    run,
    start,
    line: waitFor,
    touch: (touches: Touch[], limit: number) =>
      Promise.all(touches.map((one) => (one.protocol === 'tcp' ? tryTcp : tryUdp)(one, limit))),
    serve: (port: number) =>
      new Promise((resolve, reject) => {
        const server = createServer((socket) => {
          socket.on('error', () => {})
          socket.end('welcome\n')
        })
        server.on('error', reject).listen(port, () => resolve(null))
      }),
  }

  setTimeout(() => process.exit(), life).unref()
  createInterface({ input: process.stdin })
    .on('close', () => process.exit())
    .on('line', async (line) => {
      const { id, name, args } = JSON.parse(line)
      const answer = await Promise.resolve(work[name]?.(...args)).then(
        (result) => ({ id, result }),
        (error) => ({ id, error: String(error) }),
      )
      process.stdout.write(`${JSON.stringify(answer)}\n`)
    })
}

/** The agent as a program for `node -e`. */
export const AGENT_PROGRAM = `(${agent})(${[LIFE, MAX_OUTPUT, MAX_LINES, MAX_LINE].join(', ')})`
