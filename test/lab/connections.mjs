// Makes a host's connections, in its namespace: a program that plain Node runs. See Host in host.ts for what each work gives.

import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { connect, createServer } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { answer } from './answer.mjs'

/** @type {Map<number, import('node:net').Socket>} */
const held = new Map()

/**
 * @param {string} address @param {number} port @param {number} timeoutMs @param {string} [from] @param {number} [localPort]
 * @returns {Promise<{saw: string, ms: number, socket: import('node:net').Socket}>}
 */
const dial = (address, port, timeoutMs, from, localPort) =>
  new Promise((resolve) => {
    const began = performance.now()
    const socket = connect({ host: address, port, ...(from && { localAddress: from }), ...(localPort && { localPort }) })
    const finish = (/** @type {string} */ saw) => {
      clearTimeout(timer)
      resolve({ saw, socket, ms: performance.now() - began })
    }
    // Where we were held up, what has come meanwhile counts: it is heard before the next immediate.
    const timer = setTimeout(() => setImmediate(finish, 'silence'), timeoutMs)
    socket.on('connect', () => finish('open'))
    socket.on('error', (error) => finish(nameOf(error)))
  })

/** @type {Record<string, string>} */
const names = { ECONNREFUSED: 'refused', ABORT_ERR: 'silence' }
const nameOf = (/** @type {any} */ error) => names[error.code] ?? error.code

/** @param {import('node:net').Socket} socket @param {number} timeoutMs */
const reply = async (socket, timeoutMs) => {
  try {
    const [data] = await once(socket, 'data', { signal: AbortSignal.timeout(timeoutMs) })
    return String(data).trim()
  } catch {
    return undefined
  }
}

/** With the arguments of Host's methods. @type {Record<string, (...args: any[]) => unknown>} */
const work = {
  ready() {},

  async connect(address, port, timeoutMs, from, localPort) {
    const { saw, socket, ms } = await dial(address, port, timeoutMs, from, localPort)
    const greeting = saw === 'open' ? await reply(socket, timeoutMs) : undefined
    socket.destroy()
    return { saw, ms, greeting }
  },

  async volley(address, port, connections, at, timeoutMs) {
    // Not by a timer: its programs begin within microseconds of each other.
    while (Date.now() < at);
    const answers = await Promise.all(Array.from({ length: connections }, () => dial(address, port, timeoutMs)))
    for (const { socket } of answers) socket.destroy()
    return answers.map(({ saw }) => saw)
  },

  async echo(address, port, timeoutMs, from) {
    const began = performance.now()
    const socket = createSocket(address.includes(':') ? 'udp6' : 'udp4')
    if (from) socket.bind(0, from)
    socket.connect(port, address)
    let saw = 'open'
    try {
      await once(socket, 'connect')
      socket.send('echo')
      await once(socket, 'message', { signal: AbortSignal.timeout(timeoutMs) })
    } catch (error) {
      saw = nameOf(error)
    }
    socket.close()
    return { saw, ms: performance.now() - began }
  },

  async hold(address, port, timeoutMs, localPort) {
    const { saw, socket } = await dial(address, port, timeoutMs, undefined, localPort)
    if (saw !== 'open') throw new Error(`connecting to ${address} port ${port}: ${saw}`)
    await reply(socket, timeoutMs)
    const id = held.size
    held.set(id, socket)
    return id
  },

  async isAlive(id, timeoutMs) {
    const socket = held.get(id)
    if (!socket?.writable) return false
    socket.write('still there?\n')
    return (await reply(socket, timeoutMs)) === 'still there?'
  },

  release(id) {
    held.get(id)?.destroy()
  },

  async reset(id) {
    held.get(id)?.resetAndDestroy()
    await sleep(50)
  },

  async service(port) {
    const tcp = createServer((socket) => {
      socket.on('error', () => {})
      socket.write(`welcome, this is port ${port}\n`)
      socket.pipe(socket)
    })
    tcp.listen(port, '::')
    const udp = createSocket('udp6')
    udp.on('message', (data, { address, port: sender }) => udp.send(data, sender, address))
    udp.bind(port, '::')
    await Promise.all([once(tcp, 'listening'), once(udp, 'listening')])
  },

  async replay(/** @type {import('./taps').Touch[]} */ touches, destination, from) {
    const of = (/** @type {string} */ name) => touches.filter(({ protocol }) => protocol === name)
    const sockets = of('tcp').map(({ port }) => connect({ host: destination, port, localAddress: from }))
    for (const socket of sockets) socket.on('error', () => {})
    const udp = createSocket(destination.includes(':') ? 'udp6' : 'udp4').bind(0, from)
    await once(udp, 'listening')
    for (const { port, payload = '' } of of('udp'))
      await new Promise((sent) => udp.send(Buffer.from(payload, 'hex'), port, destination, sent))
    udp.close()
    await sleep(50) // each has sent its SYN; none lives to send it again
    for (const socket of sockets) socket.destroy()
  },
}

answer(work)
