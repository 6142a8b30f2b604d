// Does and times what it is asked to, in a host's namespace: a program that plain Node runs. See hand.ts for what each work gives.
//
// All moments are milliseconds of the machine's monotonic clock, which every process here shares.

import { spawn } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { connect } from 'node:net'
import { answer } from '../lab/answer.mjs'

/** A door that has not opened after this many milliseconds stays closed. */
const PATIENCE = 5_000

const moment = () => Number(process.hrtime.bigint()) / 1e6

/** @type {Record<string, (...args: any[]) => unknown>} */
const work = {
  async serve(first, count) {
    for (let port = first; port < first + count; port++) {
      const socket = createSocket('udp4')
      socket.on('message', (data, { address, port: sender }) => socket.send(data, sender, address))
      socket.bind(port)
      await once(socket, 'listening')
    }
  },

  async opened(address, port, spacing) {
    const socket = createSocket('udp4')
    socket.connect(port, address)
    await once(socket, 'connect')
    /** @type {number | undefined} */
    let opened
    socket.on('message', (data) => {
      opened ??= data.readDoubleLE()
    })
    const pause = new Int32Array(new SharedArrayBuffer(4))
    const end = moment() + PATIENCE
    while (opened === undefined && moment() < end) {
      const data = Buffer.alloc(8)
      data.writeDoubleLE(moment())
      socket.send(data)
      // A timer's resolution is a whole millisecond; this wait is as short as requested, and no work.
      Atomics.wait(pause, 0, 0, spacing)
      await new Promise(setImmediate)
    }
    socket.close()
    if (opened === undefined) throw new Error(`${address} port ${port} did not open within ${PATIENCE} ms`)
    return opened
  },

  async execute([program, ...args]) {
    const began = moment()
    const child = spawn(program, args, { stdio: ['ignore', 'ignore', 'pipe'] })
    let said = ''
    child.stderr.setEncoding('utf8').on('data', (text) => {
      said += text
    })
    const [code] = await once(child, 'exit')
    if (code !== 0) throw new Error(`${program} ${args.join(' ')}: exit ${code}: ${said}`)
    return { began, ended: moment() }
  },

  async touch(address, ports) {
    const began = moment()
    const sockets = ports.map((/** @type {number} */ port) => connect({ host: address, port }).on('error', () => {}))
    setTimeout(() => {
      for (const socket of sockets) socket.destroy()
    }, 50)
    return began
  },
}

answer(work)
