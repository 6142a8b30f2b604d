import { mkdtempSync, rmSync } from 'node:fs'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { join } from 'node:path'
import { ROOT } from '../root'
import type { Host } from './host'

const FAR = join(ROOT, 'test/lab/far-end.mjs')

/**
 * Leads from this process's own loopback to where only a host in a namespace gets: its connections then go over the lab's wire, with all that
 * is in their way there. A connection that is refused there begins here, and is closed.
 * @param from the host whose connections they become
 * @param targets where they lead
 * @returns a port of 127.0.0.1 for each
 */
export async function tunnel(from: Host, targets: readonly { address: string; port: number }[]): Promise<number[]> {
  const folder = mkdtempSync('/run/kt-')
  const { endings } = from.lab
  endings.push(() => rmSync(folder, { recursive: true, force: true }))
  const far = from.agent(FAR)
  const ports = []
  for (const [i, { address, port }] of targets.entries()) {
    const path = join(folder, `${i}`)
    await far.ask('lead', path, address, port)
    const sockets = new Set<Socket>()
    const server = createServer({ allowHalfOpen: true }, (near) => {
      const rest = connect({ path, allowHalfOpen: true })
      near.pipe(rest).pipe(near)
      for (const [one, other] of [
        [near, rest],
        [rest, near],
      ] as const) {
        sockets.add(one)
        one
          .on('error', () => other.destroy())
          .on('close', () => {
            sockets.delete(one)
            other.destroy()
          })
      }
    })
    ports.push(await listening(server))
    endings.push(() => {
      for (const socket of sockets) socket.destroy()
      return new Promise((resolve) => server.close(resolve))
    })
  }
  return ports
}

/** Has a server listen on loopback. @returns its port */
export const listening = (server: Server): Promise<number> =>
  new Promise((resolve, reject) => {
    server.on('error', reject)
    server.listen(0, '127.0.0.1', () => {
      const address = server.address()
      resolve(typeof address === 'object' && address ? address.port : 0)
    })
  })
