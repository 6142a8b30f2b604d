import type { Outcome } from './lookout'

/* What waiting for a service has to do with others: how it ends, and what may go on beside it. */

/** Milliseconds without an answer after which the other family is worth a knock, too: three passes, or two of them, and a second SYN for each attempt. */
export const SILENT_AFTER = 3_000

/** How knocking has ended that waits for what it opens. */
export interface WaitResult {
  /** How each watched port has. */
  readonly outcomes: ReadonlyMap<number, Outcome>
  /** Whether all of them are open. */
  readonly isOpen: boolean
  /** Whether it ended before its time because nothing could change any more. */
  readonly isFinal: boolean
  /** What came instead of an answer: see {@link look}. */
  readonly seen: ReadonlySet<string>
  /** What the touches of the knock came back with: see {@link Touches.seen}. */
  readonly touched: ReadonlySet<string>
}

/** What a knocking by one family has to do with one that may go on beside it by the other. */
export interface Beside {
  /** Ends it: the other one has ended. */
  readonly signal: AbortSignal
  /** Is called when nobody has answered for some seconds, and maybe again. */
  silent(): void
}

/** Where there is no other one. */
export const alone = (): Beside => ({ signal: new AbortController().signal, silent: () => {} })
