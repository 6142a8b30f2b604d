import { chmodSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { checkRootsAlone, isOthers } from '../../../src/admin/setup/machine'
import { scratch } from '../../system/scratch'

describe('programs that root runs at each boot', () => {
  it('are root’s alone, or nobody is made to run them', () => {
    for (const mode of [0o100644, 0o100755, 0o040755, 0o042775, 0o041777]) expect(isOthers({ uid: 0, mode })).toBe(false)
    for (const mode of [0o100666, 0o100646, 0o040777, 0o042777]) expect(isOthers({ uid: 0, mode })).toBe(true)
    expect(isOthers({ uid: 1000, mode: 0o100644 })).toBe(true)
  })

  it('are looked at with all folders in which they lie', async () => {
    const folder = join(scratch(), 'opt')
    mkdirSync(join(folder, 'bin'), { recursive: true })
    const program = join(folder, 'bin', 'knockturn-guard')
    writeFileSync(program, '')
    if (process.getuid?.() === 0) await checkRootsAlone([program])
    else await expect(checkRootsAlone([program])).rejects.toThrow('another user than root could change it')
    chmodSync(folder, 0o777)
    await expect(checkRootsAlone([program])).rejects.toThrow('another user than root could change it')
  })
})
