import { once } from 'node:events'
import { createServer, type Server, type Socket } from 'node:net'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { Attempts } from '../../src/client/attempts'
import { errorCode } from '../../src/system/fault'

const HERE = '127.0.0.1'
const LONG = 10_000

describe('attempts', () => {
  let server: Server
  let port: number
  let accepted: Socket[]
  /** How those that are no more have ended. */
  let ends: string[]
  beforeEach(async () => {
    accepted = []
    ends = []
    server = createServer({ allowHalfOpen: true }, (socket) => {
      accepted.push(socket.resume())
      socket.once('error', (error) => ends.push(errorCode(error) ?? '')).once('end', () => ends.push('end'))
    })
    await once(server.listen(0, HERE), 'listening')
    const address = server.address()
    port = typeof address === 'object' && address ? address.port : 0
  })
  afterEach(() => {
    for (const socket of accepted) socket.destroy()
    server.close()
  })

  it('give the connection that stands', async () => {
    const attempts = new Attempts(HERE, port)
    attempts.begin()
    const connection = await attempts.within(LONG)
    expect(connection?.remotePort).toBe(port)
    expect(await attempts.within(0)).toBe(connection)
    connection?.destroy()
  })

  it('give one connection, and end all others', async () => {
    const attempts = new Attempts(HERE, port)
    for (let i = 0; i < 5; i++) attempts.begin()
    const connection = await attempts.within(LONG)
    const alive = () => accepted.filter((socket) => !socket.readableEnded && !socket.destroyed)
    const isAlone = () => alive().length === 1 && alive()[0]?.remotePort === connection?.localPort
    expect(await vi.waitUntil(isAlone, { timeout: LONG, interval: 5 })).toBe(true)
    connection?.destroy()
  })

  it('reset those that have come to stand beside it, of which sshd says nothing then', async () => {
    const attempts = new Attempts(HERE, port)
    for (let i = 0; i < 5; i++) attempts.begin()
    const connection = await attempts.within(LONG)
    await vi.waitUntil(() => ends.length === 4, { timeout: LONG, interval: 5 })
    expect(ends).toEqual(Array.from({ length: 4 }, () => 'ECONNRESET'))
    connection?.destroy()
  })

  it('leave our direction open when the service has ended its own', async () => {
    const attempts = new Attempts(HERE, port)
    attempts.begin()
    const connection = await attempts.within(LONG)
    if (accepted.length === 0) await once(server, 'connection')
    accepted[0]?.end()
    await once(connection?.resume() as Socket, 'end')
    expect(connection?.writable).toBe(true)
    connection?.destroy()
  })

  it('give null when the time is over', async () => {
    expect(await new Attempts(HERE, port).within(1)).toBeNull()
  })

  it('give null at once, by no timer of less than 0, when the time has been over for long', async () => {
    const timer = vi.spyOn(globalThis, 'setTimeout')
    const connection = new Attempts(HERE, port).within(-300)
    expect(timer.mock.calls.map(([, milliseconds]) => milliseconds)).toEqual([0])
    timer.mockRestore()
    expect(await connection).toBeNull()
  })

  it('tell that they have been refused', async () => {
    server.close()
    const attempts = new Attempts(HERE, port)
    expect(attempts.refused).toBe(false)
    attempts.begin()
    while (!attempts.refused) expect(await attempts.within(5)).toBeNull()
    expect(attempts.refused).toBe(true)
  })
})
