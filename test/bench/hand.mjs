// A process in a host's namespace that does and times what it is asked to, and the other end of it.
//
// All moments are milliseconds of the machine's monotonic clock, which every process here shares.

import { spawn } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { connect } from 'node:net'
import { fileURLToPath } from 'node:url'

const HERE = fileURLToPath(import.meta.url)
/** A door that has not opened after this many milliseconds stays shut. */
const PATIENCE = 5_000

const moment = () => Number(process.hrtime.bigint()) / 1e6

/** @typedef {Awaited<ReturnType<typeof makeHand>>} Hand */

/** A hand in a host's namespace; it goes with the lab. @param {import('../e2e/lab.mjs').Host} host */
export async function makeHand(host) {
  const argv = ['netns', 'exec', host.namespace, process.execPath, HERE, 'hand']
  const child = spawn('ip', argv, {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    // Reading these takes node longer than all the rest of its start.
    env: { ...process.env, NODE_EXTRA_CA_CERTS: undefined },
  })
  host.lab.endings.push(() => child.kill('SIGKILL'))
  /** @type {Map<number, {resolve: (result: any) => void, reject: (error: Error) => void}>} */
  const calls = new Map()
  child.on('message', (/** @type {any} */ { id, result, error }) => {
    const call = calls.get(id)
    calls.delete(id)
    if (error) call?.reject(new Error(`${host.name}: ${error}`))
    else call?.resolve(result)
  })
  let asked = 0
  /** @param {string} work @param {unknown[]} args @returns {Promise<any>} */
  const ask = (work, ...args) =>
    new Promise((resolve, reject) => {
      calls.set(++asked, { resolve, reject })
      child.send({ id: asked, work, args })
    })
  return {
    /** Answers datagrams on ports. @param {number} first @param {number} count */
    serve: (first, count) => ask('serve', first, count),
    /**
     * Sends datagrams to a port until one is answered.
     * @param {string} address @param {number} port @param {number} spacing milliseconds between two of them
     * @returns {Promise<number>} when that one was sent
     */
    opened: (address, port, spacing) => ask('opened', address, port, spacing),
    /** Runs a command to its end. @param {string[]} argv @returns {Promise<{began: number, ended: number}>} */
    execute: (argv) => ask('execute', argv),
    /** Touches ports by TCP. @param {string} address @param {number[]} ports @returns {Promise<number>} just before the first */
    touch: (address, ports) => ask('touch', address, ports),
  }
}

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
      // A timer's grain is a whole millisecond; this wait is as short as it says, and no work.
      Atomics.wait(pause, 0, 0, spacing)
      await new Promise(setImmediate)
    }
    socket.close()
    if (opened === undefined) throw new Error(`${address} port ${port} has not opened within ${PATIENCE} ms`)
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

if (process.argv[1] === HERE && process.argv[2] === 'hand') {
  process.on('message', async (/** @type {any} */ { id, work: name, args }) => {
    try {
      process.send?.({ id, result: await work[name]?.(...args) })
    } catch (error) {
      process.send?.({ id, error: String(error) })
    }
  })
  process.on('disconnect', () => process.exit())
}
