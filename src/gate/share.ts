/* How much of the firewall and of the log one key may use: nobody's share is everybody's. */

/**
 * Effects that a key may have at once, and per second from then on. An effect is one service opened or shut: a rule, and up to two lines of
 * the log. A person needs some in a minute; all services of the largest grant fit in at once. This is what bounds the log: the unit lifts
 * journald's own limit, which would drop what other keys say.
 */
export const SHARE = 256
export const SHARE_RATE = 8
/** Refusals of one key that are logged at once, and per second from then on. */
export const REFUSALS = 60
export const REFUSAL_RATE = 1
/** Names that are held; one that is full again says nothing, and is forgotten first. Far more than there are keys. */
const MAX_NAMES = 262_144

interface Bucket {
  level: number
  /** steady milliseconds */
  at: number
}

/** Token buckets, one for each name. */
export class Shares {
  readonly #size: number
  readonly #rate: number
  readonly #buckets = new Map<string, Bucket>()

  /** @param size what may be taken at once @param rate what is added in a second */
  constructor(size: number, rate: number) {
    this.#size = size
    this.#rate = rate
  }

  /** Takes a part of a name's share, or nothing where less is left. @param steady milliseconds on a monotonic clock */
  take(name: string, part: number, steady: number): boolean {
    const bucket = this.#buckets.get(name)
    const level = bucket ? Math.min(this.#size, bucket.level + ((steady - bucket.at) / 1000) * this.#rate) : this.#size
    const isEnough = part <= level
    // Deleted and set again, so that the map stays in order of the latest use.
    this.#buckets.delete(name)
    this.#buckets.set(name, { level: isEnough ? level - part : level, at: steady })
    if (this.#buckets.size > MAX_NAMES) this.#buckets.delete(this.#buckets.keys().next().value as string)
    return isEnough
  }
}
