import { setTimeout as sleep } from 'node:timers/promises'
import type { Manner, Sent } from './sending'
import type { Touches } from './touches'
import { touchTcp, touchUdp } from './transport'

/* One pass of knocks, and the pause to the next (docs/protocol.md, "Sending"). */

/** The second pass comes this many milliseconds after the first, and up to as much again is spread at random (docs/protocol.md, "Sending"). */
const PASS_EARLIEST = 500
const PASS_SPREAD = 1_000
/**
 * Where nothing has opened by so many passes, each further pause is twice the one before, up to so many times the usual one: a network that takes
 * the knock for a port scan holds it off anew with each pass.
 */
const PASSES_AT_ONCE = 3
const LONGEST_FACTOR = 8
/**
 * Milliseconds from the start of one knock to that of the next, of one key and by one address: the first is decoded before the second
 * mixes its ports with those of it (docs/protocol.md, "Receiving", 4 and 7; test/replay/neighbours.ts plays just this).
 */
const APART = 50

/**
 * One pass of all knocks, each so long after the one before that the two are told apart.
 * @throws {Fault} where no packet of one can be sent
 */
export async function sendAll(outgoing: readonly Sent[], address: string, touches: Touches): Promise<void> {
  for (const [n, one] of outgoing.entries()) {
    const gap = n === outgoing.length - 1 ? null : sleep(APART)
    await Promise.all([send(one, address, touches), gap])
  }
}

/** One pass of one knock. @throws {Fault} where no packet can be sent */
export function send({ sending, sequence }: Sent, address: string, touches: Touches): Promise<void> {
  const { udp, pace, from } = sending
  const { ports, payload } = sequence
  return udp || payload ? touchUdp(address, ports, pace, touches, from, payload) : touchTcp(address, ports, pace, touches, from)
}

/** Milliseconds from a pass to the next. @param pass its number from 1; without it: the usual pause */
export function passPause({ random }: Pick<Manner, 'random'>, pass = 1): number {
  return (PASS_EARLIEST + PASS_SPREAD * random()) * Math.min(2 ** Math.max(pass - PASSES_AT_ONCE, 0), LONGEST_FACTOR)
}
