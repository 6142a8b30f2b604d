import { chmodSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { NO_GUARD } from '../../../src/daemon/guard'
import { checkVersion, isOlder, readVersion, tryTable } from '../../../src/daemon/nftables/trial'
import type { Fault } from '../../../src/system/fault'
import { put, scratch } from '../../system/scratch'

describe('a version of nft', () => {
  it.each([
    ['nftables v1.0.6 (Lester Gooch #5)\n', [1, 0, 6]],
    ['nftables v1.1.3 (Commodore Bullmoose #4)\n', [1, 1, 3]],
    ['nftables v0.9.8 (E.D.S.)\n', [0, 9, 8]],
    ['nftables v0.9.0 (Fearless Fosdick)', [0, 9, 0]],
    ['nftables v2.0 (x)', [2, 0]],
    ['nftables v10.20.30', [10, 20, 30]],
  ])('is read from %j', (text, version) => {
    expect(readVersion(text)).toEqual(version)
  })

  it.each(['', 'v1.0.6', 'nftables 1.0.6', 'nftables v1', 'iptables v1.8.9 (nf_tables)', 'Usage: nft', '\nnftables v1.0.6'])(
    'is not read from %j',
    (text) => {
      expect(readVersion(text)).toBeNull()
    },
  )

  it.each([
    [[1, 0, 6], false],
    [[1, 0, 5], true],
    [[1, 0], true],
    [[1, 1], false],
    [[1, 1, 3], false],
    [[0, 9, 8], true],
    [[0, 10, 9], true],
    [[2, 0], false],
    [[1, 0, 10], false],
    [[1, 0, 6, 1], false],
  ])('such as %j is older than 1.0.6: %j', (version, is) => {
    expect(isOlder(version, [1, 0, 6])).toBe(is)
  })
})

describe('an nft', () => {
  const path = process.env.PATH
  afterEach(() => {
    process.env.PATH = path
  })

  /** Has this script be nft. */
  function use(script: string) {
    const folder = scratch()
    chmodSync(put(folder, 'nft', `#!/bin/sh\n${script}\n`, 0o755), 0o755)
    process.env.PATH = `${folder}:${path}`
    return folder
  }
  const faultOf = async (act: Promise<void>) => {
    const { message, hint } = await act.then(
      () => ({ message: '', hint: '' }),
      (fault: Fault) => fault,
    )
    return { message, hint }
  }

  it('that is too old is one line, and what to do', async () => {
    use('echo "nftables v0.9.8 (E.D.S.)"')
    expect(await faultOf(checkVersion())).toEqual({
      message: 'nft 0.9.8 is too old: requires 1.0.6',
      hint: 'install nftables 1.0.6 or newer (Debian 12 has it), or set backend = "iptables" in [firewall]',
    })
  })

  it.each(['v1.0.6 (Lester Gooch #5)', 'v1.1.3 (Commodore Bullmoose #4)'])('%s is new enough', async (version) => {
    use(`echo "nftables ${version}"`)
    expect(await faultOf(checkVersion())).toEqual({ message: '', hint: '' })
  })

  it('that says something else is one line, with no more of it than tells what it is', async () => {
    use('printf "%0100d\\nmore" 7')
    expect((await faultOf(checkVersion())).message).toBe(`cannot tell the version of nft: it said "${'0'.repeat(60)}"`)
  })

  it('that fails is one line with what it says', async () => {
    use('echo "nft: cannot execute" >&2; exit 126')
    expect((await faultOf(checkVersion())).message).toBe('nft --version: nft: cannot execute')
  })

  it('whose kernel refuses the table is one line, and what to do', async () => {
    use('cat > /dev/null; echo "Error: Could not process rule: Operation not supported" >&2; exit 1')
    expect(await faultOf(tryTable({ guard: NO_GUARD, taps: null }))).toEqual({
      message: expect.stringMatching(
        /^the kernel \(Linux \d\S*\) cannot hold our table: nft -c -f -: Error: Could not process rule: Operation not supported$/,
      ),
      hint: 'load its module nf_tables ("modprobe nf_tables"), use Linux 5.10 or newer, or set backend = "iptables" in [firewall]',
    })
  })

  it('is only asked whether the kernel would have the table', async () => {
    const folder = use('echo "$*" >> "$(dirname "$0")/calls"; cat > /dev/null')
    await tryTable({ guard: NO_GUARD, taps: null })
    expect(readFileSync(join(folder, 'calls'), 'utf8')).toBe('-c -f -\n')
  })
})
