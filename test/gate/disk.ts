import type { Knock } from '../../src/gate/knock'
import { Ledger, type LedgerRecord } from '../../src/gate/ledger'
import { keyOf, requestOf, SOURCE, WINDOW } from './listener/ear'

/** Fingerprints. */
export const KEY = 'c0ffee'
export const ANOTHER = 'decade'
const keys = { 30: keyOf(1, 30), 60: keyOf(1, 60) }

/** A disk: what was appended is still there after a restart, unless it is broken. */
export class Disk {
  broken = false
  constructor(public records: LedgerRecord[] = []) {}
  async append(record: LedgerRecord): Promise<void> {
    if (this.broken) throw new Error('no space left on device')
    this.records.push(record)
  }
  start(skew = 1): Ledger {
    return new Ledger(this.records, this, skew)
  }
  /** The file as a compaction leaves it. */
  compact(skew = 1): void {
    this.records = [...this.start(skew).records()]
  }
}

/** What tells a knock from others. */
export interface Saying {
  readonly window?: number
  readonly v?: string
  readonly source?: string
  readonly arrival?: Knock['arrival']
  readonly period?: 30 | 60
}

export function knock({ window = WINDOW, v = 'a', source = SOURCE, arrival = 'timely', period = 30 }: Saying = {}): Knock {
  return { key: keys[period], window, v, source, arrival, destination: '198.51.100.1', heard: 0, request: requestOf(1) }
}
