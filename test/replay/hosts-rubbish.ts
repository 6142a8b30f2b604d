// Rubbish under heard rendezvous ports at the real daemon, made so that it decodes as much of it as it can, while users knock in every way.

import { randomBytes } from 'node:crypto'
import { chownSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { base32nopad } from '@scure/base'
import { type Gate, logged } from '../lab/gate'
import type { Touch } from '../lab/taps'
import { until } from '../lab/waiters'
import { seededRandom } from '../random'
import { against } from './any-door'
import type { Attack } from './attack'
import { type Composer, composer } from './composer'
import { openOurs, said } from './doors'

const RATE = 10_000
/** What the log rules let through from one source, a /64. */
const LOGGED_OF_ONE = 2_000
/** Milliseconds between honest knocks of one kind, and how long the flood goes on after the last, at least and at most: a busy machine is late. */
const EVERY = 300
const PATIENCE = 3_000
const LATEST = 10_000
/** Milliseconds between the passes of a knock: a client sends it twice. */
const PASSES = 1_000
/** Milliseconds of the flood before the first of them. */
const LEAD = 1_000
const PAGE = 256
const RENDEZVOUS = 8
const PIN = '0417'
const DATAGRAMS = 53

/** This many pages, each with this many symbols: if each has two, none of them counts and nothing is decoded. */
const rubbish = (pages: number, symbols: number) => (book: Uint16Array, random: () => number, n: number) => [
  ...book.subarray(n % 5, (n % 5) + 4),
  ...Array.from({ length: pages * symbols }, (_, i) => {
    const page = Math.floor(i / symbols)
    return book[RENDEZVOUS + PAGE * page + Math.floor(PAGE * random())] ?? 0
  }),
]

const V4 = (n: number) => 0x0a80_0000 + n
const ONE_64 = (n: number) => `2001:db8:7::1:${(n + 1).toString(16)}`
const MANY_64 = (n: number) => `2001:db8:${(0x100 + (n >> 16)).toString(16)}:${(n & 0xffff).toString(16)}::1`

/** Writes a key with a passcode into the keyring. */
function putKey(gate: Gate, id: string) {
  const file = join(gate.keys, `${id}.key`)
  const secret = base32nopad.encode(randomBytes(32))
  const text = `id = "${id}"\nsecret = "${secret}"\nserver = "gate.example"\nperiod = 30\npool = "49152-65535"\ncreated = 2026-01-31T12:00:00Z\n
[grant]\nservices = ["22/tcp"]\nmax = "1h"\nbind_source = false\n\n[passcode]\npin = "${PIN}"\ntime = "5m"\n`
  writeFileSync(file, text, { mode: 0o600 })
  chownSync(file, gate.user.uid, gate.user.gid)
}

/** @param heardRate packets a second that the log rules let through */
const attack = (
  fate: string,
  from: string,
  make: ReturnType<typeof rubbish>,
  sourceOf: (n: number) => string | number,
  heardRate: number = RATE,
): Attack => ({
  kind: 'flood',
  name: `packets of rubbish that ${fate}, 10,000/s, from ${from}`,
  what: `An attacker who has heard this window sends 10,000 packets a second that ${fate}, from ${from}, while users knock in every possible way.`,
  run: ({ times }) =>
    against({ open: (stage) => openOurs(stage, [], { more: `[datagram]\nports = [${DATAGRAMS}]\n` }) }, async (stage, door) => {
      const { user, server } = stage
      const { gate, daemon } = door
      const honest = times(10, 30)
      const ids = Array.from({ length: honest }, (_, n) => `user${n}`)
      for (const id of ids) putKey(gate, id)
      await daemon.line(logged('reloaded', { keys: 1 + honest }))
      await gate.knockturn('firewall', 'install', '--config', gate.config)
      const senders = []
      for (const id of ids) senders.push(await composer(gate, id))
      const [heard] = senders as [Composer]
      // All of it in one window.
      const left = () => heard.period * 1_000 - (Date.now() % (heard.period * 1_000))
      const needed = LEAD + honest * EVERY + PATIENCE
      if (left() < needed + 1_000) await sleep(left() + 100)
      const book = heard.book()
      const random = seededRandom(7)
      const forged = []
      for (let n = 0; forged.length < (RATE * needed) / 1_000; n++)
        for (const port of make(book, random, n)) forged.push({ source: sourceOf(n), port })
      const packets = stage.pack(forged)

      const waiting: Map<string, string> = new Map()
      const addresses: string[] = []
      for (let i = 0; i < 4 * honest; i++) addresses.push(await stage.another(user))
      const since = daemon.lines.length
      const again: Promise<unknown>[] = []
      const sender = stage.flood(packets, RATE)
      await sleep(LEAD)
      const tcp = (ports: number[]) => ports.map((port) => ({ protocol: 'tcp', port }))
      for (const [n, own] of senders.entries()) {
        const [plain = '', ipv6 = '', datagram = '', passcode = ''] = addresses.slice(4 * n)
        for (const [address, kind] of [
          [plain, 'on ports'],
          [ipv6, 'on ports, for IPv6'],
          [datagram, 'in a datagram'],
          [passcode, 'by passcode'],
        ])
          waiting.set(address ?? '', kind ?? '')
        const knocks: [Touch[], string][] = [
          [tcp(heard.ports()), plain],
          [tcp(heard.ports({ address: `2001:db8:7::2:${n + 1}` })), ipv6],
          [[{ protocol: 'udp', port: DATAGRAMS, payload: heard.datagram().toString('hex') }], datagram],
          [tcp(own.passcode(PIN)), passcode],
        ]
        const pass = () => Promise.all(knocks.map(([touches, address]) => user.replay(touches, server.ipv4, address)))
        again.push(sleep(PASSES).then(pass))
        await Promise.all([pass(), sleep(EVERY)])
      }
      await Promise.all([...again, sleep(PATIENCE)])
      const acceptedOf = () =>
        daemon.lines
          .slice(since)
          .filter(logged('accepted'))
          .map((line) => JSON.parse(line).source)
      await until(() => addresses.every((address) => acceptedOf().includes(address)), 'all are accepted', LATEST).catch(() => {})
      const sent = await sender.end()
      const audible = (sent.packets * Math.min(heardRate, sent.pps)) / sent.pps
      const accepted = acceptedOf()
      for (const source of accepted) waiting.delete(source)
      const kinds = [...new Set(waiting.values())]
      await door.end('SIGTERM')
      const ended = JSON.parse(door.lines().findLast(logged('ended')) ?? '{}')
      return {
        tried: sent.packets,
        opened: accepted.filter((source) => !addresses.includes(source)).length,
        honest: { tried: addresses.length, opened: addresses.length - waiting.size },
        broken: [
          ...kinds.map(
            (kind) =>
              `${[...waiting.values()].filter((one) => one === kind).length} of ${honest} knocks ${kind} were not accepted`,
          ),
          ...(ended.seen < 0.9 * audible ? [`only ${ended.seen} of ${audible} packets were heard`] : []),
        ],
        said: said(daemon.lines),
        note: `${Math.round(sent.pps)} packets/s, heard ${ended.seen}, lost ${ended.dropped}`,
      }
    }),
})

const unsettled = rubbish(40, 2)
export const rubbishes: Attack[] = [
  attack('are never decoded', 'forged addresses', unsettled, V4),
  attack('are never decoded', 'a /64', unsettled, ONE_64, LOGGED_OF_ONE),
  attack('are decoded once', 'forged addresses', rubbish(28, 1), V4),
  attack('are decoded often', 'many /64s', rubbish(56, 1), MANY_64),
]
