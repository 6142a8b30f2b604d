import type { Knock } from './listener'

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

/** The durable half of the ledger; floor 2 keeps it. */
export interface LedgerFile {
  /** Resolves when the record is on the disk, rejects when it can't be. */
  append(record: LedgerRecord): Promise<void>
}

/** What became of a claim. `spent`: it was free and is now this knock's own, once `durable` resolves. */
export type Claim =
  | { readonly outcome: 'spent'; readonly durable: Promise<void> }
  | { readonly outcome: 'replayed' | 'retransmitted' | 'stale' | 'full' }

/**
 * Knocks of one key in one window. Only the holder of a key who sends hundreds of different ones a second reaches it, and shuts out
 * nobody but himself, until the next window.
 */
const MAX_WINDOW_KNOCKS = 4_096

/** Rows and floor of one (fingerprint, period). */
interface Account {
  readonly fingerprint: string
  readonly period: number
  floor: number
  /** window → V → the source that was first to say it (unknown after a restart) */
  readonly windows: Map<number, Map<string, string | null>>
}

/** The one-time rule: a knock is accepted only if it is not in the ledger and its window is not below the floor. */
export class Ledger {
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
    const bases = this.#bases.map(({ seconds, ahead }) => Math.floor(seconds / period) + ahead)
    return Math.max(0, ...bases, this.#accounts.get(name(fingerprint, period))?.floor ?? 0)
  }

  /**
   * When a key opens again whose floor is ahead of the clock, which was further on when the floor was raised.
   * @param wall Unix milliseconds
   * @returns Unix milliseconds, or null where the floor is in nobody's way
   */
  opensAt(fingerprint: string, period: number, wall: number): number | null {
    const floor = this.floor(fingerprint, period)
    return floor * period * 1000 > wall ? floor * period * 1000 : null
  }

  /**
   * Claims a knock, in memory at once and on the disk by `durable`: act only when that resolves.
   * A future knock is written down too, so that nobody can play it when its window comes, but raises no floor.
   */
  claim({ key, window, v, source, arrival }: Knock, fingerprint: string): Claim {
    const { period } = key
    const floor = this.floor(fingerprint, period)
    const knocks = this.#accounts.get(name(fingerprint, period))?.windows.get(window)
    const first = knocks?.get(v)
    if (first !== undefined) return { outcome: first === source ? 'retransmitted' : 'replayed' }
    if (window < floor) return { outcome: 'stale' }
    if (knocks && knocks.size >= MAX_WINDOW_KNOCKS) return { outcome: 'full' }
    const raised = arrival === 'timely' ? Math.max(floor, window - 2 * this.#skew) : floor
    const record = { kind: 'spent', fingerprint, period, window, v, floor: raised } as const
    this.#read(record, source)
    return { outcome: 'spent', durable: this.#file.append(record) }
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
    account.floor = Math.max(account.floor, record.floor)
    if (record.kind === 'spent' && record.window >= account.floor) {
      const knocks = account.windows.get(record.window) ?? new Map()
      account.windows.set(record.window, knocks)
      knocks.set(record.v, source)
    }
    for (const window of account.windows.keys()) if (window < account.floor) account.windows.delete(window)
  }

  #account(fingerprint: string, period: number): Account {
    const account = this.#accounts.get(name(fingerprint, period)) ?? { fingerprint, period, floor: 0, windows: new Map() }
    this.#accounts.set(name(fingerprint, period), account)
    return account
  }
}

const name = (fingerprint: string, period: number): string => `${fingerprint} ${period}`

/** The base of a ledger that knows nothing of the past: whatever may have been sent until now is dead (a wait of a minute). */
export function freshBase(wall: number, skew: number): LedgerRecord {
  return { kind: 'base', seconds: Math.floor(wall / 1000), ahead: skew + 1 }
}
