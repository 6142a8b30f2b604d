import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { checkDaemon } from '../../src/daemon/check'
import { inLine } from '../../src/daemon/checks/finding'
import type { Verdict } from '../../src/system/check'
import { keyText, put, scratch } from '../system/scratch'

/** What --check says of a server whose taps come from a file, which `make` may put there. */
async function checked(make: (path: string, folder: string) => void) {
  const folder = scratch()
  mkdirSync(join(folder, 'keys'), { mode: 0o700 })
  put(join(folder, 'keys'), 'alice.key', keyText())
  put(folder, 'ledger', '')
  const taps = '[taps]\nsource = "file"\nfile = "knocks.log"\n[firewall]\nbackend = "dry-run"\n[ledger]\npath = "ledger"\n'
  const config = put(folder, 'knockturn.toml', `server = "gate.example"\nkeys = "keys"\n${taps}`)
  const path = join(folder, 'knocks.log')
  make(path, folder)
  const checks = await checkDaemon(config)
  const of = (wanted: Verdict) => checks.filter(({ verdict }) => verdict === wanted).map(inLine)
  return { path, faults: of('fault'), notes: of('note').filter((line) => line.startsWith(path)) }
}

describe('the file of taps', () => {
  it('may be there', async () => {
    const { faults, notes } = await checked((_, folder) => put(folder, 'knocks.log', ''))
    expect({ faults, notes }).toEqual({ faults: [], notes: [] })
  })

  it('may be missing, and that is noted', async () => {
    const { path, faults, notes } = await checked(() => {})
    const note = `${path}: does not exist yet: the daemon waits for it and receives no knocks until then`
    expect({ faults, notes }).toEqual({ faults: [], notes: [note] })
  })

  it('may be no folder', async () => {
    const { path, faults } = await checked((name) => mkdirSync(name))
    expect(faults).toEqual([`${path}: is not a regular file`])
  })
})
