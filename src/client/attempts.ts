import { connect, type Socket } from 'node:net'
import { failureOf } from './look'

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
  #isOver = false
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
    if (this.#isOver) return
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
      // Two can stand before we hear of the first, where we were held up: as a look at a service ends, so does this (see look).
      if (this.#first || this.#isOver) return void socket.resetAndDestroy()
      this.#first = socket
      this.end()
    })
  }

  /** The connection, as soon as it stands: both its directions end by themselves. @returns null when so many milliseconds are over */
  within(milliseconds: number): Promise<Socket | null> {
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer)
        resolve(this.#first)
      }
      // A time that is over already: newer Nodes print a warning for a timer of less than 0.
      const timer = setTimeout(done, Math.max(milliseconds, 0))
      this.#tell = done
      if (this.#isOver) done()
    })
  }

  /** Gives up those that still wait, behind the news of them that has come already. */
  end(): void {
    this.#isOver = true
    this.#tell()
    setImmediate(() => {
      for (const socket of this.#waiting) socket.destroy()
    })
  }
}
