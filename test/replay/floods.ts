// Floods from forged source addresses at the real daemon, while honest users knock.

import { randomBytes } from 'node:crypto'
import { chownSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { base32nopad } from '@scure/base'
import { logged } from '../lab/gate'
import { compose } from '../lab/knocks'
import type { Touch } from '../lab/taps'
import { until } from '../lab/waiters'
import { seededRandom } from '../random'
import { against } from './any-door'
import type { Attack } from './attack'
import { openOurs, POOL } from './doors'
import { limits } from './floods-limits'
import type { Packet } from './packets'

/** Different packets of a flood, which are sent again and again. */
const PACKETS = 250_000
/** What forged source addresses are taken from: 10.128.0.0/9. */
const [SPOOFED, SPOOFED_SIZE] = [0x0a80_0000, 2 ** 23]
/** Milliseconds of a flood before the first honest knock. */
const LEAD = 1_000
/** Milliseconds between the passes of a knock, and within which it has to open. */
const PASSES = 1_000
const PATIENCE = 3_000
/** Milliseconds within which memory that a flood took has been given back: nothing of it counts after 10 s, and V8 collects garbage when it likes. */
const LATER = 120_000
const RENDEZVOUS = 8
/** Random symbols behind the rendezvous: enough for a decode. */
const SYMBOLS = 36

/** MB that the daemon may take at most, and that it may still hold long after a flood. */
const MOST_MB = 400
const MOST_KEPT_MB = 40
/** Bytes a second by which the log may grow, except for its lines about honest knocks. */
const MOST_LOG = 1_000

/** What a flood aims at: its packets, made from the rendezvous ports that a listener has heard. */
const AIMS: Record<string, (rendezvous: number[], random: () => number) => Packet[]> = {
  'the pool': (_, random) => {
    const pick = of(random)
    return Array.from({ length: PACKETS }, () => ({ source: spoofed(random), port: pick(POOL) }))
  },
  'the rendezvous': (rendezvous, random) => {
    const pick = of(random)
    return Array.from({ length: PACKETS }, () => ({ source: spoofed(random), port: pick(rendezvous) }))
  },
  'decoding, from one address': (rendezvous, random) => bursts(rendezvous, random, () => SPOOFED),
  'decoding, from many addresses': (rendezvous, random) => bursts(rendezvous, random, () => spoofed(random)),
}

const spoofed = (random: () => number) => SPOOFED + Math.floor(random() * SPOOFED_SIZE)
const of = (random: () => number) => (ports: number[]) => ports[Math.floor(random() * ports.length)] ?? NaN

/**
 * The nth of many users of one key asks for something that no other user asks for. Two users who ask for the same in one window send the
 * same knock once in 65,536 times, by the salt, and the second of them is a replay: with 31 users that happens in one flood of 140.
 */
const ownLifetime = (n: number) => ['-t', `${60 + n}s`]

/** Rendezvous and random symbols, as a knock has them. */
function bursts(rendezvous: number[], random: () => number, from: () => number) {
  const pick = of(random)
  return Array.from({ length: Math.floor(PACKETS / (RENDEZVOUS + SYMBOLS)) }, from).flatMap((source) =>
    [...rendezvous, ...Array.from({ length: SYMBOLS }, () => pick(POOL))].map((port) => ({ source, port })),
  )
}

/** Puts more keys into a keyring. */
async function addKeys({ gate, daemon }: Awaited<ReturnType<typeof openOurs>>, count: number) {
  for (let i = 1; i < count; i++) {
    const id = `user${i}`
    const file = join(gate.keys, `${id}.key`)
    const secret = base32nopad.encode(randomBytes(32))
    const text = `id = "${id}"\nsecret = "${secret}"\nserver = "gate.example"\nperiod = 30\npool = "49152-65535"\ncreated = 2026-01-31T12:00:00Z\n\n[grant]\nservices = ["22/tcp"]\nmax = "1h"\n`
    writeFileSync(file, text, { mode: 0o600 })
    chownSync(file, gate.user.uid, gate.user.gid)
  }
  if (count > 1) await daemon.line(logged('reloaded', { keys: count }), 0, 30_000)
}

/** Memory of a process in MB, now or at its highest. */
const memory = (pid: number | undefined, what: 'VmRSS' | 'VmHWM') =>
  Math.round(Number(new RegExp(`${what}:\\s+(\\d+)`).exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1]) / 1024)

/** A flood while users knock, one after the other. @param flood isWatched: until its memory is given back */
export function flood({
  aim,
  pps,
  keys = 1,
  users = 30,
  isWatched = true,
}: {
  aim: string
  pps: number
  keys?: number
  users?: number
  isWatched?: boolean
}): Attack {
  const rate = `${pps.toLocaleString('en-US')}/s`
  return {
    kind: 'flood',
    name: `flood of ${aim}, ${rate}${keys > 1 ? `, ${keys.toLocaleString('en-US')} keys` : ''}`,
    what: `An attacker who has heard a knock of this window sends ${pps.toLocaleString('en-US')} packets a second from forged source addresses at ${aim}, so that nobody else is heard.`,
    run: () =>
      against({ open: openOurs }, async (stage, door) => {
        const { user, server } = stage
        await addKeys(door, keys)
        const heard = await stage.another(user)
        await door.knock(heard)
        const rendezvous = (await stage.heard(heard)).map(({ port }) => port).slice(0, RENDEZVOUS)
        await stage.tape.end()
        const packets = stage.pack(AIMS[aim]?.(rendezvous, seededRandom(pps)) ?? [])
        const knocks: { address: string; touches: Touch[] }[] = []
        for (let i = 0; i < users; i++) {
          const { touches } = await compose(user, door.gate.key, ...door.lease, ...ownLifetime(i))
          knocks.push({ address: await stage.another(user), touches })
        }

        const { daemon } = door
        const before = memory(daemon.pid, 'VmRSS')
        const since = daemon.lines.length
        const sender = stage.flood(packets, pps)
        await sleep(LEAD)
        let second = 0
        const knocked = async ({ address, touches }: (typeof knocks)[number]) => {
          const began = performance.now()
          await user.replay(touches, server.ipv4, address)
          const again = sleep(PASSES).then(() => user.replay(touches, server.ipv4, address))
          const isOpen = await stage.opens(user, address, () => {}, PATIENCE)
          second += Number(isOpen && performance.now() - began > PASSES)
          await again
          return isOpen
        }
        const opening = []
        for (const knock of knocks) {
          opening.push(knocked(knock))
          await sleep(PASSES / 4)
        }
        const opened = (await Promise.all(opening)).filter(Boolean).length
        const seconds = sender.lasts() / 1_000
        const sent = await sender.end()
        const peak = memory(daemon.pid, 'VmHWM')
        const honest = new Set(knocks.map(({ address }) => address))
        const strange = daemon.lines.slice(since).filter((line) => ![...honest].some((address) => line.includes(`"${address}"`)))
        const log = Math.round(strange.join('\n').length / seconds)
        const isBack = () => memory(daemon.pid, 'VmRSS') <= before + MOST_KEPT_MB
        const back = isWatched ? await until(isBack, 'the memory is given back', LATER).catch(() => NaN) : 0
        const after = memory(daemon.pid, 'VmRSS')
        await door.end('SIGTERM')
        const ended = JSON.parse(door.lines().findLast(logged('ended')) ?? '{}')
        const accepted = strange.filter(logged('accepted')).length
        const broken = rendezvous.length < RENDEZVOUS ? ['the rendezvous was not heard'] : []
        if (peak > MOST_MB) broken.push(`the daemon used ${peak} MB, more than ${MOST_MB}`)
        if (Number.isNaN(back)) broken.push(`the daemon still holds ${after - before} MB, more than ${MOST_KEPT_MB}`)
        if (log > MOST_LOG) broken.push(`the log has grown by ${log} bytes/s, more than ${MOST_LOG}`)
        return {
          tried: sent.packets,
          opened: accepted,
          honest: { tried: users, opened },
          broken,
          note: `${Math.round(sent.pps)} packets/s for ${seconds.toFixed(0)} s, heard ${ended.seen}, lost ${ended.dropped}; ${second} opened by the second pass; RSS ${before}, ${peak}${isWatched ? `, ${after} MB after ${Math.round(back / 1_000)} s` : ' MB'}; log ${log} bytes/s`,
        }
      }),
  }
}

const AT = Object.keys(AIMS)
/** More packets a second than a sender beside the daemon can make, the most that the daemon must handle, and the rate that `npm test` has time for. */
const [ALL, MOST, LESS] = [100_000, 50_000, 20_000]

/** The floods of `npm run attack`. */
export const floods: Attack[] = [
  ...AT.flatMap((aim) => [LESS, MOST, ALL].map((pps) => flood({ aim, pps }))),
  ...AT.flatMap((aim) => [100, 1_000].map((keys) => flood({ aim, pps: MOST, keys }))),
  ...limits,
]

/** The floods of `npm test`: short ones. */
export const showers: Attack[] = [...AT.map((aim) => flood({ aim, pps: LESS, users: 10, isWatched: false })), ...limits]
