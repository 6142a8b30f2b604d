import { closeSync, openSync } from 'node:fs'
import type { Socket } from 'node:net'
import { devNull } from 'node:os'
import { Fault, reason } from './fault'

const STANDARD_OUTPUT = 1

/**
 * Joins a connection to standard input and output, each direction until its own end: an end of input is told to the service, and the
 * service's to who reads the output. Resolves when both have ended, or when nobody reads the output any more.
 * @param socket with allowHalfOpen
 * @param where names the connection in a fault
 * @throws {Fault} when it breaks
 */
export async function handOver(socket: Socket, where: string): Promise<void> {
  const { stdin, stdout } = process
  try {
    await new Promise<void>((resolve, reject) => {
      let written: Promise<void> | undefined
      socket.on('end', () => {
        written = new Promise<void>((done) => {
          stdout.end(() => done())
        }).then(closeOutput)
        // Nobody at a terminal has more to say to somebody who has hung up.
        if (stdin.isTTY) socket.end()
      })
      socket.on('error', (error) => reject(new Fault(`${where}: the connection has broken: ${reason(error)}`)))
      socket.on('close', () => resolve(written))
      stdout.on('error', () => socket.destroy())
      stdin.on('error', () => socket.destroy())
      stdin.pipe(socket)
      socket.pipe(stdout)
    })
  } finally {
    stdin.destroy()
  }
}

/** Node never closes standard output, and who reads it would wait for its end until we exit. */
function closeOutput(): void {
  closeSync(STANDARD_OUTPUT)
  // Its number must not become another file's.
  openSync(devNull, 'w')
}
