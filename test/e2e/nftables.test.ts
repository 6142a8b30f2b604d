import { join } from 'node:path'
import { beforeEach, describe, expect, it } from 'vitest'
import { logged } from '../lab/gate'
import { knocked } from '../lab/knocks'
import { until } from '../lab/waiters'
import { BIN } from '../root'
import { useGate } from './use-gate'

/* What the table of nftables is like in the kernel, and what a server with it can do without. */

const SSH = 22
const TABLE = ['inet', 'knockturn']
/** The ports of one /64's packets: of the pool. */
const POOL = [50_000, 50_001, 50_002]

const { server, client, gate } = useGate(['client'], {
  backend: 'nftables',
  guard: ['22/tcp'],
  serve: [SSH],
  keyOptions: ['--services', '22/tcp', '--max', '1h'],
})
beforeEach(() => client.moveOn())

const open = () => knocked(client, gate.daemon, gate.key, '-r', server.ipv4, '-4', '-p', String(SSH), '-t', '1h')
const list = (...what: string[]) => server.must(['nft', 'list', what[0] ?? '', ...TABLE, ...what.slice(1)])

it('a lease counts the packets that it lets in', async () => {
  await open()
  const counted = async () =>
    Number(new RegExp(`${client.ipv4} \\. tcp \\. ${SSH} counter packets (\\d+)`).exec(await list('set', 'open4_32'))?.[1])
  expect(await counted()).toBe(0)
  expect((await client.connect(server.ipv4, SSH)).saw).toBe('open')
  expect(await counted()).toBe(1)
})

it('the addresses of one /64 are one source, of which the kernel has room for 262,144', async () => {
  const addresses = POOL.map((_, i) => `2001:db8:66:1::${i + 1}`)
  for (const address of addresses) await client.addAddress(`${address}/128`)
  for (const [i, port] of POOL.entries()) await client.replay([{ protocol: 'tcp', port }], server.ipv6, addresses[i])
  // A source is forgotten when it has been silent for two seconds.
  const sources = await list('set', 'sources6')
  expect(sources.match(/2001:db8:66\S*/g)).toEqual(['2001:db8:66:1::'])
  expect(sources).toMatch(/2001:db8:66:1:: limit rate over 2000\/second burst 2000 packets/)
  expect([sources, await list('set', 'sources4')].map((set) => /size (\d+)/.exec(set)?.[1])).toEqual(['262144', '262144'])
})

describe('after a flush', () => {
  it('the rules are back in a transaction of their own, and the leases in a later one', async () => {
    await open()
    const monitor = server.start(['nft', 'monitor'])
    // It says nothing before something changes.
    await until(async () => {
      await server.must(['nft', 'add table inet other; delete table inet other'])
      return monitor.lines.length > 0
    }, 'nft tells of changes')
    const since = monitor.lines.length
    await server.must(['nft', 'flush', 'ruleset'])
    const isLease = (line: string) => line.startsWith('add element inet knockturn open4_32 ') && line.includes(client.ipv4)
    await monitor.line(isLease, since)
    const lines = monitor.lines.slice(since)
    await monitor.end()
    const shut = lines.findIndex((line) => /^add rule inet knockturn gate .* drop /.test(line))
    const ends = lines.flatMap((line, i) => (line.startsWith('# new generation') ? i : []))
    expect(shut).toBeGreaterThan(0)
    expect(ends.filter((end) => shut < end && end < lines.findIndex(isLease))).not.toEqual([])
  })
})

it('a server needs no iptables', async () => {
  await gate.daemon.end()
  // As if no package had put it there.
  const without = [
    ...['unshare', '--mount', 'sh', '-c'],
    'mount --bind /dev/null "$(readlink -f "$(command -v iptables)")" && ! command -v iptables >/dev/null && exec "$@"',
    'sh',
  ]
  const firewall = (...args: string[]) => server.must([...without, join(BIN, 'knockturn'), 'firewall', ...args])
  await firewall('remove')
  await firewall('install', '--config', gate.config)
  const { code, stderr } = await server.run([...without, ...gate.command, '--check'])
  expect([code, stderr]).toEqual([0, ''])
  gate.daemon = server.start([...without, ...gate.command])
  await gate.daemon.line(logged('ready'))
  await open()
  expect((await client.connect(server.ipv4, SSH)).saw).toBe('open')
  expect(await firewall('show')).toContain(client.ipv4)
  expect(gate.daemon.lines.filter((line) => line.includes('iptables'))).toEqual([])
  await gate.daemon.end()
  await firewall('remove')
  expect(await server.must(['nft', 'list', 'tables'])).not.toContain('knockturn')
})
