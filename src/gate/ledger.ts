import type { Knock } from './knock'

/** A line of the ledger (docs/protocol.md, "One-time rule"). */
export type LedgerRecord =
  /** Where nothing is known of the past: every floor starts `ahead` windows beyond this Unix time (seconds). */
  | { readonly kind: 'base'; readonly seconds: number; readonly ahead: number }
  /** A floor that outlived its rows. */
  | { readonly kind: 'floor'; readonly fingerprint: string; readonly period: number; readonly floor: number }
  /** A knock that is spent, and the floor of its key from then on. */
  | {
      readonly kind: 'spent'
      readonly fingerprint: string
      readonly period: number
      readonly window: number
      readonly v: string
      readonly floor: number
    }

/** The durable half of the ledger: whoever runs the gate has the disk. */
export interface LedgerFile {
  /** Resolves when the record is on the disk, rejects when it can't be. */
  append(record: LedgerRecord): Promise<void>
}

/**
 * What a ledger knows of a knock. `retransmitted`: it is spent, and its own source says it again; `stale`: it lies below the floor, where
 * nobody knows any more; `unknown`: it has not been spent.
 */
type Known = 'replayed' | 'retransmitted' | 'stale' | 'unknown'

/** What is noted of a knock, in memory. `spent`: it was free and is this knock's own now, once `durable` resolves. */
export type Noted =
  | { readonly outcome: 'spent'; readonly durable: Promise<void> }
  | { readonly outcome: Exclude<Known, 'unknown'> | 'full' }

/**
 * What became of a claim. `spent`: it was free and is this knock's own, durably; `full`: there is no room for another one of its key; `revoked`: the
 * key is, as the ledger that several gateways share knows before this one; `unavailable`: nobody knows, so that it is dead.
 */
export type Claim = { readonly outcome: 'spent' } | Unclaimed

/** A claim that came to nothing. */
export type Unclaimed =
  | { readonly outcome: Exclude<Known, 'unknown'> | 'full' | 'revoked' }
  | { readonly outcome: 'unavailable'; readonly reason: string }

/** The one-time rule as the pipeline asks it: that of one machine, or of several that share it. */
export interface OneTimeRule {
  /** What is known of a knock. Asking claims nothing. */
  ask(knock: Knock, fingerprint: string): Known
  /** The source that was first to say a knock; null: nobody has said it, or that is not known here. */
  firstSource(knock: Knock, fingerprint: string): string | null
  /** When a key opens again whose floor is ahead of the clock: see {@link Ledger.opensAt}. */
  opensAt(fingerprint: string, period: number, wall: number): { base: number | null; own: number | null }
  /** What an administrator does about a base that is ahead of the clock. */
  readonly remedy: string
  /** Claims a knock: act only where it comes to be `spent`. It never rejects. */
  claim(knock: Knock, fingerprint: string): Promise<Claim>
}

/**
 * Knocks of one key in one window. Only the holder of a key who sends hundreds of different ones a second reaches it, and shuts out
 * nobody but himself, until the next window.
 */
const MAX_WINDOW_KNOCKS = 4_096
/**
 * Knocks of one key, in all windows together, at which no more of windows to come are written down. They raise no floor: whoever says nothing
 * else would have the ledger grow for ever, and no daemon start from it any more. Timely ones go on, and forget what is below their floor.
 */
const MAX_KEPT_KNOCKS = MAX_WINDOW_KNOCKS

/** Rows and floor of one (fingerprint, period). */
interface Account {
  readonly fingerprint: string
  readonly period: number
  floor: number
  /** How many knocks there are in all windows. */
  knocks: number
  /** window → V → the source that was first to say it (unknown after a restart) */
  readonly windows: Map<number, Map<string, string | null>>
}

/** The one-time rule: a knock is accepted only if it is not in the ledger and its window is not below the floor. */
export class Ledger implements OneTimeRule {
  readonly remedy = 'stop the daemon and run "knockturn ledger rebase"'
  readonly #file: LedgerFile
  readonly #skew: number
  readonly #accounts = new Map<string, Account>()
  #bases: { seconds: number; ahead: number }[] = []

  /** @param records what the file held, in order */
  constructor(records: Iterable<LedgerRecord>, file: LedgerFile, skew: number) {
    this.#file = file
    this.#skew = skew
    for (const record of records) this.#read(record)
  }

  /** The floor of a key: below it every window is stale. */
  floor(fingerprint: string, period: number): number {
    return Math.max(this.#base(period), this.#own(fingerprint, period))
  }

  /**
   * When a key opens again whose floor is ahead of the clock, which was further on when the floor was raised.
   * @param wall Unix milliseconds
   * @returns Unix milliseconds: by the base, which is below all keys, and by the key's own floor; null where that is in nobody's way
   */
  opensAt(fingerprint: string, period: number, wall: number): { base: number | null; own: number | null } {
    const ahead = (floor: number) => (floor * period * 1000 > wall ? floor * period * 1000 : null)
    return { base: ahead(this.#base(period)), own: ahead(this.#own(fingerprint, period)) }
  }

  #base(period: number): number {
    return Math.max(0, ...this.#bases.map(({ seconds, ahead }) => Math.floor(seconds / period) + ahead))
  }

  #own(fingerprint: string, period: number): number {
    return this.#accounts.get(name(fingerprint, period))?.floor ?? 0
  }

  /** What is known of a knock. Asking claims nothing. */
  ask(knock: Knock, fingerprint: string): Known {
    const { key, window, source } = knock
    const first = this.#firstOf(knock, fingerprint)
    if (first !== undefined) return first === source ? 'retransmitted' : 'replayed'
    return window < this.floor(fingerprint, key.period) ? 'stale' : 'unknown'
  }

  /** The source that was first to say a knock; null: nobody has said it, or that was before a restart. */
  firstSource(knock: Knock, fingerprint: string): string | null {
    return this.#firstOf(knock, fingerprint) ?? null
  }

  /** As {@link Ledger.firstSource}; undefined: nobody has said it. */
  #firstOf({ key, window, v }: Knock, fingerprint: string): string | null | undefined {
    return this.#accounts.get(name(fingerprint, key.period))?.windows.get(window)?.get(v)
  }

  /** Claims a knock, in memory in this very tick, as {@link Ledger.note}. */
  async claim(knock: Knock, fingerprint: string): Promise<Claim> {
    const noted = this.note(knock, fingerprint)
    if (noted.outcome !== 'spent') return noted
    try {
      await noted.durable
      return { outcome: 'spent' }
    } catch (error) {
      return { outcome: 'unavailable', reason: error instanceof Error ? error.message : String(error) }
    }
  }

  /**
   * Notes a knock, in memory at once and on the disk by `durable`: act only when that resolves.
   * A future knock is written down too, so that nobody can play it when its window comes, but raises no floor.
   */
  note(knock: Knock, fingerprint: string): Noted {
    const known = this.ask(knock, fingerprint)
    if (known !== 'unknown') return { outcome: known }
    const { window, v, source, arrival } = knock
    const { period } = knock.key
    const account = this.#accounts.get(name(fingerprint, period))
    const isFull = (account?.windows.get(window)?.size ?? 0) >= MAX_WINDOW_KNOCKS
    if (isFull || (arrival !== 'timely' && account && account.knocks >= MAX_KEPT_KNOCKS)) return { outcome: 'full' }
    const floor = this.floor(fingerprint, period)
    const raised = arrival === 'timely' ? Math.max(floor, window - 2 * this.#skew) : floor
    const record = { kind: 'spent', fingerprint, period, window, v, floor: raised } as const
    this.#read(record, source)
    return { outcome: 'spent', durable: this.#file.append(record) }
  }

  /** A knock that is spent was said elsewhere first, by a source that is not known here: whoever says it here again replays it. */
  forgetSource({ key, window, v }: Knock, fingerprint: string): void {
    const knocks = this.#accounts.get(name(fingerprint, key.period))?.windows.get(window)
    if (knocks?.has(v)) knocks.set(v, null)
  }

  /** All that must be remembered, as the fewest records: what a compacted file holds. */
  *records(): Generator<LedgerRecord> {
    for (const base of this.#bases) yield { kind: 'base', ...base }
    for (const { fingerprint, period, floor, windows } of this.#accounts.values()) {
      yield { kind: 'floor', fingerprint, period, floor }
      for (const [window, knocks] of windows) {
        for (const v of knocks.keys()) yield { kind: 'spent', fingerprint, period, window, v, floor }
      }
    }
  }

  #read(record: LedgerRecord, source: string | null = null): void {
    if (record.kind === 'base') {
      this.#bases.push({ seconds: record.seconds, ahead: record.ahead })
      return
    }
    const account = this.#account(record.fingerprint, record.period)
    if (record.floor > account.floor) raise(account, record.floor)
    if (record.kind !== 'spent' || record.window < account.floor) return
    const knocks = account.windows.get(record.window) ?? new Map()
    account.windows.set(record.window, knocks)
    if (!knocks.has(record.v)) account.knocks++
    knocks.set(record.v, source)
  }

  #account(fingerprint: string, period: number): Account {
    const account = this.#accounts.get(name(fingerprint, period)) ?? {
      fingerprint,
      period,
      floor: 0,
      knocks: 0,
      windows: new Map(),
    }
    this.#accounts.set(name(fingerprint, period), account)
    return account
  }
}

/** Raises a floor, and forgets what is below it. */
function raise(account: Account, floor: number): void {
  account.floor = floor
  for (const [window, knocks] of account.windows) {
    if (window >= floor) continue
    account.windows.delete(window)
    account.knocks -= knocks.size
  }
}

const name = (fingerprint: string, period: number): string => `${fingerprint} ${period}`

/** The base of a ledger that knows nothing of the past: whatever may have been sent until now is dead (a wait of a minute). */
export function freshBase(wall: number, skew: number): LedgerRecord {
  return { kind: 'base', seconds: Math.floor(wall / 1000), ahead: skew + 1 }
}

/**
 * A ledger whose bases were set by a clock that was ahead, with one by the clock of now in their place. Nothing is revived: what is spent and
 * the floors of keys stay, and whatever may have been sent until now is dead.
 * @param wall Unix milliseconds
 */
export function rebased(records: Iterable<LedgerRecord>, wall: number, skew: number): LedgerRecord[] {
  return [freshBase(wall, skew), ...[...records].filter(({ kind }) => kind !== 'base')]
}
