// Attacks by the holder of a key on the real daemon and its real firewall: closing what is being opened, and knocking without end.

import { setTimeout as sleep } from 'node:timers/promises'
import { logged } from '../lab/gate'
import { knock as knockclient } from '../lab/knocks'
import { standing } from '../lab/standing'
import { until } from '../lab/waiters'
import { against } from './any-door'
import type { Attack } from './attack'
import { composer } from './composer'
import { openOurs } from './doors'
import { SSH, type Stage } from './stage'

/** Services of a key: as many as the daemon once opened one by one. */
const MANY = 41
const FIRST = 20_000
/** Milliseconds between opening and closing, from and to. */
const [SOONEST, LATEST] = [20, 80]
/** Milliseconds after the last command within which everything must be gone. */
const GONE = 5_000
/** Of the key that knocks without end: knocks a second, for how many seconds, of how many taps each. */
const RATE = 45
const SECONDS = 10
const TAPS = 8 + 28
/** Addresses that it knocks from in turn: the ports of a complete knock from one address are ignored for a while. */
const SOURCES = 50
const LOW_SERVICES = [22, 443, 8_443]
/** Honest knocks meanwhile, and the milliseconds within which each has to open. */
const HONEST = 10
const PATIENCE = 2_000

const services = (ports: number[]) => ports.map((port) => `${port}/tcp`).join()
const many = Array.from({ length: MANY }, (_, i) => FIRST + i)

/** The leases in force of keys with these ids, and those of which nobody knows whose they are. */
const leasesOf = async ({ server }: Stage, ids: RegExp) =>
  (await standing(server)).filter(({ key }) => key === '' || ids.test(key))

const closingWhileOpening: Attack = {
  kind: 'closing',
  name: 'packets that close what they open',
  what: 'The holder of a key opens 41 services until they are closed, closes the last 20 to 80 ms later, and has the key revoked.',
  isOfRules: true,
  run: ({ times }) =>
    against({ open: openOurs }, async (stage, door) => {
      const { user, server } = stage
      const { gate, daemon } = door
      const rounds = times(8, 20)
      const options = ['--services', services(many), '--allow-until-closed']
      for (let i = 0; i < rounds; i++) await gate.newKey(`low${i}`, ...options)
      await daemon.line(logged('reloaded', { keys: 1 + rounds }))
      const touches = (ports: number[]) => ports.map((port) => ({ protocol: 'tcp', port }))
      let [opened, heard] = [0, 0]
      for (let i = 0; i < rounds; i++) {
        const address = await stage.another(user)
        const low = await composer(gate, `low${i}`)
        const since = daemon.lines.length
        const opening = user.replay(touches(low.ports({ seconds: 0 })), server.ipv4, address)
        await sleep(SOONEST + ((LATEST - SOONEST) * i) / rounds)
        await user.replay(touches(low.ports({ action: 'close', protocol: 'tcp', port: FIRST + MANY - 1 })), server.ipv4, address)
        await opening
        await daemon.line(logged('accepted', { key: `low${i}`, action: 'open' }), since)
        heard++
        await gate.knockturn('key', 'revoke', `low${i}`, '--keys', gate.keys)
        const isGone = async () => (await leasesOf(stage, new RegExp(`^low${i}$`))).length === 0
        await until(isGone, 'no rule is left', GONE).catch(() => opened++)
      }
      // Anything that came back later, after a check of the firewall, would be found here.
      await sleep(GONE + 1_000)
      opened += (await leasesOf(stage, /^low/)).length
      const broken = heard < rounds ? [`only ${heard} of ${rounds} knocks were heard`] : []
      return { tried: rounds, opened, broken }
    }),
}

const lowKey: Attack = {
  kind: 'share',
  name: 'packets of a key that knocks without end',
  what: 'The holder of a key knocks 45 times a second for ten seconds, on three services for one connection each, while others knock and while the key is revoked.',
  run: () =>
    against({ open: openOurs }, async (stage, door) => {
      const { user, attacker } = stage
      const { gate, daemon } = door
      await gate.newKey('low', '--services', services(LOW_SERVICES))
      await daemon.line(logged('reloaded', { keys: 2 }))
      const low = await composer(gate, 'low')
      // All of it falls into one window and the next, which are accepted throughout.
      const sources: string[] = []
      for (let i = 0; i < SOURCES; i++) sources.push(await stage.another(attacker))
      const knocks = Array.from({ length: RATE * SECONDS }, () => low.ports({ once: true, seconds: 60 }).slice(0, TAPS))
      const packets = stage.pack(
        knocks.flatMap((ports, n) => ports.map((port) => ({ source: sources[n % SOURCES] ?? '', port }))),
      )
      const began = performance.now()
      const sender = stage.flood(packets, RATE * TAPS)
      const honest = { tried: HONEST, opened: 0 }
      const took: number[] = []
      for (let i = 0; i < HONEST; i++) {
        const address = await stage.another(user)
        await stage.speakFrom(user, address)
        const at = performance.now()
        const isOpen = await stage.opens(
          user,
          address,
          () => user.must(knockclient(gate, ...door.lease, '--passes', '1')),
          PATIENCE,
        )
        took.push(performance.now() - at)
        honest.opened += Number(isOpen)
      }
      await sleep(Math.max(0, SECONDS * 1_000 - (performance.now() - began)))
      const revoked = daemon.lines.length
      await gate.knockturn('key', 'revoke', 'low', '--keys', gate.keys)
      const isGone = async () => (await leasesOf(stage, /^low/)).length === 0
      const gone = await until(isGone, 'no rule is left', GONE).catch(() => Infinity)
      await sender.end()
      const since = daemon.lines.findIndex((line, i) => i >= revoked && logged('reloaded')(line))
      const late = daemon.lines.slice(since).filter(logged('accepted', { key: 'low' })).length
      const accepted = daemon.lines.filter(logged('accepted', { key: 'low' })).length
      const lines = daemon.lines.filter((line) => line.includes('"key":"low"')).length
      const broken = []
      if (accepted < 10) broken.push(`only ${accepted} knocks of the key were heard`)
      if (gone === Infinity) broken.push('rules of the revoked key are left')
      if (since < 0) broken.push('the daemon did not read the revocation')
      // Its share is 256 services at once and 8 a second, and each knock takes three.
      const share = Math.ceil((256 + 8 * (SECONDS + 2)) / LOW_SERVICES.length)
      return {
        tried: knocks.length,
        opened: late + Math.max(0, accepted - share),
        honest,
        broken,
        note: `${accepted} of ${knocks.length} accepted, ${lines} log lines; others' knocks open in ${Math.round(Math.max(...took))} ms at most; all rules gone ${Math.round(gone)} ms after the revocation`,
      }
    }),
}

const onceForAll: Attack = {
  kind: 'closing',
  name: 'packets of one connection for each service, with a knock for one',
  what: "An attacker behind the user's address connects to each service of a knock for one connection.",
  isOfRules: true,
  run: ({ times }) =>
    against(
      { open: (stage: Stage) => openOurs(stage, ['--services', services([SSH, ...many.slice(0, 3)])]) },
      async (stage, door) => {
        const { user, server } = stage
        for (const port of many.slice(0, 3)) await server.service(port)
        let [tried, opened] = [0, 0]
        const honest = { tried: 0, opened: 0 }
        for (let i = 0; i < times(3, 20); i++) {
          const address = await stage.another(user)
          await door.client(address, '-p', '0', '-t', '30s', '--once', '--passes', '1')
          await door.daemon.line(logged('accepted', { source: address, once: true }))
          const saw = []
          for (const port of [SSH, ...many.slice(0, 3)]) saw.push((await user.connect(server.ipv4, port, 500, address)).saw)
          honest.tried++
          honest.opened += Number(saw[0] === 'open')
          tried += saw.length - 1
          opened += saw.slice(1).filter((one) => one === 'open').length
        }
        return { tried, opened, honest }
      },
    ),
}

/** Flags of TCP. */
const ACK = 0x10

const keptLease: Attack = {
  kind: 'closing',
  name: 'packets that keep a lease that has ended',
  what: 'The holder of an ended lease sends RST, a stray ACK and a SYN from the port of their connection, after it was closed, or used up by one connection.',
  isOfRules: true,
  run: ({ times }) =>
    against({ open: openOurs }, async (stage, door) => {
      const { user, server, lab } = stage
      const honest = { tried: 0, opened: 0 }
      let [tried, opened] = [0, 0]
      for (let i = 0; i < times(6, 40); i++) {
        const isOnce = i % 2 === 0
        await user.moveOn()
        const port = 40_000 + i
        await user.must(knockclient(door.gate, '-p', String(SSH), '-t', '1m', ...(isOnce ? ['--once'] : [])))
        const wire = await lab.wire.capture('server', 128, `tcp port ${port}`)
        const connection = await user.hold(server.ipv4, SSH, undefined, port).catch(() => null)
        honest.tried++
        if (!connection) continue
        honest.opened++
        /** The sequence numbers of both sides after the greeting that the server has sent. */
        let at: number[] = []
        await until(async () => {
          const packets = (await lab.wire.must(['tcpdump', '-nn', '-S', '-r', wire.file])).split('\n')
          at = packets.flatMap((line) => /seq (\d+):(\d+), ack (\d+)/.exec(line) ?? []).map(Number)
          return at.length > 0
        }, 'the greeting is on the wire')
        await wire.end()
        if (!isOnce) await user.must(knockclient(door.gate, '--close'))
        await sleep(200)
        await connection.reset()
        const [, , ack = 0, seq = 0] = at
        const stray = stage.pack([{ source: user.ipv4, port: SSH, from: port, flags: ACK, seq, ack }])
        await user.must(['tcpreplay', '-q', '-i', 'eth0', stray])
        tried++
        opened += Number((await user.connect(server.ipv4, SSH, 2_500, undefined, port)).saw === 'open')
      }
      return { tried, opened, honest }
    }),
}

export const closing: Attack[] = [keptLease, closingWhileOpening, onceForAll, lowKey]
