import { fileURLToPath } from 'node:url'
import { beforeEach, describe, expect, it } from 'vitest'
import { usualBackend } from '../lab/backend'
import { logged } from '../lab/gate'
import type { Host } from '../lab/host'
import { knock, knocked, verdict } from '../lab/knocks'
import type { Touch } from '../lab/taps'
import { until } from '../lab/waiters'
import { useGate } from './use-gate'

const SSH = 22
const WEB = 2443
const TIMES = 30
const KNOCKTURN = fileURLToPath(new URL('../../bin/knockturn', import.meta.url))

const { server, client, stranger, gate, lab } = useGate(['client', 'stranger'], {
  serve: [SSH, WEB],
  keyOptions: ['--services', `${SSH}/tcp,${WEB}/tcp`, '--max', '1h', '--no-bind-source', '--allow-until-closed'],
  more: '[datagram]\nports = [53, 443]\n',
})

beforeEach(async () => {
  await client.moveOn()
  await stranger.moveOn()
})

type Family = 'ipv4' | 'ipv6'
const sees = async (host: Host, family: Family = 'ipv4') => (await host.connect(server[family], SSH)).saw
const flag = (family: Family) => (family === 'ipv4' ? '-4' : '-6')

/** A datagram knock that is not sent. */
async function composed(port = 53, ...options: string[]): Promise<Required<Touch>> {
  const dryRun = knock(gate, '--dry-run', '--json', '--datagram', String(port), '-p', String(SSH), ...options)
  const { ports, payload } = JSON.parse(await client.must(dryRun))
  return { protocol: 'udp', port: ports[0], payload }
}
/** Sends a datagram knock, and gives what was said of it. */
const said = (host: Host, touch: Touch, family: Family = 'ipv4') =>
  verdict(gate.daemon, () => host.replay([touch], server[family]))
/** What was sent before has been dealt with when this other knock from there has opened another port. */
async function followUp(host: Host): Promise<void> {
  expect(await knocked(host, gate.daemon, gate.key, '-p', String(WEB))).toMatchObject({ msg: 'accepted' })
}
const refusals = (since: number) => gate.daemon.lines.slice(since).filter((line) => logged('refused')(line))

describe('a knock in one datagram', () => {
  it.each([
    ['ipv4', 53],
    ['ipv4', 443],
    ['ipv6', 53],
    ['ipv6', 443],
  ] as const)('opens for who sent it (%s, port %i)', async (family, port) => {
    const opened = await knocked(
      client,
      gate.daemon,
      gate.key,
      ...['-r', server[family], flag(family), '--datagram', String(port), '-p', String(SSH)],
    )
    expect(opened).toMatchObject({ msg: 'accepted', address: client[family], service: `${SSH}/tcp` })
    expect([await sees(client, family), await sees(stranger, family)]).toEqual(['open', 'silence'])
  })

  it.each(['ipv4', 'ipv6'] as const)('opens for an address of the other family that it names (%s)', async (family) => {
    const other = family === 'ipv4' ? 'ipv6' : 'ipv4'
    const touch = await composed(53, '-i', client[other])
    expect(await said(client, touch, family)).toMatchObject({ msg: 'accepted', address: client[other] })
    expect([await sees(client, other), await sees(client, family)]).toEqual(['open', 'silence'])
  })

  it('closes', async () => {
    await knocked(client, gate.daemon, gate.key, '--datagram', '53', '-p', String(SSH))
    expect(await sees(client)).toBe('open')
    await knocked(client, gate.daemon, gate.key, '--datagram', '443', '--close')
    expect(await sees(client)).toBe('silence')
  })

  it('opens 30 times of 30 where a tenth of all packets is lost, with the client that waits', async () => {
    await server.lose(0.1)
    let opened = 0
    for (let n = 0; n < TIMES; n++) {
      await client.moveOn()
      const { code } = await client.run(knock(gate, '--datagram', n % 2 ? '53' : '443', '-p', String(SSH), '--wait', '15'))
      if (code === 0) opened++
    }
    await server.lose(0)
    expect(opened).toBe(TIMES)
  })

  it('opens by a later pass where the first was lost', async () => {
    const tape = await lab.wire.capture('client', 128, 'udp and dst port 443')
    await server.lose(1)
    const knocking = client.run(knock(gate, '--datagram', '443', '-p', String(SSH), '--wait', '30'))
    await until(async () => (await tape.taps()).length > 0, 'the first pass on the tape').finally(() => server.lose(0))
    expect((await knocking).code).toBe(0)
    expect(await sees(client)).toBe('open')
    await tape.end()
  })
})

describe('a datagram that is sent again', () => {
  it('from another address is refused', async () => {
    const touch = await composed()
    expect(await said(client, touch)).toMatchObject({ msg: 'accepted' })
    expect(await said(stranger, touch)).toMatchObject({ refusal: 'replayed', source: stranger.ipv4 })
    expect([await sees(client), await sees(stranger)]).toEqual(['open', 'silence'])
  })

  it('from another address by the other family, to the other port, is refused', async () => {
    const touch = await composed()
    expect(await said(client, touch)).toMatchObject({ msg: 'accepted' })
    const other = { ...touch, port: 443 }
    expect(await said(stranger, other, 'ipv6')).toMatchObject({ refusal: 'replayed', source: stranger.ipv6 })
    expect(await sees(stranger, 'ipv6')).toBe('silence')
  })

  it('from its own address opens nothing, in silence', async () => {
    const touch = await composed()
    await said(client, touch)
    await knocked(client, gate.daemon, gate.key, '--close')
    const since = gate.daemon.lines.length
    await client.replay([touch], server.ipv4)
    await followUp(client)
    expect([await sees(client), refusals(since)]).toEqual(['silence', []])
  })

  it.each(['SIGTERM', 'SIGKILL'] as const)('after %s and a restart of the daemon is refused', async (signal) => {
    const touch = await composed()
    await said(client, touch)
    await knocked(client, gate.daemon, gate.key, '--close')
    await gate.daemon.end(signal)
    gate.daemon = await gate.startDaemon()
    expect(await said(client, touch)).toMatchObject({ refusal: 'replayed' })
    expect(await sees(client)).toBe('silence')
  })
})

describe('a datagram that is no knock', () => {
  const flipped = (hex: string, byte: number) => {
    const bytes = Buffer.from(hex, 'hex')
    bytes[byte] ^= 1
    return bytes.toString('hex')
  }

  it.each<[string, (payload: string) => string]>([
    ['is empty', () => ''],
    ['has a byte more', (payload) => `${payload}00`],
    ['has a byte less', (payload) => payload.slice(2)],
    ['has 48 bytes of which 36 are a knock', (payload) => payload.padEnd(96, '0')],
    ['has another hint', (payload) => flipped(payload, 7)],
    ['has another seal', (payload) => flipped(payload, 8)],
    ['has another end', (payload) => flipped(payload, 35)],
    ['is a thousand bytes long', (payload) => payload.padEnd(2_000, '0')],
  ])('opens nothing, in silence, when it %s', async (_, spoil) => {
    const touch = await composed()
    const since = gate.daemon.lines.length
    await client.replay([{ ...touch, payload: spoil(touch.payload) }], server.ipv4)
    await followUp(client)
    expect([await sees(client), refusals(since)]).toEqual(['silence', []])
    // And the knock that it was made of is not spent.
    expect(await said(client, touch)).toMatchObject({ msg: 'accepted' })
  })

  it('opens nothing at a port of the pool, in silence', async () => {
    const touch = await composed()
    await client.replay([{ ...touch, port: 50_000 }], server.ipv4)
    await followUp(client)
    expect(await sees(client)).toBe('silence')
  })
})

describe('the ports of datagrams', () => {
  it('never answer, whatever is sent, where the port beside them does', async () => {
    // Everything that is not ours is let in and answered.
    for (const iptables of ['iptables', 'ip6tables']) await server.must([iptables, '-P', 'INPUT', 'ACCEPT'])
    const { payload } = await composed()
    const tape = await lab.wire.start([
      ...['tcpdump', '-Z', 'root', '--immediate-mode', '-l', '-nn', '-i', 'server', 'udp or icmp or icmp6'],
    ])
    await tape.line((line) => line.includes('listening on'))
    for (const family of ['ipv4', 'ipv6'] as const) {
      const all = [53, 443].flatMap((port) => [payload, '', '00', `${payload}00`].map((bytes) => ({ port, payload: bytes })))
      await client.replay(
        [...all, { port: 54, payload }].map((touch) => ({ ...touch, protocol: 'udp' })),
        server[family],
      )
      // In order: so all answers before it are on the tape.
      await tape.line(
        (line) => line.includes(`> ${client[family]}: ICMP`) && line.includes('unreachable') && line.includes(' 54'),
      )
    }
    await tape.end()
    for (const iptables of ['iptables', 'ip6tables']) await server.must([iptables, '-P', 'INPUT', 'DROP'])
    const answers = tape.lines.filter((line) =>
      [server.ipv4, server.ipv6].some((address) => new RegExp(`IP6? ${address}(\\.\\d+)? > `).test(line)),
    )
    expect(answers.filter((line) => !line.includes('neighbor')).map((line) => / port (\d+)/.exec(line)?.[1])).toEqual([
      '54',
      '54',
    ])
  })

  // The daemon keeps a table of nftables as its config says.
  it.runIf(usualBackend() === 'iptables')('are what knockdaemon --check looks for among the log rules', async () => {
    const check = async () => (await server.run([...gate.command, '--check'])).stdout
    const note = 'note: the log rules do not match [datagram] ports: run "knockturn firewall install"\n'
    expect(await check()).not.toContain(note)
    const rules = await server.must(['iptables-save'])
    const others = rules.split('\n').filter((line) => !line.includes('--dports'))
    await server.must(['iptables-restore'], { input: others.join('\n') })
    expect(await check()).toContain(note)
    await server.must(['iptables-restore'], { input: rules })
  })

  it('are warned of where something waits on one, and not on its loopback address', async () => {
    await server.service(53)
    const { code, stderr } = await server.run([KNOCKTURN, 'firewall', 'install', '--config', gate.config])
    expect([code, stderr]).toEqual([
      0,
      'knockturn: warning: port 53/udp is in use and is a port of datagram knocks: no new connection from outside will reach it\n',
    ])
    expect(await knocked(client, gate.daemon, gate.key, '--datagram', '53', '-p', String(SSH))).toMatchObject({ msg: 'accepted' })
  })
})
