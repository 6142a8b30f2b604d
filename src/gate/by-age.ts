/** What can be held by age: whoever holds it links it to those that came before and after it. */
export interface Aged<Self> {
  before: Self | null
  after: Self | null
}

/**
 * Things in the order in which they came; any of them may leave, and come back as the newest. Linked, since a Map gives its oldest entry, too,
 * but walks over everything that was ever deleted in front of it: under a flood that is the whole cost of a tap.
 */
export class ByAge<Item extends Aged<Item>> {
  #oldest: Item | null = null
  #newest: Item | null = null

  /** Undefined where there is none. */
  get oldest(): Item | undefined {
    return this.#oldest ?? undefined
  }

  /** Takes in what is held nowhere, as the newest. */
  add(item: Item): void {
    item.before = this.#newest
    if (this.#newest) this.#newest.after = item
    else this.#oldest = item
    this.#newest = item
  }

  /** Lets go of what is held here. */
  remove(item: Item): void {
    const { before, after } = item
    if (before) before.after = after
    else this.#oldest = after
    if (after) after.before = before
    else this.#newest = before
    // What has left must keep nothing alive.
    item.before = item.after = null
  }
}
