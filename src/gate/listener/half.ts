import { type Aged, ByAge } from '../by-age'
import type { Name, Tap } from '../tap'

/** A source that has said a port of the table, as long as it is remembered. */
export interface Place<Session extends { readonly touches: { readonly size: number } }> extends Aged<Place<Session>> {
  readonly name: Name
  /** Its first tap, and when that was, in steady milliseconds. */
  readonly tap: Tap
  readonly at: number
  /** What it has said since; null before its second tap, which nearly none of a flood's forged sources sends. */
  session: Session | null
  /** Where it is held; null once forgotten. */
  half: Half<Session> | null
}

/** Half of the places: those whose session has no quorum, or those whose session has one. A flood of either kind can't push out the other. */
export class Half<Session extends { readonly touches: { readonly size: number } }> {
  readonly #maxPlaces: number
  readonly #maxTaps: number
  readonly #places = new ByAge<Place<Session>>()
  #size = 0
  taps = 0

  constructor(maxPlaces: number, maxTaps: number) {
    this.#maxPlaces = maxPlaces
    this.#maxTaps = maxTaps
  }

  add(place: Place<Session>): void {
    place.half = this
    this.#places.add(place)
    this.#size++
    this.taps += place.session?.touches.size ?? 1
  }

  remove(place: Place<Session>): void {
    place.half = null
    this.#places.remove(place)
    this.#size--
    this.taps -= place.session?.touches.size ?? 1
  }

  /** The place to give up, oldest first: fewest taps first would push out the honest newcomer. */
  get surplus(): Place<Session> | undefined {
    return this.#size > this.#maxPlaces || this.taps > this.#maxTaps ? this.#places.oldest : undefined
  }
}
