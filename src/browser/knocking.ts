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
  const knocking = new Knocking(world, plan, told)
  try {
    return await knocking.run()
  } finally {
    knocking.end()
  }
}

class Knocking {
  readonly #start: number
  /** Those that this device has a way to. */
  #addresses: readonly string[]
  /** The ports of the knock of this window, by the address. */
  #knocks = new Map<string, number[]>()
  #window = -1
  #windows = 0
  /** Whether this browser can see of the door whether it opens. */
  #tells = false
  #sight: Sight | null = null
  #answer: Answer | null = null
  #said: Blindness | null = null

  constructor(
    readonly world: World,
    readonly plan: Plan,
    readonly told: Told,
  ) {
    this.#start = world.now()
    this.#addresses = plan.addresses
  }

  get #blindness(): Blindness | null {
    return this.#answer ?? (this.#tells ? null : 'sent')
  }

  /** See {@link knock}. */
  async run(): Promise<Outcome> {
    const { look, limit } = this.plan
    for (let pass = 1; this.world.now() - this.#start < limit; pass++) {
      if (!this.#keepUp()) break
      const { touches, sight } = await this.#touch()
      try {
        const outcome = await this.#watch(pass, touches, sight)
        if (outcome !== null) return outcome
      } finally {
        for (const touch of touches) touch.end()
      }
      const isVain = this.world.lasting && (look === null || this.#answer !== null)
      if (this.#blindness !== null && (pass === BLIND_PASSES || isVain)) break
    }
    return this.#blindness ?? 'shut'
  }

  /** Gives up what is under way. */
  end(): void {
    this.#sight?.end()
  }

  /** Has a knock for the window as it is now. @returns false where there may be no further one */
  #keepUp(): boolean {
    const now = windowAt(this.world.now() / 1000, this.plan.period)
    if (now === this.#window) return true
    if (this.world.lasting && this.#windows++ === LASTING_WINDOWS) return false
    this.#window = now
    // One for each address: to the daemon, one knock from two addresses is somebody who plays it again.
    this.#knocks = new Map(this.#addresses.map((address) => [address, this.plan.ports(now)]))
    return true
  }

  /** One pass, by all addresses. */
  async #touch(): Promise<{ readonly touches: readonly Attempt[]; readonly sight: Sight }> {
    const { look } = this.plan
    const isFirst = this.#sight === null
    // Not in the way of the knock, but in front of it.
    const front = isFirst && look !== null ? this.#addresses.map((address) => lookFirst(this.world, address, look)) : []
    const touches = await Promise.all(
      this.#addresses.map((address) => this.world.touch(address, this.#knocks.get(address) ?? [])),
    )
    this.#sight ??= new Sight(this.world, await Promise.all(front))
    return { touches, sight: this.#sight }
  }

  /** What comes of one pass until the next is due. @returns how the knock ends by that; null: it goes on */
  async #watch(pass: number, touches: readonly Attempt[], sight: Sight): Promise<Outcome | null> {
    const { world, told } = this
    const { look, limit, period } = this.plan
    const made = touches.reduce((sum, touch) => sum + touch.made, 0)
    if (made === 0) return 'unsent'
    // Where this device has no IPv6, say, there is nothing to wait for.
    const ours = touches.filter((touch) => touch.made > 0)
    this.#addresses = this.#addresses.filter((_, i) => touches[i].made > 0)
    this.#tells = look !== null && ours.some((touch) => touch.tells)
    told.sent(pass, made)
    const sent = world.now()
    const whole = sent + LEAST_MS
    const turn = (this.#window + 1) * period * 1000
    const hold = () => (world.lasting && look !== null && this.#answer === null ? turn : sent + HOLD_MS)
    const until = () => Math.min(hold(), this.#start + limit)
    const ways = waysToLook(world, this.#addresses, look, this.#tells)
    while (world.now() < until()) {
      const end = [null, this.#said].includes(this.#blindness) ? until() : Math.min(whole, until())
      if (this.#answer !== null) await world.sleep(end - world.now())
      else {
        const isSeen = await sight.look(ways, Math.min(world.now() + (world.lasting ? HOLD_MS : LIFE), end))
        const opening = isSeen ? await sight.judged(sent) : null
        if (isSeen) await world.sleep(Math.max(0, whole - world.now()))
        this.#answer = await answerTo(ours)
        if (opening !== null && this.#answer === null) return opening
      }
      const why = this.#blindness
      if (why === null || why === this.#said || world.now() < whole) continue
      told.unseen(why)
      this.#said = why
    }
    return null
  }
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
