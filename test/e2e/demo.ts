// The demo: a gate, a traveller with a key, a stranger without one, all in network namespaces. Real packets, a real
// service behind a real firewall, the real programs. Exit status 0 only if everything was as expected.
//
//     node test/run.mjs test/e2e/demo.ts [--backend iptables|nftables] [--fleet]
//
// --fleet: two gateways that share one ledger in an etcd of three members.

import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { type Backend, chooseBackend, usualBackend } from '../lab/backend'
import { type Gate, logged, provision } from '../lab/gate'
import type { Host, Tape } from '../lab/host'
import { knock } from '../lab/knocks'
import { Lab } from '../lab/lab'
import type { Child } from '../lab/processes'
import { standing } from '../lab/standing'
import type { Tap } from '../lab/taps'
import { until } from '../lab/waiters'
import { demoFleet } from './demo-fleet'
import { expect, perform, step, tell } from './telling'

const SERVICE = 22
const OPEN = 'open, "welcome"'
const CLOSED = 'silence'
const LEASE_SECONDS = 6
const KNOCK_OPTIONS = ['-p', String(SERVICE), '-t', `${LEASE_SECONDS}s`]

/** What keeps strangers from the service, and where its leases are seen. */
const FIREWALL: Record<Backend, { shut: string; where: string }> = {
  iptables: { shut: 'INPUT DROP', where: 'iptables -S KNOCKTURN-LEASES' },
  nftables: { shut: 'guard in table inet knockturn', where: 'nft list table inet knockturn' },
}

// ---- the scene

const lab = new Lab(['traveller', 'stranger'])
const { server, traveller, stranger } = lab.hosts

async function expectDoor(who: Host, expected: string) {
  const { saw, ms, greeting } = await who.connect(server.ipv4, SERVICE)
  expect(`${who.name} connects to port ${SERVICE}`, expected, saw === 'open' ? `open, "${greeting?.split(',')[0]}"` : saw, ms)
}

/** The kernel's own list: one lease for one address. */
async function expectLease(of: Host) {
  const leases = (await standing(server)).map(({ address, door }) => `${door} for ${address}`)
  expect(`lease in: ${FIREWALL[usualBackend()].where}`, `tcp/${SERVICE} for ${of.ipv4}`, leases.join(', ') || 'none')
}

/** Waits for the door to open to the traveller, or to close. */
function door(state: 'open' | 'silence', withinMs: number) {
  const patienceMs = state === 'open' ? 20 : 200
  const isSo = async () => (await traveller.connect(server.ipv4, SERVICE, patienceMs)).saw === state
  return until(isSo, `the traveller's door: ${state}`, withinMs)
}

/** Knocks as the traveller, and reports when the door opened and what the daemon logged. @returns when the door was open */
async function knockAndEnter(gate: Gate, daemon: Child) {
  const before = daemon.lines.length
  const client = traveller.start(knock(gate, '-r', server.ipv4, ...KNOCK_OPTIONS))
  const ms = await door('open', 5_000)
  const began = performance.now()
  expect('traveller knocks; time from start to open door', 'open', 'open', ms)
  const { address, service, until: end } = JSON.parse(await daemon.line(logged('accepted'), before, 2_000))
  tell(' ', `  knockdaemon: accepted ${service} for ${address}`, `until ${end.slice(11, 19)}`)
  await expectLease(traveller)
  await expectDoor(traveller, OPEN)
  await expectDoor(stranger, CLOSED)
  const { code } = await client.exited // it sends the same knock again a second later, in case a packet was lost
  expect('knockclient has sent its knock', 'exit 0', `exit ${code}`)
  return began
}

async function expectLeaseToEnd(began: number) {
  await door('silence', (LEASE_SECONDS + 3) * 1000)
  // The kernel counts whole seconds, and it takes 200 ms to recognise a silence.
  const lasted = performance.now() - began
  const isInTime = Math.abs(lasted / 1000 - LEASE_SECONDS) < 2
  expect(`the lease of ${LEASE_SECONDS} s expires by itself`, CLOSED, isInTime ? CLOSED : `${CLOSED}, at the wrong time`, lasted)
}

/** Sends the recorded packets again; they must reach the gate and open nothing. */
async function expectDeadKnock(who: Host, recorded: Tap[], tape: Tape) {
  const before = (await tape.taps()).length
  await who.replay(recorded, server.ipv4)
  await sleep(300)
  const again = (await tape.taps()).slice(before)
  const isSame = again.length === recorded.length && again.every(({ port }, i) => port === recorded[i]?.port)
  const what = `${recorded.length} packets`
  expect(`${who.name} sends the recorded packets again`, what, isSame ? what : `${again.length} others`)
  await expectDoor(who, CLOSED)
}

async function expectRefusal(daemon: Child, since: number) {
  const { refusal, source } = JSON.parse(await daemon.line(logged('refused'), since, 2_000))
  expect(`knockdaemon logs for the packets from ${source}`, 'replayed', refusal)
}

// ---- the play

async function play() {
  await lab.build()
  console.log(`backend    ${usualBackend()}`)
  console.log(`gate       ${server.ipv4}  ${FIREWALL[usualBackend()].shut}, a service on port ${SERVICE}, knockdaemon`)
  console.log(`traveller  ${traveller.ipv4}  has a key`)
  console.log(`stranger   ${stranger.ipv4}  has no key, and records all packets on the wire`)

  await server.service(SERVICE)
  const gate = await provision(lab)
  const tape = await lab.wire.capture('server')
  /** The packets of one knock, as the stranger has recorded them. */
  const knocked = async (since: number) => (await tape.taps()).slice(since).filter(({ port }) => port !== SERVICE)
  let { daemon } = gate

  step('The door is closed')
  await expectDoor(traveller, CLOSED)
  await expectDoor(stranger, CLOSED)

  step('A knock opens it, only for the traveller, only for the requested time')
  let since = (await tape.taps()).length
  let began = await knockAndEnter(gate, daemon)
  const first = await knocked(since)
  await expectLeaseToEnd(began)

  step('The same knock, sent again, opens nothing')
  let before = daemon.lines.length
  await expectDeadKnock(traveller, first, tape)
  await expectDeadKnock(stranger, first, tape)
  await expectRefusal(daemon, before)

  step('The daemon is killed while the door is open: the kernel closes it')
  since = (await tape.taps()).length
  began = await knockAndEnter(gate, daemon)
  const second = await knocked(since)
  await daemon.end('SIGKILL')
  expect('kill -9 knockdaemon; processes left', 'nothing', (await orphans()) || 'nothing')
  await expectDoor(traveller, OPEN)
  await expectLeaseToEnd(began)

  step('A new daemon remembers which knocks the killed one accepted')
  daemon = await gate.startDaemon()
  before = daemon.lines.length
  await expectDeadKnock(traveller, second, tape)
  await expectDeadKnock(stranger, second, tape)
  await expectRefusal(daemon, before)
  const { code } = await daemon.end()
  expect('knockdaemon is stopped', 'exit 0', `exit ${code}`)
}

/** What runs on the gate half a second after the daemon, as text. */
async function orphans() {
  const none = async () => (await server.processes()).length === 0
  await until(none, 'nothing runs', 500).catch(() => {})
  const pids = await server.processes()
  return pids.map((pid) => readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ')).join(', ')
}

const { values: options } = parseArgs({ options: { backend: { type: 'string' }, fleet: { type: 'boolean' } } })
const refusal = chooseBackend(options.backend)
if (refusal) {
  console.error(refusal)
  process.exitCode = 2
} else if (options.fleet) {
  demoFleet()
} else {
  perform(play, () => lab.end())
}
