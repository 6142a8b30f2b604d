import { rmSync } from 'node:fs'
import { beforeAll, beforeEach, describe, expect, it } from 'vitest'
import type { Host, Tape } from '../lab/host'
import { compose, knocked, verdict } from '../lab/knocks'
import type { Touch } from '../lab/taps'
import { until } from '../lab/waiters'
import { useGate } from './use-gate'

const SSH = 22
const WEB = 443
const RENDEZVOUS = 8
const ENOUGH = 28

const { server, client, stranger, gate, lab } = useGate(['client', 'stranger'], { serve: [SSH, WEB] })
let tape: Tape

beforeAll(async () => {
  // What an eavesdropper has: all that passes on the wire before the server's door.
  tape = await lab.wire.capture('server')
})
beforeEach(async () => {
  await client.moveOn()
  await stranger.moveOn()
})

const sees = async (host: Host) => (await host.connect(server.ipv4, SSH)).saw
const doors = async () => [await sees(client), await sees(stranger)]

/** Knocks, closes again, and gives what was on the wire when the door opened. */
async function recorded(...options: string[]): Promise<Touch[]> {
  const knock = async () => (await tape.taps()).filter(({ source, port }) => source === client.ipv4 && port !== SSH)
  const { leases, msg } = await knocked(client, gate.daemon, gate.key, '-p', String(SSH), '-t', '1m', ...options)
  expect(msg).toBe('accepted')
  expect(await sees(client)).toBe('open')
  await until(async () => (await knock()).length >= 52, 'the knock on the tape')
  const touches = await knock()
  expect((await knocked(client, gate.daemon, gate.key, '--close')).leases).toEqual(leases)
  expect(await sees(client)).toBe('silence')
  return touches
}

/** Everything that was sent before has been dealt with when this other knock from there opens another port. */
const followUp = (host: Host) => verdictOf(host, '-p', String(WEB), '-t', '1m')
const verdictOf = (host: Host, ...options: string[]) => knocked(host, gate.daemon, gate.key, ...options)

async function expectRefusals(touches: Touch[], refusal: string, hosts = [client, stranger]): Promise<void> {
  for (const host of hosts) {
    // One line for each knock and minute, whoever sends it: only the first is said.
    const send = () => host.replay(touches, server.ipv4)
    if (host === hosts[0]) expect(await verdict(gate.daemon, send)).toMatchObject({ refusal, source: host.ipv4 })
    else await send()
    expect(await followUp(host)).toMatchObject({ msg: 'accepted', service: `${WEB}/tcp` })
  }
  expect(await doors()).toEqual(['silence', 'silence'])
}

async function restart(signal: NodeJS.Signals): Promise<void> {
  await gate.daemon.end(signal)
  gate.daemon = await gate.startDaemon()
}

describe('a recorded knock that is sent again', () => {
  it('at once from its own address opens nothing and raises no alarm', async () => {
    const touches = await recorded()
    const since = gate.daemon.lines.length
    await client.replay(touches, server.ipv4)
    await followUp(client)
    expect(await sees(client)).toBe('silence')
    expect(gate.daemon.lines.slice(since).filter((line) => line.includes('refus'))).toEqual([])
  })

  it('from another address opens nothing and is said to be replayed', async () => {
    await expectRefusals(await recorded(), 'replayed', [stranger])
  })

  it('while the door is open gives nothing to another address', async () => {
    const { touches } = await compose(client, gate.key, '-p', String(SSH), '-t', '1m')
    await verdict(gate.daemon, () => client.replay(touches, server.ipv4))
    const said = await verdict(gate.daemon, () => stranger.replay(touches, server.ipv4))
    expect([said.refusal, ...(await doors())]).toEqual(['replayed', 'open', 'silence'])
  })

  it('from another address is said with the address that it came from first', async () => {
    const { touches } = await compose(client, gate.key, '-p', String(SSH), '-t', '1m')
    await verdict(gate.daemon, () => client.replay(touches, server.ipv4))
    const said = await verdict(gate.daemon, () => stranger.replay(touches, server.ipv4))
    expect([said.source, said.first]).toEqual([stranger.ipv4, client.ipv4])
  })

  it.each(['SIGTERM', 'SIGKILL'] as const)('after %s and a restart of the daemon opens nothing', async (signal) => {
    const touches = await recorded()
    await restart(signal)
    await expectRefusals(touches, 'replayed')
  })

  it('by UDP where it was said by TCP opens nothing', async () => {
    const touches = await recorded()
    const datagrams = touches.map(({ port }) => ({ protocol: 'udp', port }))
    await expectRefusals(datagrams, 'replayed', [stranger])
    await client.replay(datagrams, server.ipv4)
    expect(await sees(client)).toBe('silence')
  })

  it('by TCP where it was said by UDP opens nothing', async () => {
    const touches = await recorded('--udp')
    const segments = touches.map(({ port }) => ({ protocol: 'tcp', port }))
    await expectRefusals(segments, 'replayed', [stranger])
  })

  it('in other symbols than those that were heard opens nothing', async () => {
    const { touches } = await compose(client, gate.key, '-p', String(SSH), '-t', '1m', '--parity', '35')
    const [rendezvous, symbols] = [touches.slice(0, RENDEZVOUS), touches.slice(RENDEZVOUS)]
    const said = await verdict(gate.daemon, () => client.replay([...rendezvous, ...symbols.slice(0, ENOUGH)], server.ipv4))
    expect(said).toMatchObject({ msg: 'accepted', service: `${SSH}/tcp` })
    await verdictOf(client, '--close')

    // Most of them have not been on the wire before.
    const others = [...rendezvous, ...symbols.slice(-ENOUGH - 4)]
    await client.replay(others, server.ipv4)
    await expectRefusals(others, 'replayed', [stranger])
    expect(await sees(client)).toBe('silence')
  })

  it('in the order of its ports opens nothing', async () => {
    const touches = await recorded()
    await expectRefusals(
      touches.toSorted((a, b) => a.port - b.port),
      'replayed',
      [stranger],
    )
  })

  it('to a daemon whose ledger is gone opens nothing: what was sent before is stale', async () => {
    const touches = await recorded()
    await gate.daemon.end()
    rmSync(gate.ledger)
    gate.daemon = await gate.startDaemon()
    for (const host of [stranger, client]) {
      const send = () => host.replay(touches, server.ipv4)
      if (host === stranger) expect(await verdict(gate.daemon, send)).toMatchObject({ refusal: 'stale', source: host.ipv4 })
      else await send()
    }
    expect(await doors()).toEqual(['silence', 'silence'])
  })
})
