import { join } from 'node:path'
import { beforeEach, describe, expect, it } from 'vitest'
import { until } from '../lab/waiters'
import { useGate } from './use-gate'

/* `knockturn listen` on a server whose firewall drops what it listens for. */

const SSH = 22
const KNOCKTURN = join(import.meta.dirname, '../../bin/knockturn')
const { server, client, stranger } = useGate(['client', 'stranger'], { serve: [SSH] })

beforeEach(() => client.moveOn())

/** Listens while something is sent, until so many kinds of packets have come. */
async function heard(from: string, send: () => Promise<unknown>, kinds: number, ...options: string[]) {
  const child = server.start([process.execPath, KNOCKTURN, 'listen', '--from', from, '--for', '1m', ...options])
  await child.line((line) => line.startsWith('listening for'))
  await send()
  await until(
    () => child.lines.filter((line) => / to .* (tcp|udp)/.test(line)).length >= kinds,
    `${kinds} kinds of packets arrive`,
  )
  await child.end('SIGINT')
  return { lines: child.lines, code: (await child.exited).code }
}

const send = (protocol: 'tcp' | 'udp', ...ports: number[]) =>
  client.replay(
    ports.map((port) => ({ protocol, port })),
    server.ipv4,
  )

describe('what arrives from an address', () => {
  it('is shown port by port, whatever the firewall does with it, and counted at the end', async () => {
    const { lines, code } = await heard(
      client.ipv4,
      async () => {
        await send('tcp', 443, 50_000)
        await send('udp', 53, 50_001)
      },
      4,
    )
    const shown = lines.filter((line) => line.includes(' to ')).map((line) => line.replace(/^\S+ +/, ''))
    const name = `${client.ipv4} to ${server.ipv4}`
    expect(new Set(shown)).toEqual(new Set([`${name}  tcp 443`, `${name}  tcp 50000`, `${name}  udp 53`, `${name}  udp 50001`]))
    expect(lines.slice(-3)).toEqual([
      `arrived from ${client.ipv4}:`,
      expect.stringMatching(/^ {2}tcp: 443\b.*, 50000\b/),
      expect.stringMatching(/^ {2}udp: 53\b.*, 50001\b/),
    ])
    expect(code).toBe(0)
  })

  it('is nothing where a network lets nothing through but one port', async () => {
    await client.must(['iptables', '-A', 'OUTPUT', '-p', 'tcp', '--dport', '50000:65535', '-j', 'DROP'])
    try {
      const { lines } = await heard(client.ipv4, () => send('tcp', 50_000, 50_001, 443), 1)
      expect(lines.at(-1)).toMatch(/^ {2}tcp: 443\b[^,]*$/)
    } finally {
      await client.must(['iptables', '-D', 'OUTPUT', '-p', 'tcp', '--dport', '50000:65535', '-j', 'DROP'])
    }
  })

  it('is nothing of what others send', async () => {
    const { lines } = await heard(
      client.ipv4,
      async () => {
        await stranger.replay([{ protocol: 'tcp', port: 443 }], server.ipv4)
        await send('tcp', 444)
      },
      1,
    )
    expect(lines.filter((line) => line.includes(stranger.ipv4))).toEqual([])
  })

  it('is heard by IPv6, and of a whole block', async () => {
    const { lines } = await heard('2001:db8:7::/64', () => client.replay([{ protocol: 'tcp', port: 443 }], server.ipv6), 1)
    expect(lines.find((line) => line.endsWith('tcp 443'))).toContain(`${client.ipv6} to ${server.ipv6}`)
  })

  it('is told as JSON at the end', async () => {
    const listening = server.run([process.execPath, KNOCKTURN, 'listen', '--from', client.ipv4, '--for', '4s', '--json'])
    const isOver = { value: false }
    listening.then(() => {
      isOver.value = true
    })
    await until(async () => {
      await send('tcp', 443)
      return isOver.value
    }, 'it ends by itself')
    const { stdout, code } = await listening
    expect([code, JSON.parse(stdout)]).toMatchObject([
      0,
      {
        from: client.ipv4,
        left: 0,
        arrivals: [{ source: client.ipv4, destination: server.ipv4, protocol: 'tcp', port: 443, kind: 'new' }],
      },
    ])
  })
})

describe('an address from which nothing arrives', () => {
  it('is said to be silent, with what that means, and exit code 1', async () => {
    const ended = await server.run([process.execPath, KNOCKTURN, 'listen', '--from', '203.0.113.7', '--for', '1s'])
    expect([ended.code, ended.stdout]).toEqual([1, expect.stringMatching(/nothing arrived from 203.0.113.7\nhint: .*NAT/)])
  })
})
