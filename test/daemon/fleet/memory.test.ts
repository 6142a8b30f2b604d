import { readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { joined, memoryPath, readMemory, writeMemory } from '../../../src/daemon/fleet/memory'
import { scratch } from '../../system/scratch'

const base = { fleet: '0123456789abcdef', server: 'gate.example', epoch: 3, seconds: 1_800_000_000, ahead: 2 }
const memory = joined(base, { cluster: '14841639068965178418', revision: 77, term: 4 }, 'gw1')

describe('what a gateway remembers of its fleet', () => {
  const ledger = () => join(scratch(), 'ledger')

  it('is read back as it was written, from a file that nobody else may read', async () => {
    const path = ledger()
    await writeMemory(path, { ...memory, beat: 12, restored: true })
    expect(await readMemory(path)).toEqual({ ...memory, beat: 12, restored: true })
    expect(statSync(memoryPath(path)).mode & 0o777).toBe(0o600)
    expect(JSON.parse(readFileSync(memoryPath(path), 'utf8')).version).toBe(1)
  })

  it('is nothing where it has not joined', async () => {
    expect(await readMemory(ledger())).toBeNull()
  })

  it.each([
    ['no JSON', '{', /is damaged/],
    ['no memory', '{"version":1}', /is damaged/],
    ['a negative revision', JSON.stringify({ version: 1, ...memory, revision: -1 }), /is damaged/],
    ['of a later version', '{"version":2}', /is of a later version/],
  ])('is never taken for nothing where it is %s', async (_, text, why) => {
    const path = ledger()
    writeFileSync(memoryPath(path), text, { mode: 0o600 })
    await expect(readMemory(path)).rejects.toThrow(why)
  })
})
