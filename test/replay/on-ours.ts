// What attacks on our real daemon have in common: users who knock, a listener who records and replays, and what must be logged.

import { setTimeout as sleep } from 'node:timers/promises'
import { logged } from '../lab/gate'
import type { Host } from '../lab/host'
import { against } from './any-door'
import type { Outcome, Scale } from './attack'
import { LEASE, openOurs } from './doors'
import type { Stage } from './stage'

/** Milliseconds after which a lease has expired: the kernel counts whole seconds. */
export const OVER = (LEASE + 2) * 1_000
/** Milliseconds in which the daemon has handled what was sent. */
export const HEARD = 400
/** Seconds by which the clock of a hasty user is ahead: its windows are not accepted yet. */
export const AHEAD = 90
/** Of a knock. */
export const TAPS = 52

export type Ours = Awaited<ReturnType<typeof openOurs>>
export type Recorded = { address: string; packets: string }

/** An attack on our door, with a key of these options. @param others further hosts */
export const onOurs =
  (
    attack: (stage: Stage, door: Ours, scale: Scale) => Promise<Outcome>,
    keyOptions: string[] = [],
    others: string[] = [],
  ): ((scale: Scale) => Promise<Outcome>) =>
  (scale) =>
    against({ open: (stage) => openOurs(stage, keyOptions) }, (stage, door) => attack(stage, door, scale), ...others)

/** Counts honest knocks, and those that open. */
export function honestly({ user, another, opens }: Stage, door: Ours) {
  const honest = { tried: 0, opened: 0 }
  return {
    honest,
    /** A user knocks from a new address. @param options of knockclient */
    async knock(...options: string[]) {
      const address = await another(user)
      honest.tried++
      honest.opened += Number(await opens(user, address, () => door.client(address, ...door.lease, '--passes', '1', ...options)))
      return address
    },
  }
}

/** Users knock, and the attacker records it; then their leases end. */
export async function record(stage: Stage, knock: () => Promise<string>, times: number) {
  const knocks: Recorded[] = []
  for (let i = 0; i < times; i++) {
    const address = await knock()
    knocks.push({ address, packets: await stage.recorded(address) })
  }
  await sleep(OVER)
  return knocks
}

/** Replays recorded knocks from addresses of the attacker's, then from the users' own; counts the doors that open. */
export async function playAll(stage: Stage, knocks: Recorded[]) {
  const { user, attacker } = stage
  const [users, attackers] = [knocks.map(({ address }) => address), await many(stage, attacker, knocks.length)]
  for (const sources of [attackers, users])
    for (const [i, { address, packets }] of knocks.entries()) await stage.play(packets, address, sources[i] ?? '')
  await sleep(HEARD)
  const opened = (await stage.open(attacker, attackers)) + (await stage.open(user, users))
  return { tried: 2 * knocks.length, opened }
}

/** This many new addresses of a host. */
export async function many({ another }: Stage, host: Host, count: number) {
  const addresses = []
  for (let i = 0; i < count; i++) addresses.push(await another(host))
  return addresses
}

/**
 * Waits until the daemon has logged its refusal of what an address has sent: what has not arrived proves nothing.
 * @param broken gets a line if it has not
 */
export const refused = ({ daemon }: Ours, source: string, refusal: string, broken: string[]) =>
  daemon.line(logged('refused', { source, refusal })).catch(() => broken.push(`no "${refusal}" for ${source} in the log`))

/** Ends the daemon in order. @returns how many taps it has seen */
export async function endHaving(door: Ours) {
  await door.end('SIGTERM')
  const { seen } = JSON.parse(door.lines().findLast(logged('ended')) ?? '{}')
  return Number(seen ?? 0)
}

/**
 * Replays recorded knocks before and after the daemon is killed and started again, and then has it open for an honest one.
 * @param taps of each
 * @param knock the honest one
 */
export async function playTwice(stage: Stage, door: Ours, knocks: Recorded[], taps: number, knock: () => Promise<unknown>) {
  const before = await playAll(stage, knocks)
  await door.end('SIGKILL')
  await door.start()
  const after = await playAll(stage, knocks)
  await knock()
  const seen = await endHaving(door)
  const broken = seen < taps * after.tried ? [`the daemon saw only ${seen} of ${taps * after.tried} taps`] : []
  return { tried: before.tried + after.tried, opened: before.opened + after.opened, broken }
}
