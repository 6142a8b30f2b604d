import { Fault, inOneLine } from '../../system/fault'
import { ReadFault } from '../../system/files'
import { SureFolder } from '../../system/sure-folder'
import { type GivenOrder, MAX_ORDER, MAX_ORDERS, ORDER_LIFE, orderFile, orderOfFile, parseOrder } from './order'

/** Orders that have been taken out and are remembered, though their files are gone: nobody gives so many in the life of one. */
const MAX_TAKEN = 4_096

/**
 * The folder of orders. Each order is taken out once: what has been seen there is not looked at again, as long as it lies there, whatever the
 * clock says. What lies there when a daemon starts was given to another one.
 */
export class Inbox {
  readonly #path: string
  readonly #ignored: (why: string) => void
  /** The orders that lay there when it was last read. */
  #there: ReadonlySet<string> = new Set()
  /** The latest that were taken out. */
  readonly #taken = new Set<string>()
  #last: Promise<unknown> = Promise.resolve()
  /** When it began, in Unix milliseconds. */
  #began = Infinity
  /** Whether something may lie there that has not been seen yet, and is not meant for us. */
  #isForeign = true

  /** @param ignored told why an order, or all of them, are not followed */
  constructor(path: string, ignored: (why: string) => void) {
    this.#path = path
    this.#ignored = ignored
  }

  /** Notes what lies there already. @param wall the clock, in Unix milliseconds */
  async begin(wall: () => number): Promise<void> {
    this.#began = wall()
    await this.take(wall)
  }

  /** Takes out the orders that have come since the last call. @param wall the clock, in Unix milliseconds: an order may come while others are read */
  take(wall: () => number): Promise<GivenOrder[]> {
    // One after the other: two at a time could take out the same order.
    const taken = this.#last
      .then(() => this.#take(wall))
      .catch((error) => {
        this.#ignored(inOneLine(error))
        return []
      })
    this.#last = taken
    return taken
  }

  async #take(wall: () => number): Promise<GivenOrder[]> {
    const folder = await SureFolder.open(this.#path)
    if (!folder) {
      this.#there = new Set()
      this.#isForeign = false
      return []
    }
    try {
      const names = await folder.names(MAX_ORDERS)
      if (names === null) throw new Fault(`${this.#path}: holds more than ${MAX_ORDERS} files`, { hint: 'delete them' })
      const ids = names.flatMap((name) => orderOfFile(name) ?? [])
      const before = this.#there
      this.#there = new Set(ids)
      const isForeign = this.#isForeign
      this.#isForeign = false
      if (isForeign) return []
      const orders: GivenOrder[] = []
      for (const id of ids) {
        if (before.has(id) || this.#taken.has(id)) continue
        const order = await this.#read(folder, id, wall)
        if (order) orders.push(order)
      }
      return orders
    } finally {
      await folder.close()
    }
  }

  /** @returns null where it is none that is to be followed */
  async #read(folder: SureFolder, id: string, wall: () => number): Promise<GivenOrder | null> {
    try {
      const given = parseOrder(await folder.read(orderFile(id), MAX_ORDER))
      const why = given ? faultOf(given, id, this.#began, wall()) : 'is no order'
      if (why !== null) throw new Fault(`${this.#path}/${orderFile(id)}: ${why}`)
      this.#taken.add(id)
      if (this.#taken.size > MAX_TAKEN) this.#taken.delete(this.#taken.values().next().value as string)
      return given
    } catch (error) {
      // Who has given it may have taken it away again.
      if (!(error instanceof ReadFault && error.code === 'ENOENT')) this.#ignored(inOneLine(error))
      return null
    }
  }
}

/** Why an order is not followed; null: it is. */
function faultOf({ id, at }: GivenOrder, name: string, began: number, wall: number): string | null {
  if (id !== name) return 'has the name of another order'
  if (at > wall) return 'is of a time to come'
  if (at < began) return 'was given before the daemon started'
  return wall - at > ORDER_LIFE ? `was given more than ${ORDER_LIFE / 1000} s ago` : null
}
