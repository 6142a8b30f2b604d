import { connect, type Socket } from 'node:net'
import { errorCode, reason } from '../system/fault'

/** What a connection that failed has shown: `refused`, or the code of another error, such as EHOSTUNREACH. */
export function failureOf(error: Error): string {
  return errorCode(error) === 'ECONNREFUSED' ? 'refused' : (errorCode(error) ?? reason(error))
}

/**
 * Tries a TCP connection. One that stands is reset at once: sshd then finds nobody at it and says nothing, where of one that is closed it logs a
 * line, which fail2ban may count.
 * @param limit milliseconds
 * @param going has the socket for as long as it is tried: whoever destroys that gives the attempt up, of which nothing is heard then
 * @returns `open`, `silence`, or what {@link failureOf} says
 */
export function look(address: string, port: number, limit: number, going = new Set<Socket>()): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect({ host: address, port, timeout: limit })
    const end = (saw: string) => {
      socket.destroy()
      resolve(saw)
    }
    going.add(socket)
    socket
      .once('connect', () => {
        socket.resetAndDestroy()
        resolve('open')
      })
      .once('error', (error) => end(failureOf(error)))
      // Where this process was held up, what has come meanwhile counts: it is heard before the next immediate.
      .once('timeout', () => setImmediate(end, 'silence'))
      .once('close', () => going.delete(socket))
  })
}
