import { formatRecord } from '../../../src/daemon/ledger/record'
import type { LedgerRecord } from '../../../src/gate/ledger'

export const FINGERPRINT = '00112233445566778899aabbccddeeff'
export const V = 'ffeeddccbbaa99887766554433221100'
export const spent = (window: number): LedgerRecord => ({
  kind: 'spent',
  fingerprint: FINGERPRINT,
  period: 30,
  window,
  v: V,
  floor: window - 2,
})
export const SAMPLES: LedgerRecord[] = [
  { kind: 'base', seconds: 1_795_000_000, ahead: 2 },
  { kind: 'floor', fingerprint: FINGERPRINT, period: 30, floor: 59_833_333 },
  spent(59_833_334),
]

/** A ledger's bytes: the header says how many of them have been synced. */
export function file(records: readonly LedgerRecord[], { synced = Infinity, tail = '' } = {}): Buffer {
  const lines = records.map((record) => `${formatRecord(record)}\n`).join('')
  const length = Math.min(synced, 36 + lines.length)
  return Buffer.from(`knockturn-ledger 1 ${String(length).padStart(16, '0')}\n${lines}${tail}`, 'latin1')
}
