import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'
import { resolveHost } from '../../src/client/host'
import { look } from '../../src/client/look'
import { Touches } from '../../src/client/touches'
import { inZoneOf, localAddressTo, touchTcp, touchUdp } from '../../src/client/transport'
import { Fault } from '../../src/system/fault'

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
  const sources: (number | undefined)[] = []
  const waiting: { count: number; resolve: (ports: number[]) => void }[] = []
  const servers = await Promise.all(
    ports.map(async (port) => {
      const server = createServer((socket) => {
        heard.push((server.address() as AddressInfo).port)
        sources.push(socket.remotePort)
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
  return { ports: servers, heard, sources, touched }
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

describe('touching from an address of this machine', () => {
  const OTHER = '127.0.0.77'

  it('leaves by TCP from that', async () => {
    const sources: (string | undefined)[] = []
    const server = createServer((socket) => sources.push(socket.remoteAddress) && socket.on('error', () => {})).listen(0, HERE)
    await once(server, 'listening')
    closing.push(() => server.close())
    const connection = once(server, 'connection')
    await touchTcp(HERE, [(server.address() as AddressInfo).port], 0, new Touches(HERE), OTHER)
    await connection
    expect(sources).toEqual([OTHER])
  })

  it('leaves by UDP from that', async () => {
    const socket = createSocket('udp4').bind(0, HERE)
    await once(socket, 'listening')
    closing.push(() => socket.close())
    const heard = once(socket, 'message')
    await touchUdp(HERE, [socket.address().port], 0, new Touches(HERE), OTHER)
    const [, { address }] = await heard
    expect(address).toBe(OTHER)
  })

  it.each([
    ['TCP', (from: string) => touchTcp(HERE, [9, 10], 0, new Touches(HERE), from)],
    ['UDP', (from: string) => touchUdp(HERE, [9, 10], 0, new Touches(HERE), from)],
  ])('fails by %s where this machine does not have it', async (_, touch) => {
    await expect(touch('192.0.2.1')).rejects.toThrow(/^127\.0\.0\.1: nothing could be sent: .*EADDRNOTAVAIL/)
  })

  it('goes on from the one by which it has left', async () => {
    expect(await localAddressTo(HERE)).toBe(HERE)
  })

  it('has the zone of the link where the address is good on that alone', () => {
    expect([inZoneOf('fe80::1%eth0', 'fe80::2'), inZoneOf('2001:db8::1', '2001:db8::2')]).toEqual(['fe80::2%eth0', '2001:db8::2'])
  })
})

describe('touching by TCP', () => {
  it.each([0, 5])('connects to each port once (pace %i ms)', async (pace) => {
    const { ports, touched, heard } = await listen(Array(12).fill(0))
    await touchTcp(HERE, ports, pace, new Touches(HERE))
    await touched(ports.length)
    expect(heard.toSorted()).toEqual(ports.toSorted())
  })

  it('goes in order', async () => {
    const { ports, touched } = await listen(Array(12).fill(0))
    const order = [...ports].reverse()
    await touchTcp(HERE, order, 5, new Touches(HERE))
    expect(await touched(order.length)).toEqual(order)
  })

  it('ends where no more are wanted', async () => {
    const { ports, touched, heard } = await listen(Array(12).fill(0))
    const touches = new Touches(HERE)
    const touching = touchTcp(HERE, ports, 20, touches)
    await touched(1)
    touches.end()
    await touching
    expect(heard.length).toBeLessThan(ports.length)
  })

  it('does not mind closed ports', async () => {
    await expect(touchTcp(HERE, [await closedPort()], 0, new Touches(HERE))).resolves.toBeUndefined()
  })

  it('does not stop at a closed port', async () => {
    const { ports, touched } = await listen([0])
    await touchTcp(HERE, [await closedPort(), ...ports], 0, new Touches(HERE))
    expect(await touched(1)).toEqual(ports)
  })

  describe('from one local port', () => {
    /** Takes local ports without sharing them, unless they are taken so already. */
    const take = (ports: readonly number[]) => Promise.allSettled(ports.map((port) => listen([port], '0.0.0.0')))
    /** The local ports that these services were touched from, after so many touches. */
    async function from(touches: Touches, times = 1) {
      const { ports, sources, touched } = await listen(Array(12).fill(0))
      await Promise.all(Array.from({ length: times }, () => touchTcp(HERE, ports, 0, touches)))
      await touched(ports.length * times)
      return sources
    }

    it('goes to all', async () => {
      expect(new Set(await from(new Touches(HERE))).size).toBe(1)
    })

    it('goes from the next where another program has that', async () => {
      const touches = new Touches(HERE)
      const [first, ...others] = touches.sources
      await take([first])
      const [source, ...sources] = new Set(await from(touches))
      expect([others.includes(source as number), sources]).toEqual([true, []])
    })

    it('goes from the next where the same is still on its way', async () => {
      const sources = await from(new Touches(HERE), 2)
      expect([sources.length, new Set(sources).size]).toEqual([24, 2])
    })

    it('goes from ports that the system chooses where all are taken', async () => {
      const touches = new Touches(HERE)
      await take(touches.sources.filter((port) => port > 0))
      const sources = await from(touches)
      expect([sources.length, sources.filter((port) => port && touches.sources.includes(port))]).toEqual([12, []])
    })
  })

  it('fails when nothing could be sent', async () => {
    const touching = touchTcp(NOWHERE, [50_000, 50_001], 0, new Touches(HERE))
    await expect(touching).rejects.toThrow(Fault)
    await expect(touching).rejects.toThrow(
      /^255\.255\.255\.255: nothing could be sent: \w+ E[A-Z]+ 255\.255\.255\.255:\d+( - Local \(\S+\))?$/,
    )
    await expect(touching).rejects.toMatchObject({ hint: "check this machine's network" })
  })
})

describe('touching by UDP', () => {
  it.each([0, 5])('sends each port one empty datagram (pace %i ms)', async (pace) => {
    const { ports, heard, all } = await receive(12)
    await touchUdp(HERE, ports, pace, new Touches(HERE))
    await all
    expect(heard.toSorted()).toEqual(ports.map((port) => `${port}:0`).toSorted())
  })

  it('goes in order', async () => {
    const { ports, heard, all } = await receive(12)
    const order = [...ports].reverse()
    await touchUdp(HERE, order, 5, new Touches(HERE))
    await all
    expect(heard).toEqual(order.map((port) => `${port}:0`))
  })

  it('ends where no more are wanted', async () => {
    const { ports, heard } = await receive(12)
    const touches = new Touches(HERE)
    const touching = touchUdp(HERE, ports, 20, touches)
    touches.end()
    await touching
    // The first has left at once.
    expect(heard.length).toBeLessThan(2)
  })

  it('does not mind closed ports', async () => {
    await expect(touchUdp(HERE, [9, 9, 9], 5, new Touches(HERE))).resolves.toBeUndefined()
  })

  it('fails when nothing could be sent', async () => {
    const touching = touchUdp(NOWHERE, [50_000, 50_001], 0, new Touches(NOWHERE))
    await expect(touching).rejects.toThrow(Fault)
    await expect(touching).rejects.toThrow(
      /^255\.255\.255\.255: nothing could be sent: \w+ E[A-Z]+ 255\.255\.255\.255:\d+( - Local \(\S+\))?$/,
    )
    await expect(touching).rejects.toMatchObject({ hint: "check this machine's network" })
  })
})

describe('a service', () => {
  it('answers', async () => {
    const { ports } = await listen([0])
    expect(await look(HERE, ports[0], 5_000)).toBe('open')
  })

  it('is left by a reset, of which sshd says nothing', async () => {
    const ended = new Promise((resolve) => {
      const server = createServer((socket) => socket.resume().once('error', resolve).once('end', resolve)).listen(
        0,
        HERE,
        async () => {
          expect(await look(HERE, (server.address() as AddressInfo).port, 1_000)).toBe('open')
        },
      )
      closing.push(() => server.close())
    })
    expect(await ended).toMatchObject({ code: 'ECONNRESET' })
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
    ['127.0.0.1', 6, 'expected an IPv6 address, got an IPv4 one', 'leave out -6'],
    ['::1', 4, 'expected an IPv4 address, got an IPv6 one', 'leave out -4'],
    ['no such host', 0, 'cannot be resolved: ', 'give the name or address alone, without port or brackets'],
    ['gate.example:22', 0, 'cannot be resolved: ', 'give the name or address alone, without port or brackets'],
  ] as const)('%s has no address of family %i', async (host, family, what, hint) => {
    const message = expect.stringMatching(new RegExp(`^${host}: ${what}`))
    await expect(resolveHost(host, family)).rejects.toMatchObject({ message, hint })
  })
})
