import { windowAt } from '../protocol/key'
import { LIFE, type Opening } from '../protocol/opening'
import { type Answer, type Attempt, answerTo, Sight } from './sight'

/** A pass is held open so long, in milliseconds: the kernel repeats its SYNs after 1 and 3 s, which is the cure for loss. */
const HOLD_MS = 4_500
/** And at least so long, in milliseconds: the door may have been open before, and Firefox touches 50 ports a second. */
const LEAST_MS = 1_500
/** Passes of a knock of which nobody can see whether it opens: each is three SYNs a port. */
const BLIND_PASSES = 2
/** Windows in which a browser that can't take its attempts back may knock: Chromium has sockets for two knocks at a time. */
const LASTING_WINDOWS = 2

/** How a page reaches the network and the clock. */
export interface World {
  /** Unix milliseconds. */
  now(): number
  sleep(milliseconds: number): Promise<void>
  /** Tries to connect to each of these ports. */
  touch(address: string, ports: readonly number[]): Promise<Attempt>
  /** Asks for an answer by HTTP at this port of the server; null: this page may not. */
  readonly ask: ((port: number) => Promise<Attempt>) | null
  /** Attempts go on for two minutes whatever one does (fetch in Chromium). */
  readonly lasting: boolean
}

/** What to send and where to look. */
export interface Plan {
  readonly addresses: readonly string[]
  /** Seconds. */
  readonly period: number
  /** The ports of a knock for one address and window. */
  ports(window: number): number[]
  /** The TCP port by which to see whether the door has opened; null: it can't be seen. */
  readonly look: number | null
  /** Milliseconds after which to give up. */
  readonly limit: number
}

/** Why whether the door opens can't be seen: who answers in place of the server, or the browser shows nothing of the door. */
export type Blindness = Answer | 'sent'

/** Who is told how a knock goes. */
export interface Told {
  /** A pass has been sent, to so many ports. */
  sent(pass: number, ports: number): void
  /** The first is whole, and whether the door opens may never be seen here: only a try can tell. More passes may follow. */
  unseen(why: Blindness): void
}

export type Outcome = Opening | Blindness | 'shut' | 'unsent'

/**
 * Knocks until the door is open: pass after pass of one knock, and a new knock when the window has turned.
 * @returns how it is open; why that can't be seen; `shut`: no answer within the limit; `unsent`: the browser touches no ports
 */
export async function knock(world: World, plan: Plan, told: Told): Promise<Outcome> {
  const { look, period, limit } = plan
  const start = world.now()
  let { addresses } = plan
  let knocks = new Map<string, number[]>()
  let window = -1
  let windows = 0
  let tells = false
  let sight: Sight | null = null
  let answer: Answer | null = null
  let said: Blindness | null = null
  const blindness = () => answer ?? (tells ? null : 'sent')
  try {
    for (let pass = 1; world.now() - start < limit; pass++) {
      const now = windowAt(world.now() / 1000, period)
      if (now !== window) {
        if (world.lasting && windows++ === LASTING_WINDOWS) break
        window = now
        // One for each address: to the daemon, one knock from two addresses is somebody who plays it again.
        knocks = new Map(addresses.map((address) => [address, plan.ports(now)]))
      }
      // Not in the way of the knock, but in front of it.
      const front = sight === null && look !== null ? addresses.map((address) => lookFirst(world, address, look)) : []
      const touches = await Promise.all(addresses.map((address) => world.touch(address, knocks.get(address) ?? [])))
      sight ??= new Sight(world, await Promise.all(front))
      try {
        const made = touches.reduce((sum, touch) => sum + touch.made, 0)
        if (made === 0) return 'unsent'
        // Where this device has no IPv6, say, there is nothing to wait for.
        const ours = touches.filter((touch) => touch.made > 0)
        addresses = addresses.filter((_, i) => touches[i].made > 0)
        tells = look !== null && ours.some((touch) => touch.tells)
        told.sent(pass, made)
        const sent = world.now()
        const whole = sent + LEAST_MS
        const turn = (window + 1) * period * 1000
        const hold = () => (world.lasting && look !== null && answer === null ? turn : sent + HOLD_MS)
        const until = () => Math.min(hold(), start + limit)
        const ways = waysToLook(world, addresses, look, tells)
        while (world.now() < until()) {
          const end = [null, said].includes(blindness()) ? until() : Math.min(whole, until())
          if (answer !== null) await world.sleep(end - world.now())
          else {
            const isSeen = await sight.look(ways, Math.min(world.now() + (world.lasting ? HOLD_MS : LIFE), end))
            const opening = isSeen ? await sight.judged(sent) : null
            if (isSeen) await world.sleep(Math.max(0, whole - world.now()))
            answer = await answerTo(ours)
            if (opening !== null && answer === null) return opening
          }
          const why = blindness()
          if (why === null || why === said || world.now() < whole) continue
          told.unseen(why)
          said = why
        }
      } finally {
        for (const touch of touches) touch.end()
      }
      if (blindness() !== null && (pass === BLIND_PASSES || (world.lasting && (look === null || answer !== null)))) break
    }
  } finally {
    sight?.end()
  }
  return blindness() ?? 'shut'
}

/** An attempt at the door in front of the knock, such that it can be seen whether it is answered. */
async function lookFirst({ touch, ask, lasting }: World, address: string, look: number): Promise<Attempt> {
  const first = await touch(address, [look])
  if (first.made === 0 || first.tells || lasting || ask === null) return first
  // Firefox: it takes a second to touch the ports of the knock, so this comes before they are all touched.
  first.end()
  return ask(look)
}

/** The ways to see whether the door is open, each to be gone anew at each look. */
function waysToLook(
  { touch, ask }: World,
  addresses: readonly string[],
  look: number | null,
  tells: boolean,
): (() => Promise<Attempt>)[] {
  if (look === null) return []
  if (tells) return addresses.map((address) => () => touch(address, [look]))
  return ask === null ? [] : [() => ask(look)]
}
