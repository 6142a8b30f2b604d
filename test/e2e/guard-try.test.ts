import { join } from 'node:path'
import { afterEach, beforeAll, expect, it } from 'vitest'
import type { Host } from '../lab/host'
import { BIN } from '../root'
import { useGate } from './use-gate'

/* What a guard would do on a machine that has none yet. */

const SSH = 22
const WEB = 443
const DNS = 5_353
const BEHIND = '172.17.0.0/16'
/** Datagrams that are sent: each is counted once. */
const SENT = 3

const { server, client, gate, lab } = useGate(['client', 'aside', 'near'], {
  serve: [SSH, WEB, DNS],
  backend: 'nftables',
  guard: 'all',
  firewall: `public = ["${WEB}/tcp"]\nguard_except = ["spare*", "198.51.100.4", "2001:db8:7::4"]\nguard_networks = ["${BEHIND}"]`,
})
const trial = (...options: string[]) =>
  server.start([process.execPath, join(BIN, 'knockturn'), 'guard', 'try', '--config', gate.config, ...options])
const counting = async (...options: string[]) => {
  const begun = trial(...options)
  await begun.line((line) => line.startsWith('counting'))
  return begun
}
const tables = () => server.must(['nft', 'list', 'tables'])
/** Ends it, and gives what it has counted. */
async function counted(one: Awaited<ReturnType<typeof counting>>, signal: NodeJS.Signals = 'SIGINT') {
  await one.end(signal)
  // The last line may come behind the end.
  await one.line((line) => /^(\d+\t|nothing:|knockturn: error:)/.test(line))
  return one.lines.filter((line) => /^\d/.test(line)).sort()
}
const sees = async (host: Host, address: string, port = SSH) => (await host.connect(address, port)).saw

beforeAll(async () => {
  await gate.daemon.end()
  await server.must(['nft', 'flush', 'ruleset'])
})
afterEach(async () => expect(await tables()).not.toContain('knockturn_try'))

it('drops nothing, and counts each packet that the guard would drop, and no other', async () => {
  const near = lab.hosts.near as Host
  const one = await counting()
  const seen = await Promise.all([
    ...[server.ipv4, server.ipv6].flatMap((address) => [sees(client, address), sees(client, address, WEB), sees(near, address)]),
    sees(server, '127.0.0.1'),
  ])
  expect(seen).toEqual(Array(7).fill('open'))
  for (let n = 0; n < SENT; n++) {
    // Each of a flow of its own.
    expect((await client.echo(server.ipv4, DNS)).saw).toBe('open')
    expect((await near.echo(server.ipv4, DNS)).saw).toBe('open')
  }
  expect(await counted(one)).toEqual(
    [`1\t${SSH}/tcp\t198.51.100.0/24`, `1\t${SSH}/tcp\t2001:db8:7::/48`, `${SENT}\t${DNS}/udp\t198.51.100.0/24`].sort(),
  )
})

it.each(['SIGTERM', 'SIGHUP', 'SIGINT'] as const)('ends in order by %s, and leaves no table', async (signal) => {
  const one = await counting()
  expect(await tables()).toContain('knockturn_try')
  expect(await one.end(signal)).toEqual({ code: 0, signal: null })
  await one.line((line) => line === 'nothing: the guard would have dropped no packet')
})

it('ends when its time is over', async () => {
  const one = await counting('--for', '1s')
  expect(await one.exited).toEqual({ code: 0, signal: null })
})

it('fails in one line where its table is taken away meanwhile', async () => {
  const one = await counting()
  await server.must(['nft', 'flush', 'ruleset'])
  expect(await one.end('SIGINT')).toEqual({ code: 1, signal: null })
  await one.line((line) => line.startsWith('knockturn: error: nft '))
})

it('a second one is refused, and the first counts on', async () => {
  const one = await counting()
  await client.echo(server.ipv4, DNS)
  const second = await server.run([process.execPath, join(BIN, 'knockturn'), 'guard', 'try', '--config', gate.config])
  expect([second.code, second.stderr]).toEqual([
    1,
    expect.stringMatching(/^knockturn: error: table inet knockturn_try is there: another "guard try" .*\nhint: wait .*\n$/),
  ])
  await client.echo(server.ipv4, DNS)
  expect(await counted(one)).toEqual([`2\t${DNS}/udp\t198.51.100.0/24`])
})

it('one that was killed leaves a table that the hint takes away', async () => {
  const one = await counting()
  await one.end('SIGKILL')
  const { stderr } = await server.run([process.execPath, join(BIN, 'knockturn'), 'guard', 'try', '--config', gate.config])
  const [, remedy = ''] = /run "(.*)"/.exec(stderr) ?? []
  await server.must(remedy.split(' '))
  const again = await counting()
  await again.end('SIGINT')
})
