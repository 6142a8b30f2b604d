import { connect, type Socket } from 'node:net'
import { failureOf } from './transport'

/**
 * An attempt is given up after this many milliseconds: behind the second retransmit of its SYN (the kernel's come after 1 s, and after 2 or 3 s),
 * and well before the next, so that none can be on its way then.
 */
const LIFE = 2_900

/**
 * Attempts to connect to one service, side by side; the first that is accepted counts. None is given up while a SYN of it may be on
 * its way: where a door is open for one connection only, one that is accepted and not wanted has used it up.
 */
export class Attempts {
  readonly #waiting = new Set<Socket>()
  #first: Socket | null = null
  #tell = () => {}
  /** What came instead of a connection: `refused`, or the code of another error. */
  readonly seen = new Set<string>()

  constructor(
    readonly address: string,
    readonly port: number,
  ) {}

  /** Whether an attempt has been refused: somebody says that nobody serves the port. */
  get refused(): boolean {
    return this.seen.has('refused')
  }

  /** Begins one more. */
  begin(): void {
    const socket = connect({ host: this.address, port: this.port, allowHalfOpen: true, noDelay: true, keepAlive: true })
    const life = setTimeout(() => socket.destroy(), LIFE)
    this.#waiting.add(socket)
    socket.on('error', (error) => this.seen.add(failureOf(error)))
    socket.once('close', () => {
      clearTimeout(life)
      this.#waiting.delete(socket)
    })
    socket.once('connect', () => {
      clearTimeout(life)
      this.#waiting.delete(socket)
      this.#first = socket
      this.end()
      this.#tell()
    })
  }

  /** The connection, as soon as it stands: both its directions end by themselves. @returns null when so many milliseconds are over */
  within(milliseconds: number): Promise<Socket | null> {
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer)
        resolve(this.#first)
      }
      const timer = setTimeout(done, milliseconds)
      this.#tell = done
      if (this.#first) done()
    })
  }

  /** Gives up those that still wait. */
  end(): void {
    for (const socket of this.#waiting) socket.destroy()
  }
}
