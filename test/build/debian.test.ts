import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { readConfig } from '../../src/daemon/config'
import { ROOT } from '../root'
import { put, scratch } from '../system/scratch'

const read = (path: string) => readFileSync(join(ROOT, path), 'utf8')

describe('the example config', () => {
  const text = read('src/build/debian/knockturn.toml')
  /** With every entry in force. */
  const full = text.replaceAll(/^#(?=[a-z_[])/gm, '')

  it('has each entry that the manual page has, and no other', () => {
    const [, config = ''] = /^\.SH THE CONFIG\n([\s\S]*?)^\.SH /m.exec(read('docs/man/knockturn.toml.5')) ?? []
    const entries = (pattern: RegExp, from: string) => [...from.matchAll(pattern)].map(([, name]) => name).sort()
    expect(entries(/^(\w+) = /gm, full)).toEqual(entries(/^\.BR (\w+) " = /gm, config))
    expect(entries(/^(\w+) = /gm, full)).toContain('never_lock')
  })

  it('has a comment in front of each entry', () => {
    const lines = text.split('\n')
    const bare = lines.filter((line, n) => /^#?\w+ = /.test(line) && !/^# /.test(lines[n - 1] ?? ''))
    expect(bare).toEqual([])
  })

  it('is a config, with its defaults in force', async () => {
    const minimal = await readConfig(put(scratch(), 'knockturn.toml', 'server = "gate.example"'))
    const { value, faults } = await readConfig(put(scratch(), 'knockturn.toml', text))
    expect(faults).toBeUndefined()
    expect({ ...value }).toEqual({ ...minimal.value })
  })
})

describe('what is bundled', () => {
  const copyright = read('dist/copyright')

  it('comes with its licence, each of which is there in full', () => {
    const files = [...copyright.matchAll(/^Files: (.*)\nCopyright:\n(?: .*\n)+License: (.*)$/gm)]
    expect(files.map(([, name]) => name)).toEqual(
      expect.arrayContaining(['*', 'node_modules/commander/*', 'node_modules/valibot/*']),
    )
    expect(files).toHaveLength([...copyright.matchAll(/^Files: /gm)].length)
    const texts = new Set([...copyright.matchAll(/^License: (.*)\n /gm)].map(([, name]) => name))
    expect([...new Set(files.map(([, , name]) => name))].sort()).toEqual([...texts].sort())
  })
})
