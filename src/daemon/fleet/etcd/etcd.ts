/* What a fleet asks of etcd. Rows are named below the fleet's prefix; values are text. */

/** What comes with each answer: by what it says of etcd's history, a restored one is told. */
export interface Header {
  readonly cluster: string
  readonly revision: number
  readonly term: number
}

/** Revisions lie below: with a thousand writes a second, etcd comes there in 34 years. */
export const MAX_REVISION = 2 ** 40

/** A row that is there: its name below the prefix, its text, and the revisions at which it was first and last written. */
export interface Row {
  readonly row: string
  readonly value: string
  readonly created: number
  readonly modified: number
  /** etcd's lease that it ends with; null: none */
  readonly lease: string | null
}

/** What must hold of a row. */
export type Condition =
  | { readonly row: string; readonly is: 'absent' | 'there' }
  | { readonly row: string; readonly is: 'equal' | 'below'; readonly value: string }
  | { readonly row: string; readonly is: 'modified'; readonly revision: number }
  /** It was written at this revision or a later one. */
  | { readonly row: string; readonly is: 'since'; readonly revision: number }

/** What a transaction does: one row, rows, or another transaction. */
export type Step =
  | { readonly put: string; readonly value: string; readonly lease?: string | null }
  | { readonly remove: string }
  /** Rows from the first name on, up to the other one, which stays. */
  | { readonly removeFrom: string; readonly to: string }
  | { readonly get: string }
  | { readonly if: readonly Condition[]; readonly do: readonly Step[]; readonly else: readonly Step[] }

/** A transaction: all conditions hold and all of `do` is done, or all of `else`. */
export interface Transaction {
  readonly if: readonly Condition[]
  readonly do: readonly Step[]
  readonly else: readonly Step[]
}

/** What a step has come to: rows that were read; none of any other. */
export interface Done {
  readonly rows: readonly Row[]
}

/** What has come of a transaction. */
export interface Outcome {
  readonly header: Header
  /** True only where etcd said just that. */
  readonly held: boolean
  /** In the order of the steps. */
  readonly done: readonly Done[]
}

/** Why etcd can't be asked. */
export type Trouble = 'unreachable' | 'timeout' | 'no-quorum' | 'tls' | 'login' | 'full' | 'strange'

/** etcd did not do it, or nobody knows. */
export class Unavailable extends Error {
  readonly trouble: Trouble
  /** Whether it may have been done all the same: a request was sent, and no answer came. */
  readonly isUnknown: boolean

  constructor(message: string, trouble: Trouble, isUnknown: boolean) {
    super(message)
    this.trouble = trouble
    this.isUnknown = isUnknown
  }
}

/** How long a call may take, all members together. */
export interface Patience {
  /** Milliseconds; absent: the config's timeout */
  readonly timeout?: number
}

/** What is heard of rows below a name, from a moment on. */
export interface Watching {
  /** Rows that were written or are gone, in etcd's order. */
  changed(changes: readonly ({ readonly put: Row } | { readonly removed: string })[]): void
  /** The watch is over: it is begun anew by whoever wants it, from a new look at all rows. Told once, and never after `signal`. */
  broke(why: string): void
}

/** How an etcd is, as one member sees it. */
export interface EtcdStatus {
  readonly version: string
  readonly size: number
  readonly sizeInUse: number
  /** Bytes; what etcd says of it, or its default. */
  readonly quota: number
  readonly hasLeader: boolean
  /** How many entries its log has come to, since the etcd was made or restored. */
  readonly reached: number
  /** What etcd complains of, such as NOSPACE. */
  readonly alarms: readonly string[]
}

/** An etcd, by whichever of its members answers. All reject with {@link Unavailable}. */
export interface Etcd {
  /** Asked again at another member where one does not answer: only what may be done twice is asked. */
  transact(transaction: Transaction, patience?: Patience): Promise<Outcome>
  /** All rows from the first name on up to the other one, as of one revision, page by page. */
  list(from: string, to: string, patience?: Patience): Promise<{ readonly header: Header; readonly rows: readonly Row[] }>
  /**
   * Follows the rows from the first name on up to the other one, from a revision on, until aborted. Where nothing is written there for 6 s, it
   * breaks: a network that is gone says nothing.
   */
  watch(from: string, to: string, revision: number, watching: Watching, signal: AbortSignal): void
  /** A lease of so many seconds. */
  grant(seconds: number): Promise<string>
  /** Seconds that a lease has left; null: it is over. */
  left(lease: string): Promise<number | null>
  /** Lets go of history before a revision. */
  compact(revision: number): Promise<void>
  /**
   * How far the log of etcd has come, as its members say: everything that is asked of it makes it longer, and one that was restored begins anew.
   * @param enough the first member that has come as far is believed; otherwise the one that has come furthest when the time is over
   */
  reached(enough: number, patience?: Patience): Promise<number>
  /** How each endpoint is; or why it can't be said. */
  status(): Promise<readonly { readonly endpoint: string; readonly status: EtcdStatus | Unavailable }[]>
  /** Lets go of connections. */
  close(): void
}

/** That a row is as it was read, by its value. @param value null: it was not there */
export const stillSays = (row: string, value: string | null): Condition =>
  value === null ? { row, is: 'absent' } : { row, is: 'equal', value }

/** That nobody has written a row since it was read. @param modified its revision; 0: it was not there */
export const unwritten = (row: string, modified: number): Condition =>
  modified === 0 ? { row, is: 'absent' } : { row, is: 'modified', revision: modified }

/** Where the names end that begin with a text: for {@link Etcd.list} and {@link Etcd.watch}. */
export const behind = (prefix: string): string =>
  `${prefix.slice(0, -1)}${String.fromCharCode(prefix.charCodeAt(prefix.length - 1) + 1)}`
