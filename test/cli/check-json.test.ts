import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import type { Check } from '../../src/system/check'
import { keyText, put, scratch, secretOf } from '../system/scratch'
import { run } from './programs'

/* knockdaemon --check --json: what --check prints, for programs. */

function server(key: string, mode = 0o600) {
  const folder = scratch()
  mkdirSync(join(folder, 'keys'), { mode: 0o700 })
  put(join(folder, 'keys'), 'alice.key', key, mode)
  put(folder, 'ledger', '')
  return put(
    folder,
    'knockturn.toml',
    'server = "gate.example"\nkeys = "keys"\n[taps]\nsource = "stdin"\n[firewall]\nbackend = "dry-run"\n[ledger]\npath = "ledger"\n',
  )
}

const checked = async (config: string) => {
  const { code, stdout, stderr } = await run('knockdaemon', ['--check', '--json', '--config', config])
  return { code, stderr, checks: (JSON.parse(stdout) as { checks: Check[] }).checks }
}

describe('knockdaemon --check --json', () => {
  it('has what is well, too, and exits with 0', async () => {
    const { code, stderr, checks } = await checked(server(keyText()))
    expect([code, stderr, checks.map(({ verdict }) => verdict).filter((verdict) => verdict === 'fault')]).toEqual([0, '', []])
    expect(checks.map(({ name }) => name)).toEqual(['clock', 'config', 'keys', 'ledger', 'programs', 'kernel', 'tap source'])
  })

  it.each([['--json'], []])('has nothing in it that a terminal obeys, though a file be named so', async (...more) => {
    const config = server(keyText())
    put(join(config, '..', 'keys'), 'a\u009b31m\u001b]0;x\u0007', '')
    const { stdout } = await run('knockdaemon', ['--check', ...more, '--config', config])
    expect([stdout.includes('ignored: not named'), stdout.replaceAll('\n', '').match(/\p{Cc}/u)]).toEqual([true, null])
  })

  it('has the faults that --check prints, with their remedies, and exits with 1', async () => {
    const config = server(keyText(), 0o644)
    const { code, stderr, checks } = await checked(config)
    const faults = checks.filter(({ verdict }) => verdict === 'fault')
    expect([code, stderr, faults.length]).toEqual([1, '', 1])
    const plain = await run('knockdaemon', ['--check', '--config', config])
    expect(plain.stderr).toBe(faults.map(({ evidence, remedy }) => `knockdaemon: error: ${evidence}\nhint: ${remedy}\n`).join(''))
  })

  it('has no secret, also where the file of a key is faulty', async () => {
    const { checks } = await checked(server(keyText({ more: 'pool = 7\n' })))
    expect(checks.some(({ verdict }) => verdict === 'fault')).toBe(true)
    expect(JSON.stringify(checks)).not.toContain(secretOf(1))
  })

  it('says nothing of what a faulty config leaves open', async () => {
    const config = put(scratch(), 'knockturn.toml', 'server = "gate.example"\nskew = 99\n')
    const { code, checks } = await checked(config)
    expect([code, checks.map(({ name }) => name).filter((name) => ['programs', 'kernel', 'services'].includes(name))]).toEqual([
      1,
      [],
    ])
  })
})

it('knockdaemon refuses --json without --check', async () => {
  const { code, stderr } = await run('knockdaemon', ['--json', '--config', '/nonexistent'])
  expect([code, stderr]).toEqual([2, expect.stringContaining('--json requires --check')])
})
