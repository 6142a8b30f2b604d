import { existsSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { entriesOf, readKept, writeKept } from '../../../src/daemon/command/kept'
import { inOneLine } from '../../../src/system/fault'
import { put, scratch } from '../../system/scratch'

const lease = { id: 'ab12cd34', key: 'alice', fingerprint: 'f00d', until: 1_770_000_060 }
const KEPT = {
  ways: [
    {
      address: '198.51.100.2',
      protocol: 'tcp' as const,
      port: 22,
      lease: 'ab12cd34',
      key: 'alice',
      isOpen: true,
      leases: [lease, { ...lease, id: 'ab12cd35.0', until: null }],
    },
  ],
  locks: [{ ...lease, address: '2001:db8::7' }],
}
const text = (change: (kept: typeof KEPT) => unknown) => JSON.stringify(change(structuredClone(KEPT)))
const refused = async (content: string | Uint8Array, mode = 0o600) =>
  readKept(put(scratch(), 'ledger.open', content, mode)).then(
    () => 'read',
    (error) => inOneLine(error),
  )

describe('what may be open', () => {
  it('comes back as it was written, for its owner alone, and nothing else is left', async () => {
    const path = join(scratch(), 'ledger.open')
    await writeKept(path, { ways: [], locks: [] })
    await writeKept(path, KEPT)
    expect(await readKept(path)).toEqual(KEPT)
    expect([statSync(path).mode & 0o777, existsSync(`${path}.new`)]).toEqual([0o600, false])
  })

  it('is each lease of each way, and each lock, as a firewall would say it', () => {
    const door = { address: '198.51.100.2', protocol: 'tcp', port: 22, once: false }
    expect(entriesOf(KEPT)).toEqual([
      { ...lease, ...door },
      { ...lease, ...door, id: 'ab12cd35.0', until: null },
      { ...lease, address: '2001:db8::7' },
    ])
  })

  it('is nothing where there is no file', async () => {
    expect(await readKept(join(scratch(), 'ledger.open'))).toEqual({ ways: [], locks: [] })
  })

  it.each([
    ['is empty', ''],
    ['is cut', JSON.stringify(KEPT).slice(0, -2)],
    ['has an address that is none', text(({ ways: [way], locks }) => ({ ways: [{ ...way, address: '-rf' }], locks }))],
    ['has a name that is an option', text(({ ways: [way], locks }) => ({ ways: [{ ...way, lease: '--help' }], locks }))],
    ['has an entry that we do not write', text((kept) => ({ ...kept, more: 1 }))],
  ])('is never taken for nothing: a file that %s', async (_, content) => {
    expect(await refused(content)).toMatch(
      /ledger\.open: the list of what may be open is damaged: close what your program has opened, then delete the file$/,
    )
  })

  it('is not read where others could have written it', async () => {
    expect(await refused(JSON.stringify(KEPT), 0o644)).toContain('expected mode 0600, got 0644')
  })
})
