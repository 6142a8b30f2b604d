import { chmodSync, cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { engines, version } from '../../package.json'
import { loadKeyFile } from '../../src/keys/keyring'
import { keyText, put, scratch, secretOf } from '../system/scratch'
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

it.each([['list'], ['show', 'alice']])('key %s --json shows no character that is not seen', async (...words) => {
  const { key, make } = keyring()
  await make('alice', '--server', 'gate\u202e\u200b\u009b.example')
  const { stdout } = await key(words[0], ...words.slice(1), '--json')
  expect(stdout).toMatch(/^[ -~]+\n$/)
  expect(stdout).toContain('gate\\u202e\\u200b\\u009b.example')
})

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

  it.each([
    ['22', ['22/tcp']],
    ['tcp/22, 53:UDP', ['22/tcp', '53/udp']],
  ])('takes services as hands type them: %s', async (typed, services) => {
    const { key, make } = keyring()
    await make('alice', '--services', typed)
    expect(JSON.parse((await key('show', 'alice', '--json')).stdout).grant.services).toEqual(services)
  })

  it('takes times in days, for its end from now on', async () => {
    const { path } = await keyring().make('alice', '--max', '2d', '--expires', '30d')
    const { created, expires, grant } = await loadKeyFile(path)
    expect(grant?.max).toBe(172_800)
    expect(Math.abs((expires ?? 0) - created - 30 * 86_400_000)).toBeLessThanOrEqual(1_000)
  })

  it('makes another secret each time', async () => {
    const { make } = keyring()
    const [a, b] = [await make('alice'), await make('bob')].map(({ path }) => secretIn(path))
    expect(a).toHaveLength(52)
    expect(a).not.toBe(b)
  })

  describe('beside a config', () => {
    /** A keyring that a config has, which says more. */
    const configured = (more = '') => {
      const folder = scratch()
      const config = put(folder, 'knockturn.toml', `server = "gate.example"\nkeys = "keys"\n${more}`, 0o644)
      const key = (command: string, ...args: string[]) => run('knockturn', ['key', command, ...args, '--config', config])
      return { keys: join(folder, 'keys'), config, key }
    }
    const labelIn = async (path: string) => (await loadKeyFile(path)).key.server

    it('makes a key for its server, in its keyring', async () => {
      const { keys, key } = configured()
      expect(await key('new', 'alice')).toMatchObject({ code: 0, stderr: '' })
      expect(await labelIn(join(keys, 'alice.key'))).toBe('gate.example')
    })

    it('makes a key elsewhere for its server, too', async () => {
      const { key } = configured()
      const { folder } = keyring()
      expect(await key('new', 'alice', '--keys', folder)).toMatchObject({ code: 0, stderr: '' })
      expect(await labelIn(join(folder, 'alice.key'))).toBe('gate.example')
    })

    it('takes the same label', async () => {
      expect(await configured().key('new', 'alice', '--server', 'gate.example')).toMatchObject({ code: 0, stderr: '' })
    })

    it('refuses another label, and makes nothing', async () => {
      const { keys, key, config } = configured()
      expect(await key('new', 'alice', '--server', 'gate.exmaple')).toEqual({
        code: 2,
        stdout: '',
        stderr: `knockturn: error: --server expected "gate.example" (from ${config}), got "gate.exmaple"\nhint: leave out --server, or name another config with --config\n`,
      })
      expect(existsSync(keys)).toBe(false)
    })

    it('goes by the label of one that is faulty elsewhere', async () => {
      const { keys, key } = configured('skew = "no"\n')
      expect(await key('new', 'alice')).toMatchObject({ code: 0, stderr: '' })
      expect(await labelIn(join(keys, 'alice.key'))).toBe('gate.example')
    })

    it.each([
      ['is not there', (config: string) => rmSync(config), 'ENOENT'],
      ['has no label', (config: string) => put(dirname(config), 'knockturn.toml', 'keys = "keys"\n'), '"server" is missing'],
    ])('makes none where the config that was named %s', async (_, spoil, says) => {
      const { keys, key, config } = configured()
      spoil(config)
      const { code, stderr } = await key('new', 'alice', '--server', 'gate.example')
      expect([code, stderr, existsSync(keys)]).toEqual([1, expect.stringContaining(says), false])
    })

    it('refuses a pool with a port of its datagrams, and makes nothing', async () => {
      const { keys, key } = configured('[datagram]\nports = [50000]\n')
      const { code, stderr } = await key('new', 'alice')
      expect([code, stderr, existsSync(keys)]).toEqual([
        1,
        expect.stringContaining('contains port 50000, which [datagram] ports has'),
        false,
      ])
      const made = await key('new', 'alice', '--pool', '20000-40000')
      expect(made).toMatchObject({ code: 0, stderr: '' })
      expect(made.stdout).toMatch(/\nnext: run "knockturn firewall install" so that its pool is heard\n$/)
    })

    it('lists a key of another server as such', async () => {
      const { keys, key } = configured()
      await key('new', 'alice')
      put(keys, 'bob.key', keyText({ id: 'bob', secret: secretOf(2), server: 'other.example' }))
      const { code, stdout } = await key('list')
      expect([code, stdout]).toEqual([0, expect.stringMatching(/^alice +\S+ +valid [^\n]*\nbob +\S+ +another server's /m)])
    })
  })

  it('needs a label where there is no config', async () => {
    const { folder, key } = keyring()
    expect(await key('new', 'alice')).toEqual({
      code: 2,
      stdout: '',
      stderr: expect.stringMatching(
        /^knockturn: error: the server has no label: [^\n]*\nhint: add --server <label> or --config <file>\n$/,
      ),
    })
    expect(existsSync(folder)).toBe(false)
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
    expect(stderr).toMatch(/^knockturn: error: [^\n]*alice\.key: already exists and is not overwritten\nhint: [^\n]*\n$/)
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
    [['alice', '--services', '22,ssh'], /--services expected services such as/],
    [['alice', '--services', '0'], /--services expected services such as/],
    [['alice', '--services', ''], /--services expected services such as/],
    [['alice', '--host', 'gate.example:22'], /--host expected a host name or an address, without port or brackets, got/],
    [['alice', '--host', 'root@gate.example'], /--host expected a host name/],
    [['alice', '--host', 'https://gate.example/'], /--host expected a host name/],
    [['alice', '--host', '[2001:db8::1]'], /--host expected a host name/],
    [['alice', '--host', ''], /--host expected a host name/],
    [['alice', '--max', '60'], /--max expected a duration/],
    [['alice', '--max', '0s'], /--max expected a duration/],
    [['alice', '--addresses', '10.0.0.1/8'], /--addresses expected blocks/],
    [['alice', '--expires', 'tomorrow'], /--expires expected a date/],
    [['alice', '--expires', '2020-01-01'], /--expires must be in the future, got /],
    [['alice', '--expires', '0d'], /--expires must be in the future, got /],
    [['alice', '--expires', '12'], /--expires expected a date/],
    [['alice', '--expires', '99999999d'], /--expires expected a date/],
    [['alice', '--pool', '1-1000'], /--pool expected at least 11,272 ports/],
    [['alice', '--open-prefix', '15'], /--open-prefix expected 16 to 32 bits, got "15"/],
    [
      ['alice', '--open-prefix', '24', '--addresses', '10.0.0.1'],
      /expected at least 32, as there is 10\.0\.0\.1 in addresses, got 24/,
    ],
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
      `hint: run "chmod 600 ${folder}/loose.key"`,
      `knockturn: error: ${folder}/loose.key: expected mode 0600, got 0644`,
      `knockturn: warning: ${folder}/notes: ignored: not named <id>.key`,
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
    expect(stderr).toMatch(new RegExp(`^knockturn: error: ${folder}: no key "bob" \\(there are: alice\\)\n$`))
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

  it('says in the copy which services and which longest time there are, and no more', async () => {
    const { key, make } = keyring()
    const more = ['--addresses', '10.0.0.0/8', '--open-prefix', '24', '--lock']
    await make('alice', '--services', '22/tcp,53/udp', '--max', '30m', ...more)
    const { stdout } = await key('export', 'alice')
    const entries = [...stdout.matchAll(/^(\[?\w+\]?)(?: = (.*))?$/gm)].map(([, name, value]) => [name, value])
    expect(entries.map(([name]) => name)).toEqual(['id', 'secret', 'server', 'period', 'pool', 'created', 'services', 'max'])
    expect(Object.fromEntries(entries)).toMatchObject({ services: '[ "22/tcp", "53/udp" ]', max: '"30m"' })
  })

  it('warns of a key that is revoked', async () => {
    const { key, make } = keyring()
    await make()
    const before = await key('export', 'alice')
    await key('revoke', 'alice')
    const { code, stderr } = await key('export', 'alice')
    expect([before.stderr, code, stderr]).toEqual([
      '',
      0,
      'knockturn: warning: the key alice is revoked: the server refuses its knocks\n',
    ])
  })

  it('writes with --plain what version 0.1.0 reads: without them', async () => {
    const { key, make } = keyring()
    await make()
    const { stdout } = await key('export', 'alice', '--plain')
    expect(stdout).not.toMatch(/^(services|max|\[)/m)
  })

  it('writes a copy that can be listed, shown and exported again', async () => {
    const { key, make } = keyring()
    await make('alice', '--max', '30m')
    const copies = scratch()
    await key('export', 'alice', '--out', join(copies, 'alice.key'))
    const again = (...args: string[]) => run('knockturn', ['key', ...args, '--keys', copies])
    expect((await again('list')).stdout).toMatch(/^alice .* 22\/tcp +30m$/m)
    expect(JSON.parse((await again('show', 'alice', '--json')).stdout)).toMatchObject({
      grant: null,
      hint: { services: ['22/tcp'], max: '30m' },
    })
    expect((await again('export', 'alice')).stdout).toBe(readFileSync(join(copies, 'alice.key'), 'utf8'))
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
    expect({ code, stderr }).toEqual({ code: 1, stderr: expect.stringContaining('already exists') })
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

  it('fails with one line where the daemon would not take it, and says so again until it does', async () => {
    const { key, make } = keyring()
    const folder = dirname((await make()).path)
    chmodSync(folder, 0o755)
    const line = `knockturn: error: the daemon does not see that alice is revoked: ${folder}: expected mode 0700, got 0755\nhint: run "chmod 700 ${folder}"\n`
    for (let i = 0; i < 2; i++) expect(await key('revoke', 'alice')).toEqual({ code: 1, stdout: '', stderr: line })
    chmodSync(folder, 0o700)
    expect(await key('revoke', 'alice')).toMatchObject({ code: 0 })
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

  /** Its name, the version, and the commit if it was built where one is known; "+" stands for changes since. */
  const isVersion = expect.stringMatching(new RegExp(`^${program} ${version.replaceAll('.', '\\.')}( \\([0-9a-f]{7}\\+?\\))?\n$`))

  it.each(['--version', '-V'])('prints its version with %s from any folder, without a config', async (flag) => {
    expect(await run(program, [flag], { cwd: '/' })).toEqual({ code: 0, stdout: isVersion, stderr: '' })
  })

  it.each(['--help', '-h'])('prints its help with %s from any folder, without a config', async (flag) => {
    const { code, stdout, stderr } = await run(program, [flag], { cwd: '/' })
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    expect(stdout).toMatch(new RegExp(`^Usage: ${program} [^]*\nExample:\n`))
  })

  /** Runs it by a Node that takes itself for this one. */
  const runBy = (node: string) => {
    const versions = `{ ...process.versions, node: '${node}' }`
    const other = put(scratch(), 'other.cjs', `Object.defineProperty(process, 'versions', { value: ${versions} })`)
    return run(program, ['--version'], { env: { NODE_OPTIONS: `--require=${other}` } })
  }

  it.each(['20.19.0', '21.0.0', '26.12.1'])('starts by Node %s', async (node) => {
    expect(await runBy(node)).toEqual({ code: 0, stdout: isVersion, stderr: '' })
  })

  it.each(['12.22.12', '20.18.3'])('reports that Node %s is too old, and what to do', async (node) => {
    const stderr = `${program}: error: expected Node ${engines.node.replace('>=', '')} or later, got ${node}, which is ${process.execPath}\nhint: install a newer Node for all users, or put it first in PATH\n`
    expect(await runBy(node)).toEqual({ code: 1, stdout: '', stderr })
  })

  it.each([
    ['in a clone', true, 'run "npm run build"'],
    ['where it has been installed', false, 'install Knockturn again'],
  ])('says what to do where the built program is missing, %s', async (_, isClone, hint) => {
    const folder = scratch()
    if (isClone) mkdirSync(join(folder, 'src'))
    cpSync(dirname(programPath(program)), join(folder, 'bin'), { recursive: true })
    const { code, stdout, stderr } = await run({ path: join(folder, 'bin', program) }, ['--version'])
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' })
    expect(stderr).toMatch(
      new RegExp(`^${program}: error: [^\n]*dist/${program}\\.cjs: the built program is missing\nhint: ${hint}\n$`),
    )
  })
})

describe('knockturn', () => {
  it.each([[['--loud']], [['key', 'lose']], [['key', 'list', 'all']], [['key', 'show']], [['xyzzy']]])(
    'takes %j for a fault of usage, and points to the help',
    async (args) => {
      const { code, stdout, stderr } = await run('knockturn', args)
      expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
      expect(stderr).toMatch(/^knockturn: error: [^\n]+\nhint: see "knockturn [^\n]*--help"\n$/)
    },
  )

  it.each([[['key', '--help']], [['key', 'new', '--help']], [['firewall', '--help']]])('has help for %j', async (args) => {
    expect(await run('knockturn', args)).toMatchObject({ code: 0, stderr: '', stdout: expect.stringContaining('Example:') })
  })
})
