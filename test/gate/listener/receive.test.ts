import { readFileSync } from 'node:fs'
import { hexToBytes } from '@noble/hashes/utils.js'
import { describe, expect, it } from 'vitest'
import { deriveKey } from '../../../src/protocol/key'
import { parsePool } from '../../../src/protocol/pool'
import type { Request } from '../../../src/protocol/request'
import { Ear } from './ear'

interface ReceiveRow {
  kind: string
  key: { secret: string; server: string; period: number; pool: string }
  window: number
  taps: number[]
  request: Request | null
}
const rows: ReceiveRow[] = JSON.parse(readFileSync(new URL('../../vectors/receive.json', import.meta.url), 'utf8'))

describe('receive.json, tap by tap through the listener', () => {
  it.each(rows.map((row, i) => [i, row.kind, row] as const))(
    'row %i (%s) carries what the independent implementation says',
    (_, __, row) => {
      const key = deriveKey({ ...row.key, secret: hexToBytes(row.key.secret), pool: parsePool(row.key.pool) })
      // Half a period into the window, where no other window is accepted with a skew of 0.
      const ear = new Ear([key], { skew: 0, seconds: (row.window + 0.5) * row.key.period })
      for (const port of row.taps) ear.tap(port)
      ear.wait(11_500)
      expect(ear.timely.map((knock) => knock.request)).toEqual(row.request ? [row.request] : [])
    },
  )
})
