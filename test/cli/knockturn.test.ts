import { chmodSync, cpSync, existsSync, mkdirSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { version } from '../../package.json'
import { loadKeyFile } from '../../src/host/keyring'
import { put, scratch } from '../host/scratch'
import { type Program, programPath, run } from './programs'

const modeOf = (path: string) => statSync(path).mode & 0o777
const secretIn = (path: string) => /secret = "(.+)"/.exec(readFileSync(path, 'utf8'))?.[1] ?? ''

/** A keyring in which nothing is yet, and what is done to it. */
function keyring() {
  const folder = join(scratch(), 'keys')
  const key = (command: string, ...args: string[]) => run('knockturn', ['key', command, ...args, '--keys', folder])
  const make = async (id = 'alice', ...args: string[]) => {
    const outcome = await key('new', id, '--server', 'gate.example', ...args)
    expect(outcome).toMatchObject({ code: 0, stderr: '' })
    return { path: join(folder, `${id}.key`), ...outcome }
  }
  return { folder, key, make }
}

describe('key new', () => {
  it('makes a key of mode 0600 in a folder of mode 0700', async () => {
    const { folder, make } = keyring()
    const { path } = await make()
    expect([modeOf(path), modeOf(folder)]).toEqual([0o600, 0o700])
  })

  it('makes a key with the documented defaults', async () => {
    const { path } = await keyring().make()
    expect(await loadKeyFile(path)).toMatchObject({
      id: 'alice',
      key: { server: 'gate.example', period: 30 },
      expires: null,
      revoked: null,
      host: null,
      grant: { max: 3600, bindSource: true, requireAddress: false, allowUntilClosed: false, lock: false },
    })
  })

  it('makes a key as it is told', async () => {
    const { folder, key, make } = keyring()
    await make(
      ...[
        'bob',
        '--host',
        'gate.example',
        '--services',
        '22/tcp,53/udp',
        '--max',
        '90m',
        '--addresses',
        '10.0.0.0/8,2001:db8::/32',
      ],
      ...['--expires', '2099-01-31', '--pool', '20000-40000', '--period', '60', '--no-bind-source', '--require-address'],
      ...['--allow-until-closed', '--lock', '--open-prefix', '24'],
    )
    const { fingerprint, created, ...rest } = JSON.parse((await key('show', 'bob', '--json')).stdout)
    expect([fingerprint, created]).toEqual([
      expect.stringMatching(/^[0-9a-f]{32}$/),
      expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/),
    ])
    expect(rest).toEqual({
      id: 'bob',
      server: 'gate.example',
      period: 60,
      pool: '20000-40000',
      expires: '2099-01-31T00:00:00Z',
      revoked: null,
      host: 'gate.example',
      grant: {
        services: ['22/tcp', '53/udp'],
        max: '1h30m',
        addresses: ['10.0.0.0/8', '2001:db8::/32'],
        bind_source: false,
        require_address: true,
        allow_until_closed: true,
        lock: true,
        open_prefix: 24,
        open_prefix6: 128,
      },
    })
    expect(readdirSync(folder)).toEqual(['bob.key'])
  })

  it('makes another secret each time', async () => {
    const { make } = keyring()
    const [a, b] = [await make('alice'), await make('bob')].map(({ path }) => secretIn(path))
    expect(a).toHaveLength(52)
    expect(a).not.toBe(b)
  })

  it('prints no secret', async () => {
    const { path, stdout, stderr } = await keyring().make()
    expect(stdout + stderr).not.toContain(secretIn(path))
  })

  it('never writes over a key', async () => {
    const { key, make } = keyring()
    const { path } = await make()
    const before = readFileSync(path)
    const { code, stdout, stderr } = await key('new', 'alice', '--server', 'gate.example')
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' })
    expect(stderr).toMatch(/^knockturn: error: [^\n]*alice\.key: cannot be written: it is there already[^\n]*\n$/)
    expect(readFileSync(path)).toEqual(before)
  })

  it('writes nothing into a folder that others may use', async () => {
    const { folder, key } = keyring()
    mkdirSync(folder)
    chmodSync(folder, 0o755)
    const { code, stderr } = await key('new', 'alice', '--server', 'gate.example')
    expect({ code, stderr }).toEqual({ code: 1, stderr: expect.stringContaining(`run "chmod 700 ${folder}"`) })
    expect(readdirSync(folder)).toEqual([])
  })

  it.each<[string[], RegExp]>([
    [['../alice'], /<id> expected 1 to 32 letters/],
    [['.alice'], /<id> expected 1 to 32 letters/],
    [[''], /<id> expected 1 to 32 letters/],
    [['x'.repeat(33)], /<id> expected 1 to 32 letters/],
    [['alice', '--services', '22'], /--services expected services such as/],
    [['alice', '--services', ''], /--services expected services such as/],
    [['alice', '--max', '60'], /--max expected a duration/],
    [['alice', '--max', '0s'], /--max expected a duration/],
    [['alice', '--addresses', '10.0.0.1/8'], /--addresses expected blocks/],
    [['alice', '--expires', 'tomorrow'], /--expires expected a date/],
    [['alice', '--expires', '2020-01-01'], /--expires expected a time to come/],
    [['alice', '--pool', '1-1000'], /--pool expected at least 11,272 ports/],
    [['alice', '--open-prefix', '15'], /--open-prefix expected 16 to 32 bits, got "15"/],
    [['alice', '--open-prefix', '24', '--addresses', '10.0.0.1'], /expected no IPv4 block in addresses that is narrower/],
    [['alice', '--period', '9'], /--period expected 10 to 300 seconds/],
    [['alice', '--server', 'x'.repeat(256)], /--server expected at most 255 bytes/],
  ])('takes %j for a fault of usage', async (args, message) => {
    const { folder, key } = keyring()
    const server = args.includes('--server') ? [] : ['--server', 'gate.example']
    const { code, stdout, stderr } = await key('new', ...args, ...server)
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
    expect(stderr).toMatch(message)
    expect(existsSync(folder)).toBe(false)
  })

  it('takes no server for a fault of usage', async () => {
    const { code, stdout, stderr } = await keyring().key('new', 'alice')
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
    expect(stderr).toContain('--server')
  })

  it('makes no key that could not be read again', async () => {
    const { key, folder } = keyring()
    const services = Array.from({ length: 65 }, (_, i) => `${i + 1}/tcp`).join()
    expect((await key('new', 'alice', '--server', 'gate.example', '--services', services)).code).toBe(2)
    expect(existsSync(folder)).toBe(false)
  })
})

describe('key list', () => {
  it('prints as JSON all but the secrets', async () => {
    const { key, make } = keyring()
    const made = [await make('bob'), await make('alice')]
    const { code, stdout, stderr } = await key('list', '--json')
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    expect(JSON.parse(stdout).map(({ id }: { id: string }) => id)).toEqual(['alice', 'bob'])
    for (const { path } of made) expect(stdout).not.toContain(secretIn(path))
  })

  it('prints a table for people, without the secrets', async () => {
    const { key, make } = keyring()
    const { path } = await make('alice', '--services', '22/tcp,443/tcp')
    const { stdout } = await key('list')
    expect(stdout.trimEnd().split('\n')).toEqual([
      expect.stringMatching(/^ID +FINGERPRINT +STATE/),
      expect.stringMatching(/^alice +[0-9a-f]{8} +valid +- +gate\.example +22\/tcp,443\/tcp +1h$/),
    ])
    expect(stdout).not.toContain(secretIn(path))
  })

  it('says when a key ends', async () => {
    const { key, make } = keyring()
    await make('alice', '--expires', '2100-01-31')
    expect((await key('list')).stdout).toMatch(/^ID .* EXPIRES .*\nalice .* valid +2100-01-31T00:00:00Z /)
  })

  it('names bad keys on standard error, and goes on', async () => {
    const { folder, key, make } = keyring()
    await make()
    put(folder, 'loose.key', '', 0o644)
    put(folder, 'notes', '')
    const { code, stdout, stderr } = await key('list', '--json')
    expect({ code, keys: JSON.parse(stdout).length }).toEqual({ code: 1, keys: 1 })
    expect(stderr.trimEnd().split('\n').sort()).toEqual([
      `knockturn: error: ${folder}/loose.key: expected mode 0600, got 0644: run "chmod 600 ${folder}/loose.key"`,
      `knockturn: warning: ${folder}/notes: expected <id>.key: the file is ignored`,
    ])
  })

  it('says that there are no keys', async () => {
    const { folder, key } = keyring()
    mkdirSync(folder, { mode: 0o700 })
    expect(await key('list')).toEqual({ code: 0, stdout: `${folder}: no keys\n`, stderr: '' })
  })

  it('prints an empty list as JSON where there are no keys', async () => {
    const { folder, key } = keyring()
    mkdirSync(folder, { mode: 0o700 })
    expect(await key('list', '--json')).toEqual({ code: 0, stdout: '[]\n', stderr: '' })
  })
})

describe('key show', () => {
  it.each([[], ['--json']])('prints all but the secret (%s)', async (...args) => {
    const { key, make } = keyring()
    const { path } = await make()
    const { code, stdout } = await key('show', 'alice', ...args.filter(Boolean))
    expect({ code, id: stdout.includes('alice') }).toEqual({ code: 0, id: true })
    expect(stdout).not.toContain(secretIn(path))
  })

  it('fails for a key that is not there', async () => {
    const { folder, key, make } = keyring()
    await make()
    const { code, stdout, stderr } = await key('show', 'bob')
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' })
    expect(stderr).toMatch(new RegExp(`^knockturn: error: ${folder}: expected a key "bob", and there is none: [^\n]+\n$`))
  })

  it.each(['show', 'export', 'revoke'])('and its like (%s) look at nothing outside of the keyring', async (command) => {
    const { code, stderr } = await keyring().key(command, '../alice')
    expect({ code, stderr }).toEqual({ code: 2, stderr: expect.stringMatching(/^knockturn: error: <id> expected/) })
  })
})

describe('key export', () => {
  it('writes the client’s copy, of mode 0600', async () => {
    const { key, make } = keyring()
    const { path } = await make('alice', '--host', 'gate.example')
    const out = join(scratch(), 'copy.key')
    expect(await key('export', 'alice', '--out', out)).toMatchObject({ code: 0, stderr: '' })
    expect([modeOf(out), secretIn(out)]).toEqual([0o600, secretIn(path)])
    expect(await loadKeyFile(out)).toMatchObject({ id: 'alice', host: 'gate.example', grant: null })
  })

  it('does not print what it writes', async () => {
    const { key, make } = keyring()
    const { path } = await make()
    const { stdout, stderr } = await key('export', 'alice', '--out', join(scratch(), 'copy.key'))
    expect(stdout + stderr).not.toContain(secretIn(path))
  })

  it('prints it where it is given no file', async () => {
    const { key, make } = keyring()
    const { path } = await make()
    const { stdout } = await key('export', 'alice')
    expect(stdout).toContain(secretIn(path))
    expect(stdout).not.toContain('grant')
  })

  it('never writes over a file', async () => {
    const { key, make } = keyring()
    await make()
    const out = put(scratch(), 'copy.key', 'mine')
    const { code, stderr } = await key('export', 'alice', '--out', out)
    expect({ code, stderr }).toEqual({ code: 1, stderr: expect.stringContaining('it is there already') })
    expect(readFileSync(out, 'utf8')).toBe('mine')
  })
})

describe('key revoke', () => {
  it('writes the date', async () => {
    const { key, make } = keyring()
    const { path } = await make()
    const before = Math.floor(Date.now() / 1000) * 1000
    expect(await key('revoke', 'alice')).toEqual({ code: 0, stdout: 'revoked alice\n', stderr: '' })
    const { revoked } = await loadKeyFile(path)
    expect(revoked).toBeGreaterThanOrEqual(before)
    expect(revoked).toBeLessThanOrEqual(Date.now())
  })

  it('shows in the list', async () => {
    const { key, make } = keyring()
    await make()
    await key('revoke', 'alice')
    expect((await key('list')).stdout).toMatch(/^alice .* revoked /m)
  })

  it('fails for a key that is not there', async () => {
    const { key, make } = keyring()
    await make()
    expect(await key('revoke', 'bob')).toMatchObject({ code: 1, stdout: '' })
  })
})

describe.each<Program>(['knockturn', 'knockclient', 'knockdaemon'])('%s', (program) => {
  it('has mode 755', () => {
    expect(modeOf(programPath(program)) & 0o555).toBe(0o555)
  })

  it('prints its version from any folder, without a config', async () => {
    expect(await run(program, ['--version'], { cwd: '/' })).toEqual({ code: 0, stdout: `${version}\n`, stderr: '' })
  })

  it.each(['--help', '-h'])('prints its help with %s from any folder, without a config', async (flag) => {
    const { code, stdout, stderr } = await run(program, [flag], { cwd: '/' })
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    expect(stdout).toMatch(new RegExp(`^Usage: ${program} [^]*\nExample:\n`))
  })

  it('says what to do where it has not been built', async () => {
    const folder = scratch()
    cpSync(dirname(programPath(program)), join(folder, 'bin'), { recursive: true })
    const { code, stdout, stderr } = await run({ path: join(folder, 'bin', program) }, ['--version'])
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' })
    expect(stderr).toMatch(new RegExp(`^${program}: error: [^\n]*dist/${program}\\.cjs: [^\n]*run "npm run build"\n$`))
  })
})

describe('knockturn', () => {
  it.each([[['--loud']], [['key', 'lose']], [['key', 'list', 'all']], [['key', 'show']], [['firewalls']]])(
    'takes %j for a fault of usage, in one line',
    async (args) => {
      const { code, stdout, stderr } = await run('knockturn', args)
      expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
      expect(stderr).toMatch(/^knockturn: error: [^\n]+\n$/)
    },
  )

  it.each([[['key', '--help']], [['key', 'new', '--help']], [['firewall', '--help']]])('has help for %j', async (args) => {
    expect(await run('knockturn', args)).toMatchObject({ code: 0, stderr: '', stdout: expect.stringContaining('Example:') })
  })
})
