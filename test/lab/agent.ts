import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'

/** A process that does what it is asked to, over node's own channel: whoever runs it answers by answer.mjs. */
export class Agent {
  readonly #process: ChildProcess
  /** What it has been asked and has not answered. */
  readonly #calls = new Map<number, { resolve: (result: unknown) => void; reject: (error: Error) => void }>()
  #asked = 0

  /** @param whose told where it fails */
  constructor(whose: string, [program = '', ...args]: string[]) {
    this.#process = spawn(program, args, {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
      // Reading these takes node longer than all the rest of its start.
      env: { ...process.env, NODE_EXTRA_CA_CERTS: undefined },
    })
    this.#process.on('message', (message) => {
      const { id, result, error } = message as { id: number; result?: unknown; error?: string }
      const call = this.#calls.get(id)
      this.#calls.delete(id)
      if (error) call?.reject(new Error(`${whose}: ${error}`))
      else call?.resolve(result)
    })
    this.#process.on('exit', () => {
      for (const { reject } of this.#calls.values()) reject(new Error(`${whose}: its agent has ended`))
    })
  }

  get pid(): number | undefined {
    return this.#process.pid
  }

  /** Has it do something. What it gives is what that work gives. */
  ask<Result>(work: string, ...args: unknown[]): Promise<Result> {
    return new Promise((resolve, reject) => {
      this.#calls.set(++this.#asked, { resolve: resolve as (result: unknown) => void, reject })
      this.#process.send({ id: this.#asked, work, args })
    })
  }

  async end(): Promise<void> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return
    this.#process.kill('SIGKILL')
    await once(this.#process, 'exit')
  }
}
