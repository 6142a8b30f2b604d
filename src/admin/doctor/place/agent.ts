/* What runs in a private place: it makes connections there, and the place lives as long as it does. */

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
}

/** Milliseconds that a place lives at most, whatever has become of those who made it: more than all checks together take. */
const LIFE = 120_000

/**
 * The whole of the agent. It is handed to another Node as text ({@link AGENT_PROGRAM}), so it names nothing outside of itself. It takes requests on
 * standard input, one JSON line each, and ends with it: a pipe ends with whoever holds its other end, however that dies.
 */
function agent(life: number): void {
  const { connect, createServer } = process.getBuiltinModule('node:net')
  const { createSocket } = process.getBuiltinModule('node:dgram')
  const { createInterface } = process.getBuiltinModule('node:readline')

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

  // biome-ignore lint/suspicious/noExplicitAny: whoever asks knows what each takes
  const work: Record<string, (...args: any[]) => unknown> = {
    ready: () => null,
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
export const AGENT_PROGRAM = `(${agent})(${LIFE})`
