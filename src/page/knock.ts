import { windowAt } from '../protocol/key'

/** A pass is held open so long, in milliseconds: the kernel repeats its SYNs after 1 and 3 s, which is the cure for loss. */
const HOLD_MS = 4_500
/** And at least so long, in milliseconds, though the door be open: it may have been so before, and Firefox touches 50 ports a second. */
const LEAST_MS = 1_500
/** A door is looked at anew this often, and what has come of it is asked in steps: milliseconds. */
const LOOK_MS = 700
const STEP_MS = 100
/** Passes of a knock that nobody can see arrive: each is three SYNs a port. */
const BLIND_PASSES = 2
/** Windows in which a browser that can't take its attempts back may knock: Chromium has sockets for two knocks at a time. */
const LASTING_WINDOWS = 2

/** Connection attempts that are under way. */
export interface Attempt {
  /** How many of them there are. 0: this browser does not make them. */
  readonly made: number
  /** Whether {@link accepted} sees every TCP service; else only what speaks HTTP. */
  readonly tells: boolean
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

/** Each pass as it begins. */
export type Told = (pass: number, ports: number) => void

export type Outcome = 'open' | 'sent' | 'shut' | 'unsent'

/**
 * Knocks until the door is open: pass after pass of one knock, and a new knock when the window has turned.
 * @param told is called when a pass has been sent
 * @returns `open`; `sent`, and whether it opened can't be seen; `shut`: no answer within the limit; `unsent`: the browser touches no ports
 */
export async function knock(world: World, plan: Plan, told: Told): Promise<Outcome> {
  const { look, period, limit } = plan
  const start = world.now()
  let { addresses } = plan
  let knocks = new Map<string, number[]>()
  let window = -1
  let windows = 0
  let tells = false
  for (let pass = 1; world.now() - start < limit; pass++) {
    const now = windowAt(world.now() / 1000, period)
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
      tells = look !== null && attempts.some((attempt) => attempt.tells)
      told(pass, made)
      const sent = world.now()
      const turn = (window + 1) * period * 1000
      const until = Math.min(world.lasting && look !== null ? turn : sent + HOLD_MS, start + limit)
      const looks = looksOf(world, addresses, look, tells)
      while (world.now() < until) {
        if (!(await isOpen(world, looks, until))) continue
        await world.sleep(Math.max(0, sent + LEAST_MS - world.now()))
        return 'open'
      }
    } finally {
      for (const attempt of attempts) attempt.end()
    }
    if (!tells && (pass === BLIND_PASSES || (world.lasting && look === null))) break
  }
  return tells ? 'shut' : 'sent'
}

/** The ways to see whether the door is open, each to be gone anew at each look. */
function looksOf(
  { touch, ask }: World,
  addresses: readonly string[],
  look: number | null,
  tells: boolean,
): (() => Promise<Attempt>)[] {
  if (look === null) return []
  if (tells) return addresses.map((address) => () => touch(address, [look]))
  return ask === null ? [] : [() => ask(look)]
}

/** A look at the door, or a pause as long where there is nothing to see. */
async function isOpen(world: World, looks: readonly (() => Promise<Attempt>)[], until: number): Promise<boolean> {
  const end = Math.min(world.now() + (world.lasting ? HOLD_MS : LOOK_MS), until)
  const attempts = await Promise.all(looks.map((look) => look()))
  try {
    do {
      await world.sleep(Math.min(STEP_MS, Math.max(0, end - world.now())))
      for (const attempt of attempts) if (await attempt.accepted()) return true
    } while (world.now() < end)
    return false
  } finally {
    for (const attempt of attempts) attempt.end()
  }
}
