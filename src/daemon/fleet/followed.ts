import type { Entry } from '../../gate/firewall'
import type { ServerKey } from '../../gate/server-key'
import type { CurrentKeys } from '../current-keys'
import type { Row } from './etcd/etcd'
import type { Link } from './link'
import { MAX_ENTRY, parseEntry, readShared, type SharedEntry } from './rows'

/** Rows that are followed: nftables' sets hold so many leases, and so many locks there are. What is beyond opens nothing here. */
const MAX_ROWS = 65_536 + 4_096

interface Followed {
  readonly row: Row
  /** What it says to whoever has this key, in this fleet; null: nothing that is true. Undefined: it was not read. */
  read?: { readonly key: ServerKey['key']; readonly shared: SharedEntry<Entry> | null }
}

/** The rows of leases and locks as the watch has them, and what they say to this gateway's keys. */
export class FollowedRows {
  readonly #keys: CurrentKeys
  readonly #link: Link
  #rows = new Map<string, Followed>()

  constructor(keys: CurrentKeys, link: Link) {
    this.#keys = keys
    this.#link = link
  }

  names(): Iterable<string> {
    return this.#rows.keys()
  }

  has(name: string): boolean {
    return this.#rows.has(name)
  }

  row(name: string): Row | undefined {
    return this.#rows.get(name)?.row
  }

  /** What a row says; null where it is not there, its key is not, or its code is not by that. */
  read(name: string): SharedEntry<Entry> | null {
    const followed = this.#rows.get(name)
    const key = this.keyOf(name)?.key
    if (!followed || !key || this.#link.base === null) return null
    if (followed.read?.key !== key) followed.read = { key, shared: this.said(followed.row) }
    return followed.read.shared
  }

  /** As {@link FollowedRows.read}, of a row that etcd has, whether it is followed or not. */
  said({ row, value }: Row): SharedEntry<Entry> | null {
    const key = this.keyOf(row)?.key
    const fleet = this.#link.base?.base.fleet
    return key && fleet !== undefined ? parseEntry(row, value, fleet, key) : null
  }

  /** The key that a row is of; undefined where it is not had here. */
  keyOf(name: string): ServerKey | undefined {
    return this.#keys.named(readShared(name)?.rest.slice(0, 32) ?? '')
  }

  /** Follows a row, or what it is now. @returns false where there are too many */
  set(row: Row): boolean {
    if (!this.#rows.has(row.row) && this.#rows.size >= MAX_ROWS) return false
    this.#rows.set(row.row, followed(row, this.#rows.get(row.row)))
    return true
  }

  /**
   * Follows other rows, all of them.
   * @returns what those said that are there no more; and whether there are too many now
   */
  replace(rows: readonly Row[]): { gone: (readonly [name: string, said: SharedEntry<Entry> | null])[]; isTooMany: boolean } {
    const before = this.#rows
    const there = new Set(rows.map(({ row }) => row))
    const gone = [...before.keys()].filter((name) => !there.has(name)).map((name) => [name, this.read(name)] as const)
    this.#rows = new Map(rows.slice(0, MAX_ROWS).map((row) => [row.row, followed(row, before.get(row.row))]))
    return { gone, isTooMany: rows.length > MAX_ROWS }
  }

  delete(name: string): void {
    this.#rows.delete(name)
  }
}

/** What is too long to be ours is not kept. What was read of the same value is not read again. */
function followed(row: Row, before: Followed | undefined): Followed {
  if (row.value.length > MAX_ENTRY) return { row: { ...row, value: '' } }
  return before?.read && before.row.value === row.value ? { row, read: before.read } : { row }
}
