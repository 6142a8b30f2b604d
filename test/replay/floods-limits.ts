// Floods at the limits of the log rules: from a whole IPv6 network, and into the kernel's own log.

import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { loggedOn, usualBackend } from '../lab/backend'
import { logged } from '../lab/gate'
import { compose } from '../lab/knocks'
import type { Touch } from '../lab/taps'
import { seededRandom } from '../random'
import { against } from './any-door'
import type { Attack } from './attack'
import { openOurs, POOL } from './doors'
import { SSH, type Stage } from './stage'

/** Packets a second that are heard from one source; and from all together, in the kernel's log. The same number at once. */
const [EACH, ALL] = [2_000, 10_000]
/** Different packets of a flood, which are sent again and again. */
const PACKETS = 60_000
/** Milliseconds of a flood before the first honest knock, and between two of them. */
const [LEAD, PAUSE] = [1_000, 500]
/** Honest knocks, milliseconds between their two passes, and within which each has to open. */
const [USERS, PASSES, PATIENCE] = [6, 1_000, 3_000]
/** Addresses of a flood by IPv6, all of one /64, and what those of a flood by IPv4 are taken from: 10.128.0.0/9. */
const NETWORK = '2001:db8:67::'
const [SPOOFED, SPOOFED_SIZE] = [0x0a80_0000, 2 ** 23]

export type Ours = Awaited<ReturnType<typeof openOurs>>
export type Knock = { address: string; touches: Touch[] }

/** Knocks of this many users, each from a new address, which are not sent yet. */
async function knocksOf({ user }: Stage, door: Ours, users: number, another: () => Promise<string>) {
  const knocks: Knock[] = []
  for (let i = 0; i < users; i++) {
    // Each has its own lifetime: two users who ask for the same may send the same knock, see floods.ts.
    const { touches } = await compose(user, door.gate.key, ...door.lease, '-t', `${60 + i}s`)
    knocks.push({ address: await another(), touches })
  }
  return knocks
}

/** Users knock twice, one after the other. @returns how many of them open */
async function openedBy({ user }: Stage, knocks: Knock[], destination: string) {
  const knocked = async ({ address, touches }: Knock) => {
    const twice = user.replay(touches, destination, address).then(async () => {
      await sleep(PASSES)
      await user.replay(touches, destination, address)
    })
    let isOpen = false
    for (const end = performance.now() + PATIENCE; !isOpen && performance.now() < end; )
      isOpen = (await user.connect(destination, SSH, 100, address)).saw === 'open'
    await twice
    return isOpen
  }
  const opening = []
  for (const knock of knocks) {
    opening.push(knocked(knock))
    await sleep(PAUSE)
  }
  return (await Promise.all(opening)).filter(Boolean).length
}

const anyPort = (random: () => number) => POOL[Math.floor(random() * POOL.length)] ?? NaN

const network: Attack = {
  kind: 'flood',
  name: 'flood of the pool from one IPv6 network, 20,000/s',
  what: 'An attacker who has a /64 sends 20,000 packets a second to the pool, from ever new addresses of it, to use up what is meant for many.',
  isOfRules: true,
  run: () =>
    against({ open: openOurs }, async (stage, door) => {
      const { user, server } = stage
      await stage.tape.end()
      let users = 0
      const knocks = await knocksOf(stage, door, USERS, async () => {
        const address = `2001:db8:66:${(++users).toString(16)}::1`
        await user.must(['ip', '-6', 'address', 'add', `${address}/128`, 'dev', 'eth0', 'nodad'])
        return address
      })
      await server.must(['ip', '-6', 'route', 'add', '2001:db8:66::/48', 'dev', 'eth0'])
      const random = seededRandom(64)
      const sources = Array.from(
        { length: PACKETS },
        (_, i) => `${NETWORK}${Math.floor(i / 0xffff).toString(16)}:${(i % 0xffff).toString(16)}`,
      )
      const packets = stage.pack6(sources.map((source) => ({ source, port: anyPort(random) })))
      const before = await loggedOn(server, 6)
      const sender = stage.flood(packets, 20_000)
      await sleep(LEAD)
      const opened = await openedBy(stage, knocks, server.ipv6)
      const sent = await sender.end()
      const seconds = sender.lasts() / 1_000
      const heard = (await loggedOn(server, 6)) - before
      const honest = knocks.reduce((sum, { touches }) => sum + 2 * touches.length, 0)
      const most = EACH * (1 + seconds) + honest
      const broken = heard > most ? [`${heard} packets of one /64 were heard, more than ${Math.round(most)}`] : []
      return {
        tried: sent.packets,
        opened: door.lines().filter(logged('accepted')).length - opened,
        honest: { tried: USERS, opened },
        broken,
        note: `${Math.round(sent.pps)} packets/s for ${seconds.toFixed(0)} s, heard ${heard}`,
      }
    }),
}

/**
 * Makes the log rules those of target "log", but has them log to the daemon: from a network namespace the kernel writes no
 * log.
 */
async function logAsKernel({ server }: Stage, { gate }: Ours) {
  const config = join(gate.folder, 'log.toml')
  const taps = '[taps]\nsource = "stdin"\ntarget = "log"\nprefix = "KNOCK: "\n'
  writeFileSync(config, readFileSync(gate.config, 'utf8').replace(/\[taps\][^[]*/, taps))
  if (usualBackend() === 'nftables') {
    // With the comment of the daemon's own rule, by which the daemon knows it, it stays.
    const [, limit = ''] =
      / heard (limit rate .*) log level debug /.exec(
        await gate.knockturn('firewall', 'install', '--print', '--config', config),
      ) ?? []
    const own = await server.must(['nft', '-a', 'list', 'chain', 'inet', 'knockturn', 'heard'])
    const [, log, handle] = / (log prefix .*) # handle (\d+)/.exec(own) ?? []
    await server.must(['nft', `replace rule inet knockturn heard handle ${handle} ${limit} ${log}`])
    return
  }
  await gate.knockturn('firewall', 'install', '--config', config)
  const rules = (await server.must(['iptables', '-S', 'KNOCKTURN-TAPS'])).split('\n').filter((rule) => rule.startsWith('-A'))
  const asNflog = rules.map((rule) =>
    rule.replace(/-j LOG .*/, '-j NFLOG --nflog-group 5 --nflog-prefix "KNOCK: " --nflog-threshold 1'),
  )
  const script = ['*filter', ':KNOCKTURN-TAPS - [0:0]', ...asNflog, 'COMMIT', ''].join('\n')
  await server.must(['iptables-restore', '--noflush'], { input: script })
}

const kernelLog: Attack = {
  kind: 'flood',
  name: "flood of the kernel's log, 8,000/s and 50,000/s",
  what: 'An attacker sends from forged source addresses to the pool of a server with target = "log": first at a rate that lets users knock, then to fill its disk.',
  isOfRules: true,
  run: () =>
    against({ open: openOurs }, async (stage, door) => {
      await stage.tape.end()
      await logAsKernel(stage, door)
      const knocks = await knocksOf(stage, door, USERS, () => stage.another(stage.user))
      const random = seededRandom(10)
      const packets = stage.pack(
        Array.from({ length: PACKETS }, () => ({ source: SPOOFED + Math.floor(random() * SPOOFED_SIZE), port: anyPort(random) })),
      )
      const modest = stage.flood(packets, 8_000)
      await sleep(LEAD)
      const opened = await openedBy(stage, knocks, stage.server.ipv4)
      const first = await modest.end()
      const before = await loggedOn(stage.server, 4)
      const sender = stage.flood(packets, 50_000)
      await sleep(3 * LEAD)
      const sent = await sender.end()
      const seconds = sender.lasts() / 1_000
      const lines = (await loggedOn(stage.server, 4)) - before
      const most = ALL * (1 + seconds)
      return {
        tried: first.packets + sent.packets,
        opened: door.lines().filter(logged('accepted')).length - opened,
        honest: { tried: USERS, opened },
        broken: lines > most ? [`${lines} lines were logged, more than ${Math.round(most)}`] : [],
        note: `${lines} log lines for ${sent.packets} packets at ${Math.round(sent.pps)}/s`,
      }
    }),
}

export const limits: Attack[] = [network, kernelLog]
