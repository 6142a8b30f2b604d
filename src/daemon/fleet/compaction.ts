import * as v from 'valibot'
import type { Now } from '../../gate/clock'
import { count, readJson } from '../../system/json'
import { type Etcd, type Row, type Transaction, unwritten } from './etcd/etcd'
import { COMPACTED } from './rows'

/** Milliseconds between two compactions, by whichever gateway comes first: what is let go of is as old at least. */
export const HOUR = 3_600_000

const schema = v.object({ at: count, revision: count })

/** Has etcd let go of what was overwritten more than an hour ago: of itself it keeps all of it, and is full some day. */
export class Compaction {
  readonly #etcd: Etcd
  /** The row that says when it was done last, and when this gateway first saw it so. */
  #row: { readonly modified: number; readonly value: string | null; readonly seen: number } | null = null

  constructor(etcd: Etcd) {
    this.#etcd = etcd
  }

  /** The row, as it was read or has changed; null: there is none. */
  found(row: Row | null, { steady }: Now): void {
    const [modified, value] = [row?.modified ?? 0, row?.value ?? null]
    if (this.#row?.modified !== modified) this.#row = { modified, value, seen: steady }
  }

  /** Whether it is time. The row's own time counts, too, so that daemons which are restarted every hour do it as well. */
  isDue({ wall, steady }: Now): boolean {
    const row = this.#row
    if (!row) return false
    const said = row.value === null ? null : readJson(schema, row.value)
    return !said || steady - row.seen >= HOUR || wall - said.at >= HOUR
  }

  /**
   * Notes the revision of now, and lets go of what is older than the one that was noted the last time, where it is time and no other gateway has
   * come first.
   * @param revision the newest that was seen
   * @returns the revision that was compacted to; null: nothing was done
   * @throws {Unavailable}
   */
  async tend(revision: number, now: Now): Promise<number | null> {
    const row = this.#row
    if (!row || !this.isDue(now)) return null
    const value = JSON.stringify({ at: Math.max(0, Math.floor(now.wall)), revision })
    const { held, header } = await this.#etcd.transact(wins(row.modified, value))
    if (!held) return null
    this.#row = { modified: header.revision, value, seen: now.steady }
    const before = row.value === null ? null : readJson(schema, row.value)
    if (!before) return null
    await this.#etcd.compact(before.revision)
    return before.revision
  }
}

const wins = (modified: number, value: string): Transaction => ({
  if: [unwritten(COMPACTED, modified)],
  do: [{ put: COMPACTED, value }],
  else: [],
})
