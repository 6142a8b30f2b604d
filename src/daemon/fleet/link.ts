import type { Now } from '../../gate/clock'
import type { Header, Row } from './etcd/etcd'
import type { BaseRow } from './rows'

/** What a gateway knows of its fleet at a moment. */
export interface Link {
  /** This gateway's name. */
  readonly gateway: string
  /** Why nothing new opens right now, in a line; null: nothing stands in the way. */
  refusal(now: Now): string | null
  /** Null: it is not known yet. */
  readonly base: BaseRow | null
  /**
   * The revision at which this gateway's own row was last written, as far as etcd has said; null: it has not been in this run. An etcd that was restored
   * has an older one: each claim asks for that, since an answer's header tells it no more when as much was written as was forgotten.
   */
  readonly beaten: number | null
  /** By how many milliseconds the clock of a gateway that speaks may be ahead of this one's; 0: none is. */
  ahead(now: Now): number
  /** What is to be kept of a moment before a request is sent, for {@link Link.believes}. */
  mark(): number
  /** Whether an answer is by the etcd that this gateway has known: one that was restored has forgotten what was spent, and is told from now on. */
  believes(mark: number, header: Header): boolean
  /**
   * Whether etcd's log is as long as it was known to be, by a question of its own: an etcd that was restored has begun anew. To be asked while it is asked
   * for something, and not before. It never rejects.
   */
  isSame(): Promise<boolean>
  /** Somebody has seen a sign that what is known is not what etcd has: it is looked at now. */
  look(): void
}

/** Hears what is shared: all of it at first and after each break, and then what changes. */
export interface SharedRows {
  /** All rows, as of a revision; {@link Link.base} is known by then. */
  reset(rows: readonly Row[], revision: number): void
  put(row: Row): void
  removed(row: string): void
}
