import { closeSync, openSync } from 'node:fs'
import type { Socket } from 'node:net'
import { devNull } from 'node:os'
import { Fault, reason } from '../system/fault'

const STANDARD_OUTPUT = 1

/**
 * Joins a connection to standard input and output, each direction until its own end: an end of input is told to the service, and the
 * service's to who reads the output.
 * @param socket with allowHalfOpen
 * @param where names the connection in a fault
 * @returns whether both have ended; false where nobody reads the output any more
 * @throws {Fault} when it breaks
 */
export async function handOver(socket: Socket, where: string): Promise<boolean> {
  const { stdin, stdout } = process
  try {
    return await new Promise((resolve, reject) => {
      let written: Promise<boolean> | boolean = true
      const giveUp = () => {
        written = false
        socket.destroy()
      }
      socket.on('end', () => {
        written = new Promise((done) => {
          stdout.end(() => done(closeOutput()))
        })
        // Nobody at a terminal has more to say to somebody who has hung up.
        if (stdin.isTTY) socket.end()
      })
      socket.on('error', (error) => reject(new Fault(`${where}: the connection broke: ${reason(error)}`)))
      socket.on('close', () => resolve(written))
      // Whoever has set up the program would leave at once, and something may be left to do.
      stdout.removeAllListeners('error').on('error', giveUp)
      stdin.on('error', giveUp)
      stdin.pipe(socket)
      socket.pipe(stdout)
    })
  } finally {
    stdin.destroy()
  }
}

/** Node never closes standard output, and who reads it would wait for its end until we exit. */
function closeOutput(): true {
  closeSync(STANDARD_OUTPUT)
  // Its number must not become another file's.
  openSync(devNull, 'w')
  return true
}
