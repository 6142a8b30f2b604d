// Knocks that nobody has sent: spliced, for another server, with a revoked key, outside the grant.

import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { logged } from '../lab/gate'
import { knock as knockclient } from '../lab/knocks'
import { standing } from '../lab/standing'
import { until } from '../lab/waiters'
import { seededRandom } from '../random'
import type { Attack } from './attack'
import { POOL } from './doors'
import { HEARD, honestly, onOurs, refused } from './on-ours'
import { MAX_KEY_FILE, revocations } from './revocations'
import { SSH, type Stage } from './stage'

const RENDEZVOUS = 8

export const forgeries: Attack[] = [
  {
    kind: 'forgery',
    name: 'packets of two knocks, spliced',
    what: 'A listener mixes the ports of two knocks of one window, and adds other ports to the rendezvous ports that they have heard.',
    run: onOurs(
      async (stage, door, { times }) => {
        const { server, attacker, another } = stage
        const { honest, knock } = honestly(stage, door)
        const random = seededRandom(4)
        const listen = async () => (await stage.heard(await knock())).map(({ port }) => port)
        let [one, two] = [await listen(), await listen()]
        const shared = () => one.filter((port) => two.includes(port))
        // If the next window began between them, it does not begin between the next two.
        if (shared().length < RENDEZVOUS) [one, two] = [two, await listen()]
        const rendezvous = shared()
        const pick = () => POOL[Math.floor(random() * POOL.length)] ?? NaN
        let [tried, opened] = [0, 0]
        for (let i = 0; i < times(10, 100); i++) {
          const mixed = one.map((port, at) => (random() < 0.5 ? port : (two[at] ?? port)))
          const ports = [...rendezvous, ...(i % 2 ? mixed.slice(RENDEZVOUS) : one.slice(RENDEZVOUS).map(pick))]
          const as = await another(attacker)
          await attacker.replay(
            ports.map((port) => ({ protocol: 'tcp', port })),
            server.ipv4,
            as,
          )
          tried++
          await sleep(HEARD)
          opened += await stage.open(attacker, [as])
        }
        await knock()
        return {
          tried,
          opened,
          honest,
          broken: rendezvous.length < RENDEZVOUS ? ['two knocks of one window do not share 8 ports'] : [],
        }
      },
      ['--period', '300'],
    ),
  },
  {
    kind: 'forgery',
    name: 'knocks of another server label',
    what: "Someone has a server's secret under the label of another server, where the same secret is in use.",
    run: onOurs(async (stage, door, { times }) => {
      const { honest, knock } = honestly(stage, door)
      const theirs = join(door.gate.folder, 'theirs.key')
      writeFileSync(theirs, readFileSync(door.gate.key, 'utf8').replace('gate.example', 'other.example'), { mode: 0o600 })
      let [tried, opened] = [0, 0]
      for (let i = 0; i < times(5, 50); i++) {
        const as = await stage.another(stage.attacker)
        await stage.speakFrom(stage.attacker, as)
        await stage.attacker.must(knockclient({ key: theirs }, '-r', stage.server.ipv4, ...door.lease, '--passes', '1'))
        await sleep(HEARD)
        tried++
        opened += await stage.open(stage.attacker, [as])
      }
      await knock()
      return { tried, opened, honest }
    }),
  },
]

/** Milliseconds after which the rules of a revoked key are gone. */
const DEAD = 5_000
/** Seconds of a lease that does not end by itself. */
const LASTING = 600

export const revoked: Attack = {
  kind: 'forgery',
  name: 'packets of a key revoked in an invalid key file',
  what: 'Someone goes on knocking with a key whose file says that it is revoked, but has the wrong encoding, form or length for a key file; the daemon has opened a door for them.',
  run: onOurs(async (stage, door) => {
    const { user, server, another, speakFrom } = stage
    const { gate, daemon } = door
    const { honest, knock } = honestly(stage, door)
    const options = ['--services', `${SSH}/tcp`]
    const ways: ((path: string, id: string) => unknown)[] = Object.values(revocations).map(
      (form) => (path) => writeFileSync(path, form(readFileSync(path, 'utf8'))),
    )
    ways.push(async (path, id) => {
      writeFileSync(path, readFileSync(path, 'utf8').padEnd(MAX_KEY_FILE, '\n'))
      await gate.knockturn('key', 'revoke', id, '--keys', gate.keys)
    })
    const broken: string[] = []
    let opened = 0
    for (const [i, revoke] of ways.entries()) {
      const id = `gone${i}`
      const key = await gate.newKey(id, ...options)
      await daemon.line(logged('reloaded', { keys: i + 2 }))
      const send = async (address: string) => {
        await speakFrom(user, address)
        await user.must(knockclient({ key }, '-r', server.ipv4, '-p', String(SSH), '-t', `${LASTING}s`, '--passes', '1'))
      }
      const [first, second] = [await another(user), await another(user)]
      honest.tried++
      honest.opened += Number(await stage.opens(user, first, () => send(first)))
      await revoke(join(gate.keys, `${id}.key`), id)
      const isGone = async () => (await standing(server)).every(({ key }) => key !== id)
      await until(isGone, 'no rule is left', DEAD).catch(() => opened++)
      await send(second)
      await refused(door, second, 'revoked', broken)
      opened += await stage.open(user, [second])
    }
    await knock()
    return { tried: 2 * ways.length, opened, honest, broken }
  }),
}

/** What a key that may open 22/tcp for an hour may not ask for. */
const TOO_MUCH: Record<string, (stage: Stage) => string[]> = {
  'another port': () => ['-p', '443', '-t', '1m'],
  'another protocol': () => ['-p', '22', '--protocol', 'udp', '-t', '1m'],
  'too long': () => ['-p', '22', '-t', '2h'],
  'until closed': () => ['-p', '22', '-t', '0'],
  "another's address": ({ attacker }) => ['-p', '22', '-t', '1m', '-i', attacker.ipv4],
  "the server's address": ({ server }) => ['-p', '22', '-t', '1m', '-i', server.ipv4],
  loopback: () => ['-p', '22', '-t', '1m', '-i', '127.0.0.1'],
  'an IPv6 address': ({ attacker }) => ['-p', '22', '-t', '1m', '-i', attacker.ipv6],
  'a lock': () => ['--lock', '-t', '1m'],
}

export const policy: Attack = {
  kind: 'policy',
  name: 'requests outside the grant',
  what: 'The holder of a key asks for more than its grant: ports, protocols, lifetimes, addresses, a lock.',
  isOfRules: true,
  run: onOurs(async (stage, door) => {
    const { honest, knock } = honestly(stage, door)
    const broken: string[] = []
    let [tried, opened] = [0, 0]
    for (const [what, options] of Object.entries(TOO_MUCH)) {
      const address = await stage.another(stage.user)
      await door.client(address, ...options(stage), '--passes', '1', '--force')
      await door.daemon.line(logged('refused', { source: address })).catch(() => broken.push(`${what}: not refused`))
      tried++
      opened += (await standing(stage.server)).length
    }
    await knock()
    return { tried, opened, honest, broken }
  }),
}
