import { inOneLine } from '../../system/fault'
import { keepAlive } from '../taps/child'
import { lineSplitter } from '../taps/lines'
import { TABLE } from './elements'

/* Follows what other programs do to the ruleset, by `nft monitor`. It works for iptables, too, where that is made of nf_tables. */

/** nft says nothing before something changes: it hears when it has lived for this many milliseconds. */
const SETTLE = 1_000
/** Characters of a line that are read: what concerns us stands at its beginning. */
const MAX_LINE = 256
/** Lines of one life: nft keeps some 400 bytes of each element that comes or goes, for good. */
const MAX_LINES = 100_000
/** Milliseconds between two alarms, at least: a script that sets up a firewall makes many changes, each by itself. */
const INTERVAL = 50
/**
 * Milliseconds after which a change of ours that was not seen will not be: nobody was looking, or it changed nothing. Until then it may hide
 * another's, which the look that is taken every five seconds finds.
 */
const LATE = 5_000

/**
 * The changes of one table that are of our own making, by their number: each is one transaction, and so is seen once. (The kernel names the
 * process of each, but within a container not by the number that is known there.)
 */
export class OwnChanges {
  /** Whether somebody looks at all changes now, so that none of another program's is missed. */
  isWatched = false
  /** Those that have not been seen, and until when in steady milliseconds they may be. */
  readonly #unseen = new Set<{ until: number }>()
  readonly #now: () => number

  constructor(now: () => number = () => performance.now()) {
    this.#now = now
  }

  /** Makes a change. @throws what `change` throws: then none is made that would be seen */
  async make(change: () => Promise<void>): Promise<void> {
    this.#forget()
    const one = { until: Infinity }
    this.#unseen.add(one)
    try {
      await change()
      one.until = this.#now() + LATE
    } catch (error) {
      this.#unseen.delete(one)
      throw error
    }
  }

  /** All changes are looked at from now on. One that was made before may never be seen, and then would hide another's. */
  watch(): void {
    this.isWatched = true
    for (const one of this.#unseen) if (one.until !== Infinity) this.#unseen.delete(one)
  }

  /** A change of the table is seen. @returns whether it may be one of ours; if it is another's, ours is the next, and taken for another's */
  see(): boolean {
    this.#forget()
    const [one] = this.#unseen
    return one !== undefined && this.#unseen.delete(one)
  }

  #forget(): void {
    for (const one of this.#unseen) if (one.until < this.#now()) this.#unseen.delete(one)
  }
}

/** A table that is followed. */
export interface Followed {
  /** Fits the beginning of a line of `nft monitor` that matters. */
  readonly event: RegExp
  readonly own: OwnChanges
}

/** What nft prints of changes of our own table. */
export const OURS = new RegExp(`^\\w+ \\w+ ${TABLE}(?: |$)`)

/**
 * Makes a reader of what `nft monitor` prints, line by line.
 * @param alarm called when another program has changed something that matters, or when that can't be known
 */
export function monitorReader(tables: readonly Followed[], alarm: () => void): (line: string) => void {
  const touched = new Set<OwnChanges>()
  return (line) => {
    if (line.startsWith('# new generation ')) {
      // The end of a transaction.
      // While it begins to look, nobody knows which of ours it has missed: each counts as another's.
      const others = [...touched].filter((own) => !own.isWatched || !own.see())
      touched.clear()
      if (others.length > 0) alarm()
    } else if (line.startsWith('# ERROR')) {
      // It has lost events.
      alarm()
    } else for (const { event, own } of tables) if (event.test(line)) touched.add(own)
  }
}

/**
 * Follows what other programs do to tables.
 * @param warn told when that can't be done, and when nft has died
 */
export function followRuleset(
  tables: readonly Followed[],
  warn: (message: string) => void,
): (look: () => void, signal: AbortSignal) => void {
  return (look, signal) => {
    const alarm = spaced(() => {
      if (!signal.aborted) look()
    })
    const nft = keepAlive(
      {
        argv: ['nft', 'monitor'],
        hears: 'changes of the ruleset',
        settle: SETTLE,
        heard() {
          for (const { own } of tables) own.watch()
          // What came before was not seen.
          alarm()
        },
        lost() {
          for (const { own } of tables) own.isWatched = false
        },
        // It tells of what it can't name of iptables' rules.
        chatter: /^Warning: /,
        reader() {
          const read = monitorReader(tables, alarm)
          let count = 0
          const lines = lineSplitter((line) => {
            read(line)
            if (++count === MAX_LINES) nft.renew()
          }, MAX_LINE)
          return (chunk) => lines.push(chunk.toString('latin1'))
        },
      },
      warn,
    )
    signal.addEventListener('abort', () => nft.stop())
    nft.start().catch((error) => warn(`changes of the firewall are found within 5 seconds and not at once: ${inOneLine(error)}`))
  }
}

/** Has something called soon whenever it is asked for, and not more often than once in an {@link INTERVAL}. */
function spaced(call: () => void): () => void {
  let called = -Infinity
  let timer: NodeJS.Timeout | undefined
  return () => {
    if (timer) return
    timer = setTimeout(
      () => {
        timer = undefined
        called = performance.now()
        call()
      },
      Math.max(0, called + INTERVAL - performance.now()),
    ).unref()
  }
}
