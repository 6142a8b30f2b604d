import { windowAt } from '../protocol/key'

/** A pass is held open so long, in milliseconds: the kernel repeats its SYNs after 1 and 3 s, which is the cure for loss. */
export const HOLD_MS = 4_500
/** A door is looked at this often, in milliseconds. */
const LOOK_MS = 700
/** Passes of a knock whose door can't be seen: each is three SYNs a port. */
const BLIND_PASSES = 2
/** Windows in which a browser that can't take its attempts back may knock: Chromium has sockets for two knocks at a time. */
const LASTING_WINDOWS = 2

/** Connection attempts that are under way. */
export interface Attempt {
  /** How many of them there are. 0: this browser does not make them. */
  readonly made: number
  /** Whether anybody has accepted one. */
  accepted(): boolean | Promise<boolean>
  /** Gives them up. */
  end(): void
}

/** How a page reaches the network and the clock. */
export interface World {
  /** Unix milliseconds. */
  now(): number
  sleep(milliseconds: number): Promise<void>
  /** Tries to connect to each of these ports. */
  touch(address: string, ports: readonly number[]): Promise<Attempt>
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

/** Each pass as it begins. */
export type Told = (pass: number, ports: number) => void

/**
 * Knocks until the door is open: pass after pass of one knock, and a new knock when the window has turned.
 * @param told is called when a pass has been sent
 * @returns `open`; `sent`, and whether it opened can't be seen; `shut`: no answer within the limit; `unsent`: the browser touches no ports
 */
export async function knock(world: World, plan: Plan, told: Told): Promise<'open' | 'sent' | 'shut' | 'unsent'> {
  const start = world.now()
  let { addresses } = plan
  let knocks = new Map<string, number[]>()
  let window = -1
  let windows = 0
  for (let pass = 1; world.now() - start < plan.limit; pass++) {
    const now = windowAt(world.now() / 1000, plan.period)
    if (now !== window) {
      if (world.lasting && windows++ === LASTING_WINDOWS) break
      window = now
      // One for each address: to the daemon, one knock from two addresses is somebody who plays it again.
      knocks = new Map(addresses.map((address) => [address, plan.ports(now)]))
    }
    const attempts = await Promise.all(addresses.map((address) => world.touch(address, knocks.get(address) ?? [])))
    try {
      const made = attempts.reduce((sum, attempt) => sum + attempt.made, 0)
      if (made === 0) return 'unsent'
      // Where this device has no IPv6, say, there is nothing to wait for.
      addresses = addresses.filter((_, i) => attempts[i].made > 0)
      told(pass, made)
      const turn = (window + 1) * plan.period * 1000
      const until = Math.min(world.lasting ? turn : world.now() + HOLD_MS, start + plan.limit)
      while (world.now() < until) if (await isOpen(world, addresses, plan.look, until)) return 'open'
    } finally {
      for (const attempt of attempts) attempt.end()
    }
    if (plan.look === null && pass === BLIND_PASSES) break
  }
  return plan.look === null ? 'sent' : 'shut'
}

/** A look at the door, or a pause as long where there is nothing to see. */
async function isOpen(world: World, addresses: readonly string[], look: number | null, until: number): Promise<boolean> {
  const end = Math.min(world.now() + (world.lasting ? HOLD_MS : LOOK_MS), until)
  const looks = look === null ? [] : await Promise.all(addresses.map((address) => world.touch(address, [look])))
  try {
    do {
      await world.sleep(Math.min(100, Math.max(0, end - world.now())))
      for (const attempt of looks) if (await attempt.accepted()) return true
    } while (world.now() < end)
    return false
  } finally {
    for (const attempt of looks) attempt.end()
  }
}
