// A STUN server, and somebody on the way to it who answers in its place.

import { join } from 'node:path'
import type { Host } from '../lab/host'

export const STUN = 3478
/** Where who says always the same listens: as the forger does, on a host that others' packets pass. */
export const FORGER = 3479

/** Starts coturn on a host. */
export async function serveStun(host: Host) {
  const stun = host.start([
    ...['turnserver', '-n', '--stun-only', '--no-tls', '--no-dtls', '--no-cli', '--log-file', 'stdout', '--pidfile', '/dev/null'],
    ...['--userdb', join(host.lab.folder(), 'turndb')],
    ...['--listening-ip', host.ipv4, '--listening-ip', host.ipv6, '--listening-port', String(STUN)],
  ])
  await stun.line((line) => line.includes('Total General servers'))
}

/** Answers each Binding request with one address (RFC 8489, 14.2), and says so. */
const forger = (address: string) => `
const socket = require('node:dgram').createSocket('udp6')
socket.on('message', (request, sender) => {
  const answer = Buffer.from('0101000c' + request.toString('hex', 4, 20) + '002000080001' + '0000' + '00000000', 'hex')
  for (const [i, byte] of '${address}'.split('.').entries()) answer[28 + i] = Number(byte) ^ request[4 + i]
  socket.send(answer, sender.port, sender.address, () => console.log('forged'))
})
socket.bind(${FORGER}, () => console.log('listening'))`

/** Starts on a host what answers every Binding request with one IPv4 address. */
export async function answerStun(host: Host, address: string) {
  const child = host.start([process.execPath, '-e', forger(address)])
  await child.line((line) => line === 'listening')
  return child
}

/**
 * Has a router answer in the name of every STUN server.
 * @param gateway its own address in its users' network, a /24
 * @param address what it says is theirs
 * @returns how many answers it has given, and what ends it
 */
export async function forgeStun(router: Host, gateway: string, address: string) {
  const asked = ['-s', `${gateway}/24`, '-p', 'udp', '--dport', String(STUN)]
  // Not REDIRECT, which takes the first address of the interface: an answer from another one would not be turned back.
  const rule = ['PREROUTING', ...asked, '-j', 'DNAT', '--to-destination', `${gateway}:${FORGER}`]
  const child = await answerStun(router, address)
  await router.must(['iptables', '-t', 'nat', '-A', ...rule])
  return {
    forged: () => child.lines.filter((line) => line === 'forged').length,
    end: async () => {
      await router.must(['iptables', '-t', 'nat', '-D', ...rule])
      await child.end()
    },
  }
}
