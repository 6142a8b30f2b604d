import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'
import { Fault } from '../../src/host/fault'
import { look, resolveHost, touchTcp, touchUdp } from '../../src/host/transport'

const HERE = '127.0.0.1'
/** An address that no packet can be sent to from anywhere: the limited broadcast is none for TCP, and not allowed for UDP. */
const NOWHERE = '255.255.255.255'

const closing: (() => void)[] = []
afterEach(() => {
  for (const close of closing.splice(0)) close()
})

/** A TCP service; `touched` resolves when `count` connections have come, to their ports in order. */
async function listen(ports: number[], host = HERE) {
  const heard: number[] = []
  const waiting: { count: number; resolve: (ports: number[]) => void }[] = []
  const servers = await Promise.all(
    ports.map(async (port) => {
      const server = createServer((socket) => {
        heard.push((server.address() as AddressInfo).port)
        socket.on('error', () => {}).resume()
        for (const { count, resolve } of waiting) if (heard.length >= count) resolve([...heard])
      })
      server.listen(port, host)
      await once(server, 'listening')
      closing.push(() => server.close())
      return (server.address() as AddressInfo).port
    }),
  )
  const touched = (count: number) =>
    new Promise<number[]>((resolve) => {
      if (heard.length >= count) resolve([...heard])
      else waiting.push({ count, resolve })
    })
  return { ports: servers, heard, touched }
}

/** UDP sockets that note what comes, as `port:length`. */
async function receive(count: number) {
  const heard: string[] = []
  let told = () => {}
  const ports = await Promise.all(
    Array.from({ length: count }, async () => {
      const socket = createSocket('udp4').bind(0, HERE)
      await once(socket, 'listening')
      closing.push(() => socket.close())
      const { port } = socket.address()
      socket.on('message', (message) => {
        heard.push(`${port}:${message.length}`)
        told()
      })
      return port
    }),
  )
  const all = new Promise<void>((resolve) => {
    told = () => heard.length >= count && resolve()
  })
  return { ports, heard, all }
}

/** A port on which nobody listens. */
async function closedPort(): Promise<number> {
  const server = createServer().listen(0, HERE)
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}

describe('touching by TCP', () => {
  it.each([0, 5])('connects to each port once (pace %i ms)', async (pace) => {
    const { ports, touched, heard } = await listen(Array(12).fill(0))
    await touchTcp(HERE, ports, pace)
    await touched(ports.length)
    expect(heard.toSorted()).toEqual(ports.toSorted())
  })

  it('goes in order', async () => {
    const { ports, touched } = await listen(Array(12).fill(0))
    const order = [...ports].reverse()
    await touchTcp(HERE, order, 5)
    expect(await touched(order.length)).toEqual(order)
  })

  it('does not mind closed ports', async () => {
    await expect(touchTcp(HERE, [await closedPort()], 0)).resolves.toBeUndefined()
  })

  it('does not stop at a closed port', async () => {
    const { ports, touched } = await listen([0])
    await touchTcp(HERE, [await closedPort(), ...ports], 0)
    expect(await touched(1)).toEqual(ports)
  })

  it('fails when nothing could be sent', async () => {
    const touching = touchTcp(NOWHERE, [50_000, 50_001], 0)
    await expect(touching).rejects.toThrow(Fault)
    await expect(touching).rejects.toThrow(/^255\.255\.255\.255: nothing could be sent: .*: check this machine's network$/)
  })
})

describe('touching by UDP', () => {
  it.each([0, 5])('sends each port one empty datagram (pace %i ms)', async (pace) => {
    const { ports, heard, all } = await receive(12)
    await touchUdp(HERE, ports, pace)
    await all
    expect(heard.toSorted()).toEqual(ports.map((port) => `${port}:0`).toSorted())
  })

  it('goes in order', async () => {
    const { ports, heard, all } = await receive(12)
    const order = [...ports].reverse()
    await touchUdp(HERE, order, 5)
    await all
    expect(heard).toEqual(order.map((port) => `${port}:0`))
  })

  it('does not mind closed ports', async () => {
    await expect(touchUdp(HERE, [9, 9, 9], 5)).resolves.toBeUndefined()
  })

  it('fails when nothing could be sent', async () => {
    const touching = touchUdp(NOWHERE, [50_000, 50_001], 0)
    await expect(touching).rejects.toThrow(Fault)
    await expect(touching).rejects.toThrow(/^255\.255\.255\.255: nothing could be sent: .*: check this machine's network$/)
  })
})

describe('a service', () => {
  it('answers', async () => {
    const { ports } = await listen([0])
    expect(await look(HERE, ports[0], 5_000)).toBe('open')
  })

  it('does not answer where nobody listens', async () => {
    expect(await look(HERE, await closedPort(), 5_000)).toBe('refused')
  })
})

describe('a host', () => {
  it.each([
    ['127.0.0.1', 0],
    ['127.0.0.1', 4],
    ['::1', 0],
    ['::1', 6],
  ] as const)('%s is its own address (family %i)', async (host, family) => {
    expect(await resolveHost(host, family)).toBe(host)
  })

  it.each([
    ['127.0.0.1', 6, 'an IPv6 address'],
    ['::1', 4, 'an IPv4 address'],
    ['no such host', 0, 'an address'],
  ] as const)('%s has no address of family %i', async (host, family, what) => {
    await expect(resolveHost(host, family)).rejects.toThrow(new RegExp(`^${host}: expected .*${what}`))
  })
})
