import type { Now } from '../../gate/clock'

/** Rows that are remembered: twice as many as are followed, so that those that are gone have room, too. */
const MAX_ROWS = 131_072
/** Of one row: ends that it has said, and ids of what was closed. Each is a knock of the row's key. */
const MAX_OF_ROW = 256
/** A row that nobody has is remembered for so many milliseconds beyond its end: a clock that is behind would take it for good. */
const KEPT = 3_600_000

/** What was seen of a row, for one end that it has said. */
export interface Sight {
  /** When what it says is over here, in steady milliseconds; Infinity: when it is closed. Never later than it was. */
  end: number
  /** Whether etcd has been asked how long the row has left. */
  isAsked: boolean
  /** Whether it has been put in force here. */
  isTaken: boolean
}

interface Seen {
  readonly sights: Map<string, Sight>
  readonly closed: Set<string>
  /** The last of its ends. */
  end: number
}

/**
 * What a gateway has seen of the fleet's rows: when it first saw each, which it outlives by no leader of etcd, no break and no snapshot that is put
 * back; and what was closed, which comes to nothing whoever puts it back.
 */
export class Sights {
  readonly #rows = new Map<string, Seen>()
  readonly #isThere: (row: string) => boolean

  /** @param isThere whether a row is there at this moment: it is not forgotten */
  constructor(isThere: (row: string) => boolean) {
    this.#isThere = isThere
  }

  /**
   * The first sight of a row as it is now; later ones give it no more time.
   * @param seconds that it says it is for; null: until closed
   */
  see(row: string, { id, until }: { id: string; until: number | null }, seconds: number | null, now: Now): Sight {
    const end = seconds === null ? Infinity : now.steady + seconds * 1000
    const seen = this.#seen(row, now)
    const name = `${id} ${until}`
    const sight = seen.sights.get(name) ?? { end, isAsked: false, isTaken: false }
    sight.end = Math.min(sight.end, end)
    seen.sights.set(name, sight)
    seen.end = Math.max(seen.end, sight.end)
    shrink(seen.sights)
    return sight
  }

  /** Notes that leases or a lock of these ids were closed, whatever end they had. */
  close(row: string, ids: readonly (string | undefined)[], now: Now): void {
    const { closed } = this.#seen(row, now)
    for (const id of ids) if (id !== undefined) closed.add(id)
    shrink(closed)
  }

  isClosed(row: string, id: string): boolean {
    return this.#rows.get(row)?.closed.has(id) ?? false
  }

  #seen(row: string, now: Now): Seen {
    const known = this.#rows.get(row)
    if (known) return known
    if (this.#rows.size >= MAX_ROWS) this.#tidy(now)
    const seen: Seen = { sights: new Map(), closed: new Set(), end: now.steady }
    this.#rows.set(row, seen)
    return seen
  }

  /** Forgets rows that are gone: those that are long over, or a part of all of them, the oldest first. */
  #tidy({ steady }: Now): void {
    for (const [row, { end }] of this.#rows) if (end + KEPT < steady && !this.#isThere(row)) this.#rows.delete(row)
    const most = 0.9 * MAX_ROWS
    for (const row of this.#rows.keys()) {
      if (this.#rows.size < most) return
      if (!this.#isThere(row)) this.#rows.delete(row)
    }
  }
}

function shrink(names: Map<string, unknown> | Set<string>): void {
  if (names.size > MAX_OF_ROW) names.delete(names.keys().next().value as string)
}
