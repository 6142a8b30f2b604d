import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, beforeEach, describe, expect, it } from 'vitest'
import type { Host } from '../lab/host'
import { writePcap, writePcap6 } from '../replay/packets'
import { useGate } from './use-gate'

const PORT = 50_000
/** What is heard of one source at once, and of all together in the kernel's log; each again within a second. */
const [EACH, ALL] = [2_000, 10_000]
/** Packets of a test: far more than a second's. */
const MANY = 30_000

const { server, client, gate } = useGate(['client'], { backend: 'iptables' })
let way: { from: string; to: string }
let files = 0

beforeAll(async () => {
  await gate.daemon.end()
  await server.must(['ip', 'route', 'add', '10.128.0.0/9', 'dev', 'eth0'])
  const mac = async (host: Host) => (await host.must(['cat', '/sys/class/net/eth0/address'])).trim()
  way = { from: await mac(client), to: await mac(server) }
})

/** Sends packets as fast as it goes, and gives the seconds that it has taken at most. */
const send = async (file: string) => {
  const began = performance.now()
  await client.must(['tcpreplay', '-q', '--preload-pcap', '--topspeed', '-i', 'eth0', file])
  return (performance.now() - began) / 1_000
}
const file = () => join(gate.folder, `${++files}.pcap`)
const from4 = (sources: number[]) =>
  send(
    writePcap(
      file(),
      sources.map((n) => ({ source: 0x0a80_0000 + n, port: PORT })),
      { ...way, destination: server.ipv4, destination6: server.ipv6 },
    ),
  )
const from6 = (sources: string[]) =>
  send(
    writePcap6(
      file(),
      sources.map((source) => ({ source, port: PORT })),
      { ...way, destination: server.ipv6 },
    ),
  )
/** How many packets the log rules of a family have logged. */
const logged = async (iptables: string) => {
  const rules = await server.must([iptables, '-v', '-S', 'KNOCKTURN-TAPS'])
  return [...rules.matchAll(/-c (\d+) \d+ -j (NF)?LOG/g)].reduce((sum, [, packets]) => sum + Number(packets), 0)
}
const install = (config = gate.config) => gate.knockturn('firewall', 'install', '--config', config)
const numbers = (count: number, first = 1) => Array.from({ length: count }, (_, i) => first + i)
const inOne64 = (count: number) => numbers(count).map((n) => `2001:db8:67::${n.toString(16)}`)

describe('the log rules', () => {
  beforeEach(() => install())

  it('hear each of many IPv4 addresses', async () => {
    await from4(numbers(MANY))
    expect(await logged('iptables')).toBe(MANY)
  })

  it('hear many IPv6 networks', async () => {
    await from6(numbers(MANY).map((n) => `2001:db8:${n.toString(16)}::1`))
    expect(await logged('ip6tables')).toBe(MANY)
  })

  it('hear the addresses of a /64 as one, also where rules of another limit were in force', async () => {
    const rules = (await server.must(['ip6tables', '-S', 'KNOCKTURN-TAPS'])).split('\n').filter((rule) => rule.startsWith('-A'))
    const before = rules.map((rule) => rule.replace(/knockturn-64-\d+/, 'knockturn').replace(' --hashlimit-srcmask 64', ''))
    const script = ['*filter', ':KNOCKTURN-TAPS - [0:0]', ...before, 'COMMIT', ''].join('\n')
    await server.must(['ip6tables-restore', '--noflush'], { input: script })
    await from6(inOne64(MANY))
    expect(await logged('ip6tables')).toBe(MANY)
    await install()
    const seconds = await from6(inOne64(MANY))
    expect(await logged('ip6tables')).toBeLessThanOrEqual(EACH * (1 + seconds))
  })
})

describe('the log rules of the kernel’s log', () => {
  let config: string

  beforeAll(() => {
    config = join(gate.folder, 'log.toml')
    const taps = '[taps]\nsource = "stdin"\ntarget = "log"\nprefix = "KNOCK: "\n'
    writeFileSync(config, readFileSync(gate.config, 'utf8').replace(/\[taps\][^[]*/, taps))
  })
  beforeEach(() => install(config))

  // First, when nothing has been taken of what all may have.
  it('have as much for others when one address sends without end', async () => {
    await from4(Array(MANY).fill(1))
    const before = await logged('iptables')
    await from4(numbers(ALL / 2, 2))
    expect((await logged('iptables')) - before).toBe(ALL / 2)
  })

  it('write no more than so many lines a second, whoever sends', async () => {
    const seconds = await from4(numbers(MANY))
    expect(await logged('iptables')).toBeLessThanOrEqual(ALL * (1 + seconds))
  })
})
