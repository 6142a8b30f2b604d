import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { readKeyLine } from '../../../src/keys/key-line'
import { readSealed } from '../../../src/keys/sealed-key'
import { keyText, put, scratch } from '../../system/scratch'
import { onTerminal } from '../../terminal'
import { environment, programPath, run, seenMeanwhile } from '../programs'

const keys = scratch()
put(keys, 'alice.key', keyText({ more: 'host = "gate.example"\n' }))
const EXPORT = ['key', 'export', 'alice', '--keys', keys, '--line']
const LINE = /^knockclient add kt1\.[\w-]+\.[\w-]+\n$/
const WORDS = /[a-z]+(?:-[a-z]+){5}/

async function opened(line: string, passphrase: string): Promise<string> {
  const text = await (await readSealed('', readKeyLine('', line)))(passphrase)
  return text ? Buffer.from(text).toString() : ''
}

describe('knockturn key export --line', () => {
  it('prints the line alone on standard output, and its passphrase alone on standard error', async () => {
    const { code, stdout, stderr } = await run('knockturn', EXPORT)
    expect([code, stdout, stderr]).toEqual([0, expect.stringMatching(LINE), expect.stringMatching(/^passphrase: \S+\n$/)])
    const passphrase = WORDS.exec(stderr)?.[0] ?? ''
    expect(stdout).not.toContain(passphrase)
    const text = await opened(stdout, passphrase)
    expect(text).toContain('services = [ "22/tcp" ]')
    expect(text).not.toMatch(/grant|^#/m)
  })

  it('makes another passphrase, and another line, each time', async () => {
    const [one, other] = [await run('knockturn', EXPORT), await run('knockturn', EXPORT)]
    expect(one.stdout).not.toBe(other.stdout)
    expect(one.stderr).not.toBe(other.stderr)
  })

  it('shows the passphrase on the terminal, once, and nowhere else', async () => {
    const folder = scratch()
    const argv = ['sh', '-c', '"$0" "$@" > out', process.execPath, programPath('knockturn'), ...EXPORT]
    const { code, shown } = await onTerminal(argv, [], { cwd: folder, env: environment() })
    const passphrase = WORDS.exec(shown)?.[0] ?? ''
    expect([code, shown]).toEqual([0, `your passphrase is shown only once, so write it down: ${passphrase}\r\n`])
    const line = readFileSync(join(folder, 'out'), 'utf8')
    expect(line).toMatch(LINE)
    expect(await opened(line, passphrase)).toContain('id = "alice"')
  })

  it('prints no line where nobody would see its passphrase', () => {
    const script = 'exec setsid -w "$0" "$@" 2>/dev/null'
    const { status, stdout } = spawnSync('sh', ['-c', script, process.execPath, programPath('knockturn'), ...EXPORT], {
      env: environment(),
      encoding: 'utf8',
    })
    expect([status, stdout]).toEqual([1, ''])
  })

  it('prints no line where whoever has started it does not listen', async () => {
    expect(await run('knockturn', EXPORT, { deaf: true })).toMatchObject({ code: 1, stdout: '' })
  })

  it('has the passphrase in no argument and no environment of any process', async () => {
    const { result, seen } = await seenMeanwhile(() => run('knockturn', EXPORT))
    expect(seen).toContain('--line')
    expect(seen).not.toContain(WORDS.exec(result.stderr)?.[0])
  })

  it('writes it into a file of its owner alone, where --out names one, and over none', async () => {
    const out = join(scratch(), 'alice.line')
    const { code, stdout, stderr } = await run('knockturn', [...EXPORT, '--out', out])
    expect([code, stdout]).toEqual([0, `wrote ${out}: whoever has this file and its passphrase can knock\n`])
    expect(stderr).toMatch(/^passphrase: \S+\n$/)
    expect([readFileSync(out, 'utf8'), statSync(out).mode & 0o777]).toEqual([expect.stringMatching(LINE), 0o600])
    const again = await run('knockturn', [...EXPORT, '--out', out])
    expect([again.code, again.stderr]).toEqual([1, expect.not.stringContaining('passphrase')])
  })

  it.each(['--passphrase', '--plain'])('is not used with %s', async (other) => {
    const out = join(scratch(), 'none')
    const { code, stdout, stderr } = await run('knockturn', [...EXPORT, other, '--out', out])
    expect([code, stdout, stderr]).toEqual([2, '', expect.stringContaining(`--line cannot be used with ${other}: `)])
    expect(existsSync(out)).toBe(false)
  })
})
