// The demo of a fleet: two gateways with the same keys share one ledger in an etcd of three members, each in a network namespace of its own.

import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { usualBackend } from '../lab/backend'
import { DOOR, type Fleet, type Gateway, makeFleet, PERIOD } from '../lab/fleet'
import { logged } from '../lab/gate'
import type { Host } from '../lab/host'
import { knock } from '../lab/knocks'
import { until } from '../lab/waiters'
import { expect, perform, step, tell } from './telling'

const KEY = 'user0'
const LEASE = '2m'
const OPEN = 'open'
const CLOSED = 'silence'
/** Seconds after which the floor has passed that a fleet begins with: two windows ahead of the one in which it began. */
const FLOOR = 3 * PERIOD
/** Milliseconds within which a revocation is to reach all gateways. */
const SOON = 1_000

/** Plays the demo of a fleet, and reports whether everything was as expected. */
export function demoFleet(): Promise<void> {
  let fleet: Fleet | null = null
  const play = async () => {
    fleet = await makeFleet({ gateways: ['gw1', 'gw2'], backend: usualBackend() })
    await playFleet(fleet)
  }
  return perform(play, async () => fleet?.end())
}

async function playFleet({ gateways, client, listener, etcd, lab }: Fleet) {
  const [first, second] = gateways as [Gateway, Gateway]
  console.log(`gateways   ${first.host.ipv4}, ${second.host.ipv4}  the same keys, a service on port ${DOOR}, knockdaemon`)
  console.log(`etcd       ${etcd?.endpoints.join(', ')}`)
  console.log(`client     ${client.ipv4}  has a key`)
  console.log(`listener   ${listener.ipv4}  has no key, and records all packets on the wire`)
  const copy = join(lab.folder(), `${KEY}.key`)
  await first.gate.knockturn('key', 'export', KEY, '--out', copy, '--keys', first.gate.keys)
  const tape = await lab.wire.capture(first.name)
  const send = (gateway: Gateway) => client.must(knock({ key: copy }, '-r', gateway.host.ipv4, '-p', `${DOOR}`, '-t', LEASE))

  step('The door is closed at both')
  for (const gateway of gateways) await expectDoor(client, gateway, CLOSED)

  tell(' ', `  waits ${FLOOR} s: what may have been sent before the fleet began is dead`, '')
  await sleep(FLOOR * 1_000)

  step('A knock at one gateway opens both, only for the client')
  const since = (await tape.taps()).length
  const sent = send(first)
  for (const gateway of gateways)
    expect(`${gateway.name} opens; time from start of the client`, OPEN, OPEN, await door(client, gateway, OPEN))
  await sent
  const recorded = (await tape.taps()).slice(since).filter(({ port }) => port !== DOOR)
  for (const gateway of gateways) {
    await expectDoor(client, gateway, OPEN)
    await expectDoor(listener, gateway, CLOSED)
  }

  step('The same knock, played at the other gateway, opens nothing')
  const before = second.daemon.lines.length
  await listener.replay(recorded, second.host.ipv4)
  const { refusal, source } = JSON.parse(await second.daemon.line(logged('refused'), before))
  expect(`${second.name} logs for the packets from ${source}`, 'replayed', refusal)
  await expectDoor(listener, second, CLOSED)

  step('One gateway is killed: the other goes on')
  await first.end('SIGKILL')
  tell(' ', `  kill -9 knockdaemon at ${first.name}`, '')
  const began = second.daemon.lines.length
  await send(second)
  const { service } = JSON.parse(await second.daemon.line(logged('accepted', { key: KEY }), began))
  expect(`${second.name} accepts the next knock`, `${DOOR}/tcp`, service)
  await first.start()
  await first.daemon.line(logged('this gateway accepts knocks'), 0, 20_000)
  tell(' ', `  ${first.name} is back`, '')
  await expectDoor(client, first, OPEN)

  step('A key that is revoked at one gateway is revoked at all')
  await second.gate.knockturn('key', 'revoke', KEY, '--keys', second.gate.keys)
  const revoked = performance.now()
  for (const gateway of gateways) {
    await door(client, gateway, CLOSED)
    // What is silent has been waited for.
    const ms = performance.now() - revoked
    expect(`${gateway.name} shuts; time from the revocation`, `within ${SOON} ms`, ms < SOON ? `within ${SOON} ms` : 'later', ms)
  }
  const last = first.daemon.lines.length
  await send(first).catch(() => {})
  const said = JSON.parse(await first.daemon.line(logged('refused'), last))
  expect(`${first.name} logs for the next knock`, 'revoked', said.refusal)
}

async function expectDoor(who: Host, { name, host }: Gateway, expected: string) {
  const { saw, ms } = await who.connect(host.ipv4, DOOR)
  expect(`${who.name} connects to ${name}`, expected, saw, ms)
}

/** Waits for the door to open or to close. @returns milliseconds */
function door(who: Host, { name, host }: Gateway, state: typeof OPEN | typeof CLOSED): Promise<number> {
  const isSo = async () => (await who.connect(host.ipv4, DOOR, state === OPEN ? 20 : 200)).saw === state
  return until(isSo, `${name}: ${state}`, 5_000)
}
