// Sends datagrams from a host's addresses, each to several others back to back: a program that plain Node runs.

import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { answer } from './answer.mjs'

/** By the address that it sends from. @type {Map<string, Promise<import('node:dgram').Socket>>} */
const sockets = new Map()

/** @param {string} from */
async function open(from) {
  const socket = createSocket('udp4').bind(0, from)
  // A network that is cut off says so: the datagram is lost.
  socket.on('error', () => {})
  await once(socket, 'listening')
  return socket
}

/** @param {string} from */
function socketOf(from) {
  const socket = sockets.get(from) ?? open(from)
  sockets.set(from, socket)
  return socket
}

answer({
  ready() {},

  /** @param {{payload: string, from: string, to: string, port: number}[]} datagrams as they follow each other; payload in hex */
  async post(datagrams) {
    const from = await Promise.all(datagrams.map((datagram) => socketOf(datagram.from)))
    for (const [i, { payload, to, port }] of datagrams.entries()) from[i]?.send(Buffer.from(payload, 'hex'), port, to)
  },
})
