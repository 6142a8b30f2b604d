// A name server that keeps those who ask it waiting.

import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Host } from '../lab/host'

/** Each answer by UDP is truncated, and by TCP nothing is said (RFC 1035, 4.1.1: TC). */
const SERVER = `
const udp = require('node:dgram').createSocket('udp4')
udp.on('message', (message, { port, address }) => {
  message[2] |= 0x82
  message[3] |= 0x80
  udp.send(message, port, address, () => console.log('truncated'))
})
udp.bind(53, () => require('node:net').createServer((socket) => socket.on('error', () => {})).listen(53, () => console.log('listening')))`

/**
 * Starts a name server on a host that says "truncated", and then nothing.
 * @returns the server, and what has a command of any host ask it alone
 */
export async function serveNothing(host: Host) {
  const server = host.start([process.execPath, '-e', SERVER])
  await server.line((line) => line === 'listening')
  const file = join(host.lab.folder(), 'resolv.conf')
  writeFileSync(file, `nameserver ${host.ipv4}\n`)
  return {
    server,
    /** `ip netns exec` has mounts of its own. */
    asking: (argv: string[]) => ['sh', '-c', 'mount --bind "$0" /etc/resolv.conf && exec "$@"', file, ...argv],
  }
}
