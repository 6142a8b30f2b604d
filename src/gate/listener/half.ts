import type { Name, Tap } from '../tap'

/** Gone places are let go of when there are so many in front of the oldest that is there. */
export const MAX_GONE = 16_384

/** A source that has said a port of the table, as long as it is remembered. */
export interface Place<Session extends { readonly touches: { readonly size: number } }> {
  readonly name: Name
  /** Its first tap, and when that was, in steady milliseconds. */
  readonly tap: Tap
  readonly at: number
  /** What it has said since; null before its second tap, which nearly none of a flood's forged sources sends. */
  session: Session | null
  /** Where it is held; null once forgotten. */
  half: Half<Session> | null
  /** Its number in there. */
  seat: number
}

/**
 * Half of the places: those whose session has no quorum, or those whose session has one. A flood of either kind can't push out the other.
 * A Map gives its oldest entry, too, but walks over everything that was ever deleted in front of it: under a flood that is the whole cost of a tap.
 */
export class Half<Session extends { readonly touches: { readonly size: number } }> {
  readonly #maxPlaces: number
  readonly #maxTaps: number
  #size = 0
  taps = 0
  /** Places by age, each in its seat, and some that have gone. */
  #byAge: Place<Session>[] = []
  #oldest = 0

  constructor(maxPlaces: number, maxTaps: number) {
    this.#maxPlaces = maxPlaces
    this.#maxTaps = maxTaps
  }

  add(place: Place<Session>): void {
    place.half = this
    place.seat = this.#byAge.length
    this.#byAge.push(place)
    this.#size++
    this.taps += place.session?.touches.size ?? 1
  }

  remove(place: Place<Session>): void {
    place.half = null
    this.#size--
    this.taps -= place.session?.touches.size ?? 1
  }

  /** The place to give up, oldest first: fewest taps first would push out the honest newcomer. */
  get surplus(): Place<Session> | undefined {
    if (this.#size <= this.#maxPlaces && this.taps <= this.#maxTaps) return undefined
    while (!this.#isThere(this.#byAge[this.#oldest], this.#oldest)) this.#oldest++
    if (this.#oldest > MAX_GONE) this.tidy()
    return this.#byAge[this.#oldest]
  }

  /** Lets go of what has gone. */
  tidy(): void {
    this.#byAge = this.#byAge.filter((place, i) => this.#isThere(place, i))
    this.#oldest = 0
    for (let i = 0; i < this.#byAge.length; i++) this.#byAge[i].seat = i
  }

  /** It may have left and come back meanwhile. */
  #isThere({ half, seat }: Place<Session>, i: number): boolean {
    return half === this && seat === i
  }
}
