// What an attacker on the path does: hold a knock back, or send from the user's own address.

import { setTimeout as sleep } from 'node:timers/promises'
import { clockOf } from '../lab/clock'
import { compose } from '../lab/knocks'
import { seededRandom } from '../random'
import type { Attack } from './attack'
import { POOL } from './doors'
import { AHEAD, endHaving, honestly, many, onOurs, playAll, type Recorded, refused, TAPS } from './on-ours'
import type { Stage } from './stage'

/** Keeps what an address sends from the server while something is done; the attacker on the path may use it as they like. */
async function heldBack({ server }: Stage, address: string, work: () => Promise<unknown>) {
  const rule = ['PREROUTING', '-s', address, '-j', 'DROP']
  await server.must(['iptables', '-t', 'raw', '-A', ...rule])
  await work()
  await server.must(['iptables', '-t', 'raw', '-D', ...rule])
}

export const delays: Attack[] = [
  {
    kind: 'delay',
    name: 'packets of a knock that was held back, with require_address',
    what: 'An attacker on the path stops a knock and delivers it from their own address within its window: a knock that names another address opens nothing and costs the user nothing, one that names none is refused.',
    run: onOurs(
      async (stage, door, { times }) => {
        const { user, attacker, another } = stage
        const honest = { tried: 0, opened: 0 }
        const broken: string[] = []
        let [tried, opened] = [0, 0]
        for (let i = 0; i < times(3, 30); i++) {
          for (const isNamed of [true, false]) {
            const [address, as] = [await another(user), await another(attacker)]
            await heldBack(stage, address, () =>
              door.client(address, ...door.lease, '--passes', '1', ...(isNamed ? ['-i', address] : [])),
            )
            const packets = await stage.recorded(address)
            await stage.play(packets, address, as)
            await refused(door, as, isNamed ? 'address-mismatch' : 'not-granted', broken)
            tried++
            opened += await stage.open(attacker, [as])
            if (!isNamed) continue
            // In the end it arrives.
            honest.tried++
            honest.opened += Number(await stage.opens(user, address, () => stage.play(packets, address, address)))
          }
        }
        return { tried, opened, honest, broken }
      },
      ['--require-address'],
    ),
  },
  {
    kind: 'delay',
    name: 'packets of a knock that was held back until its window had passed',
    what: "An attacker on the path stops a knock that names no address, and delivers it a minute and a half later (by faketime; the kernel's clock stays).",
    run: onOurs(async (stage, door, { times }) => {
      const { user, another } = stage
      const { honest, knock } = honestly(stage, door)
      await knock()
      const knocks: Recorded[] = []
      for (let i = 0; i < times(3, 10); i++) {
        const address = await another(user)
        await heldBack(stage, address, () => door.client(address, ...door.lease, '--passes', '1'))
        knocks.push({ address, packets: await stage.recorded(address) })
      }
      await door.end('SIGTERM')
      await door.start(clockOf(`+${AHEAD}`))
      const played = await playAll(stage, knocks)
      const seen = await endHaving(door)
      return { ...played, honest, broken: seen < TAPS * played.tried ? [`the daemon saw only ${seen} taps`] : [] }
    }),
  },
]

/** Forged taps in the middle of a pass: up to the first number we promise that the knock opens by its second pass. */
const FORGED = [30, 60, 120, 240]
/** Milliseconds between the passes of a knock. */
const PASSES = 1_000

export const cancel: Attack = {
  kind: 'cancel',
  name: "packets from the user's own address in the middle of their knock",
  what: "An attacker who can send from the user's address sends ports of their choice, the same ones, after the first half of each pass of the user's knock.",
  run: onOurs(async (stage, door, { times }) => {
    const { user } = stage
    const random = seededRandom(6)
    const honest = { tried: 0, opened: 0 }
    const seen: string[] = []
    let tried = 0
    for (const count of FORGED) {
      const sources = await many(stage, user, times(3, 20))
      /** One of them knocks; half of each pass comes before the forged taps. */
      const knock = async (source: string) => {
        const { touches } = await compose(user, door.gate.key, ...door.lease)
        const ports = touches.map(({ port }) => port)
        const half = ports.length / 2
        const forged = Array.from({ length: count }, () => POOL[Math.floor(random() * POOL.length)] ?? NaN)
        const packets = [...ports.slice(0, half), ...forged, ...ports.slice(half)].map((port) => ({ source, port }))
        const pass = stage.pack(packets)
        const twice = async () => {
          await stage.play(pass, source, source)
          await sleep(PASSES)
          await stage.play(pass, source, source)
        }
        return stage.opens(user, source, twice, PASSES)
      }
      const opened = (await Promise.all(sources.map(knock))).filter(Boolean).length
      tried += 2 * count * sources.length
      if (count === FORGED[0]) {
        honest.tried += sources.length
        honest.opened += opened
      }
      seen.push(`${opened} of ${sources.length} open with ${count}`)
    }
    return { tried, opened: 0, honest, note: `forged taps in each pass: ${seen.join(', ')}` }
  }),
}
