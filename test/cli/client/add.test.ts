import { once } from 'node:events'
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { type AddressInfo, createServer, type Server } from 'node:net'
import { join } from 'node:path'
import { Encrypter, generateX25519Identity, identityToRecipient } from 'age-encryption'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { formatKeyLine } from '../../../src/keys/key-line'
import { sealText } from '../../../src/keys/sealed-key'
import { keyText, put, scratch, secretOf } from '../../system/scratch'
import { onTerminal, type Turn } from '../../terminal'
import { environment, programPath, run, seenMeanwhile } from '../programs'

const PASSPHRASE = 'heron-velvet-quarry-sundial-otter-plume'
/** A pool below the ports that this machine gives out by itself. */
const POOL = 'pool = "10000-22000"\n'
const SERVICES = 'services = ["22/tcp"]\n'
const copy = ({ host = 'gate.example', services = SERVICES, ...parts }: Record<string, string> = {}) =>
  keyText({ more: `host = "${host}"\n${POOL}${services}`, grant: '', ...parts })
/** A line that takes no time to open. */
const lineOf = (text = copy(), passphrase = PASSPHRASE) => formatKeyLine(text, passphrase, 2)
const textOf = (line: string) => line.replace('knockclient add ', '')

let line: string
beforeAll(async () => {
  line = await lineOf()
})

/** A client with a home of its own. */
function client() {
  const home = scratch()
  const env = { HOME: home, XDG_STATE_HOME: undefined, PATH: process.env.PATH }
  const at = (...names: string[]) => join(home, ...names)
  const keys = at('.config', 'knockturn', 'keys')
  return {
    home,
    env,
    at,
    key: (name: string) => join(keys, name),
    keys,
    config: at('.config', 'knockturn', 'config.toml'),
    read: (...names: string[]) => readFileSync(at(...names), 'utf8'),
    /** Adds what is on the command line, without a knock. */
    add: (args: readonly string[], input = `${PASSPHRASE}\n`) =>
      run('knockclient', ['add', ...args, '--no-knock'], { env, input, cwd: home }),
    typed: (args: readonly string[], turns: readonly Turn[]) =>
      onTerminal([process.execPath, programPath('knockclient'), 'add', ...args, '--no-knock'], turns, {
        env: environment(env),
        cwd: home,
      }),
    /** All files below the home, with their modes. */
    files: () =>
      readdirSync(home, { recursive: true, encoding: 'utf8' })
        .filter((name) => statSync(at(name)).isFile())
        .sort(),
    /** What a knock by this profile would ask. */
    dry: (...args: string[]) => run('knockclient', [...args, '--dry-run', '--json'], { env, input: `${PASSPHRASE}\n` }),
  }
}
const ADDED = ['.config/knockturn/config.toml', '.config/knockturn/keys/alice.key']
const said = ({ stderr }: { stderr: string }) => stderr.replace(/^knockclient: error: /, '').trimEnd()

describe('knockclient add with the line that the server printed', () => {
  it('puts the key in its place and makes a profile that knocks, for their owner alone', async () => {
    const { add, files, key, keys, config, dry } = client()
    const { code, stdout, stderr } = await add([textOf(line)])
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    expect(stdout.split('\n').slice(-3)).toEqual([
      `wrote ${key('alice.key')}: the key alice`,
      `wrote ${config}: "knockclient gate.example" knocks`,
      '',
    ])
    expect(files()).toEqual(ADDED)
    expect([keys, key('alice.key'), config].map((path) => statSync(path).mode & 0o777)).toEqual([0o700, 0o600, 0o600])
    expect(readFileSync(config, 'utf8')).toBe(
      '[profile."gate.example"]\nhost = "gate.example"\nkey = "alice"\nservices = [ "22/tcp" ]\nwait = true\n',
    )
    const knock = await dry('gate.example')
    expect(JSON.parse(knock.stdout)).toMatchObject({ request: { action: 'open', port: 22, protocol: 'tcp' } })
  })

  it('shows neither passphrase nor secret', async () => {
    const { add, typed } = client()
    const { stdout, stderr } = await add([line])
    const { shown } = await typed(
      [line],
      [
        ['passphrase of the key: ', `${PASSPHRASE}\r`],
        ['yes or no', 'no\r'],
      ],
    )
    for (const secret of [PASSPHRASE, secretOf(1)]) expect(stdout + stderr + shown).not.toContain(secret)
  })

  it('finds all there the second time, and goes on', async () => {
    const { add, files, key, config } = client()
    await add([line])
    const before = [key('alice.key'), config].map((path) => readFileSync(path, 'utf8'))
    const { code, stdout } = await add([line])
    expect([code, stdout]).toEqual([0, expect.stringContaining(`already there: ${key('alice.key')}: the key alice\n`)])
    expect([files(), [key('alice.key'), config].map((path) => readFileSync(path, 'utf8'))]).toEqual([ADDED, before])
  })

  it('writes nothing with a wrong passphrase', async () => {
    const { add, files } = client()
    const { code, stderr } = await add([line], 'wrong\n')
    expect([code, said({ stderr })]).toEqual([1, 'the key: wrong passphrase\nhint: try again, or export the key again'])
    expect(files()).toEqual([])
  })

  it('asks for no passphrase where the line was cut or mistyped', async () => {
    const { typed, files } = client()
    const { code, shown } = await typed([line.slice(0, -9)], [])
    expect([code, shown]).toEqual([1, expect.stringContaining('error: the key: the line is cut off, or has characters in it')])
    const mistyped = await typed([`${line.slice(0, 60)}${line[60] === 'A' ? 'B' : 'A'}${line.slice(61)}`], [])
    expect(mistyped.shown).toContain('error: the key: the line is not as it was printed: a character is wrong or missing')
    expect(files()).toEqual([])
  })
})

describe('knockclient add with a file', () => {
  it('takes a plain key, and says when others could read it and that it is no longer needed', async () => {
    const { add, home, files } = client()
    const path = put(home, 'alice.key', copy(), 0o644)
    const { code, stdout, stderr } = await add(['alice.key'], '')
    expect({ code, stderr }).toEqual({
      code: 0,
      stderr: 'knockclient: warning: alice.key: other users of this machine could read this key, and knock with it\n',
    })
    expect(stdout).toMatch(/\nalice\.key is no longer needed: delete it\n$/)
    expect(files()).toEqual([...ADDED, 'alice.key'])
    expect(readFileSync(path, 'utf8')).toBe(copy())
  })

  it('never tells to delete the key in its place', async () => {
    const { add, key, keys } = client()
    mkdirSync(keys, { recursive: true, mode: 0o700 })
    put(keys, 'alice.key', copy())
    const { code, stdout } = await add(['.config/../.config/knockturn/keys/alice.key'], '')
    expect([code, stdout]).toEqual([0, expect.stringContaining(`already there: ${key('alice.key')}`)])
    expect(stdout).not.toContain('delete')
  })

  it("leaves the server's part of a key out", async () => {
    const { add, home, read } = client()
    put(home, 'alice.key', keyText({ more: 'host = "gate.example"\n', grant: `${SERVICES}[passcode]\npin = "0417"` }))
    expect((await add(['alice.key'], '')).code).toBe(0)
    expect(read('.config/knockturn/keys/alice.key')).not.toMatch(/grant|passcode|0417/)
    expect(read('.config/knockturn/keys/alice.key')).toContain('services = [ "22/tcp" ]')
  })

  it.each([
    ['under a passphrase', () => sealText(copy(), PASSPHRASE)],
    ['that has the line', async () => `${line}\n`],
  ])('takes one %s', async (_, content) => {
    const { add, home, files } = client()
    put(home, 'stick', await content(), 0o644)
    expect(await add(['stick'])).toMatchObject({ code: 0, stderr: '' })
    expect(files()).toEqual([...ADDED, 'stick'])
  })

  it('keeps the passphrase with --keep-sealed, and each knock asks for it', async () => {
    const { add, home, files, dry, key } = client()
    const content = await sealText(copy(), PASSPHRASE)
    put(home, 'stick', content)
    expect((await add(['stick', '--keep-sealed'])).code).toBe(0)
    expect(files()).toEqual([ADDED[0], '.config/knockturn/keys/alice.key.age', 'stick'])
    expect([readFileSync(key('alice.key.age'), 'utf8'), statSync(key('alice.key.age')).mode & 0o777]).toEqual([content, 0o600])
    expect((await dry('gate.example')).code).toBe(0)
    expect((await add(['stick', '--keep-sealed'])).stdout).toContain(`already there: ${key('alice.key.age')}`)
  })

  it('has nothing to keep sealed in a plain one', async () => {
    const { add, home, files } = client()
    put(home, 'alice.key', copy())
    expect(await add(['alice.key', '--keep-sealed'], '')).toMatchObject({ code: 2 })
    expect(files()).toEqual(['alice.key'])
  })
})

describe('knockclient add with standard input', () => {
  it.each([['-'], []])('takes a plain key, with the arguments %j', async (...args) => {
    const { add, files } = client()
    expect(await add(args.flat(), copy())).toMatchObject({ code: 0, stderr: '' })
    expect(files()).toEqual(ADDED)
  })

  it('takes the line from a pipe, and the passphrase from the terminal', async () => {
    const { home, env, files } = client()
    put(home, 'mail', `> $ ${line.replace(/.{72}/g, '$&\n> ')}\n`)
    const argv = ['sh', '-c', '"$0" "$@" < mail', process.execPath, programPath('knockclient'), 'add', '--no-knock']
    const { code } = await onTerminal(argv, [['passphrase of standard input: ', `${PASSPHRASE}\r`]], {
      env: environment(env),
      cwd: home,
    })
    expect([code, files()]).toEqual([0, [...ADDED, 'mail']])
  })

  it('is pasted on a terminal, broken as it may be', async () => {
    const { typed, files } = client()
    const { code, shown } = await typed(
      [],
      [
        ['paste the line that the server printed', `${line.replace(/.{80}/g, '$&\n')}\n`],
        ['passphrase of standard input: ', `${PASSPHRASE}\r`],
        ['yes or no', '\n'],
      ],
    )
    expect([code, shown]).toEqual([0, expect.stringContaining('the key alice')])
    expect(files()).toEqual(ADDED)
  })

  it('is nothing where nothing is given', async () => {
    const { add, files } = client()
    expect(await add([], '')).toMatchObject({ code: 2, stderr: expect.stringContaining('no key: nothing was given\nhint: ') })
    expect(files()).toEqual([])
  })
})

describe('what is there already', () => {
  it('is never overwritten by a key of another server: it takes another name', async () => {
    const { add, keys, key, dry } = client()
    await add([line])
    const other = await lineOf(copy({ host: 'other.example', server: 'other.example', secret: secretOf(2) }))
    const before = readFileSync(key('alice.key'), 'utf8')
    for (const more of [[], ['--replace']]) {
      expect(await add([other, ...more])).toMatchObject({
        code: 1,
        stderr: `knockclient: error: ${key('alice.key')}: a key of another server, "gate.example", has this name\nhint: add this one under another name: --as other.example\n`,
      })
      expect([readFileSync(key('alice.key'), 'utf8'), readdirSync(keys)]).toEqual([before, ['alice.key']])
    }
    expect((await add([other, '--as', 'other.example'])).code).toBe(0)
    expect(readdirSync(keys)).toEqual(['alice.key', 'other.example.key'])
    for (const profile of ['gate.example', 'other.example']) expect((await dry(profile)).code).toBe(0)
  })

  it('is kept as .old where an older key of the server is replaced, and neither is ever lost', async () => {
    const { add, key, keys, files } = client()
    await add([line])
    const before = readFileSync(key('alice.key'), 'utf8')
    const newer = await lineOf(copy({ secret: secretOf(2) }))
    expect(await add([newer])).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('replace it with --replace, which keeps it as'),
    })
    expect(files()).toEqual(ADDED)
    const { code, stdout } = await add([newer, '--replace'])
    expect([code, stdout]).toEqual([0, expect.stringContaining(`kept ${key('alice.key')}.old: the key that was there\n`)])
    expect(readFileSync(key('alice.key.old'), 'utf8')).toBe(before)
    expect(readFileSync(key('alice.key'), 'utf8')).toContain(secretOf(2))
    const newest = await lineOf(copy({ secret: secretOf(3) }))
    expect(await add([newest, '--replace'])).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('already exists and is not overwritten'),
    })
    expect(readFileSync(key('alice.key'), 'utf8')).toContain(secretOf(2))
    expect(readdirSync(keys).sort()).toEqual(['alice.key', 'alice.key.old'])
  })

  it('is a profile that is another: nothing is written', async () => {
    const { add, config, files } = client()
    mkdirSync(join(config, '..'), { recursive: true })
    const theirs = '# mine\n[profile."gate.example"]\nhost = "gate.example"\nkey = "bob"\n'
    writeFileSync(config, theirs, { mode: 0o600 })
    expect(await add([line])).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('another profile is called "gate.example"\nhint: '),
    })
    expect(files()).toEqual([ADDED[0]])
    expect((await add([line, '--profile', 'gate'])).code).toBe(0)
    expect(readFileSync(config, 'utf8')).toMatch(/^# mine\n.*\n.*\nkey = "bob"\n\n\[profile\.gate\]\n/)
    expect((await add([line, '--replace'])).code).toBe(0)
    expect(readFileSync(config, 'utf8')).toMatch(/^# mine\n\[profile\."gate\.example"\]\n.*\nkey = "alice"\n/)
  })

  it('is a command of that name', async () => {
    const { add, files } = client()
    expect(await add([line, '--profile', 'connect'])).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('"connect" is a command'),
    })
    expect(files()).toEqual([])
  })
})

describe('ssh', () => {
  it('knocks with --ssh-config, by the profile', async () => {
    const { add, read, files, at } = client()
    const { stdout } = await add([line, '--profile', 'gate', '--ssh-config'])
    expect(files()).toEqual([...ADDED, '.ssh/config', '.ssh/knockturn.conf'])
    expect(read('.ssh', 'config')).toMatch(/^# .*\nInclude knockturn\.conf\n$/)
    expect(read('.ssh', 'knockturn.conf')).toMatch(
      /\n\nHost gate gate\.example\n {2}HostName gate\.example\n {2}ProxyCommand \S+ connect gate %p\n$/,
    )
    expect(stdout).toContain(`wrote ${at('.ssh', 'config')}: "ssh gate.example" knocks\n`)
    expect((await add([line, '--profile', 'gate', '--ssh-config'])).stdout).toMatch(/^"ssh gate\.example" knocks already\n/)
  })

  it.each([
    ['y', true],
    ['yes', true],
    ['', false],
    ['n', false],
    ['\x04', false],
  ])('is asked about on a terminal: %j', async (answer, isWritten) => {
    const { typed, files, home } = client()
    put(home, 'alice.key', copy())
    const { code, shown } = await typed(['alice.key'], [['yes or no [no]: ', answer === '\x04' ? answer : `${answer}\n`]])
    expect([code, shown]).toEqual([0, expect.stringContaining('Host gate.example')])
    expect(files().includes('.ssh/config')).toBe(isWritten)
  })

  it('is asked about before anything is written: Ctrl-C leaves nothing behind', async () => {
    const { typed, files, home } = client()
    put(home, 'alice.key', copy())
    const { code } = await typed(['alice.key'], [['yes or no [no]: ', '\x03']])
    expect([code, files()]).toEqual([130, ['alice.key']])
  })

  it('is left alone without a terminal, and the lines are printed', async () => {
    const { add, files } = client()
    const { stdout } = await add([line])
    expect(stdout).toMatch(
      /^for "ssh gate\.example" to knock .*:\n {2}Host gate\.example\n {4}ProxyCommand .* connect gate\.example %p\n/,
    )
    expect(files()).toEqual(ADDED)
  })

  it("shows a block of the user's own with a proxy, and does not touch it", async () => {
    const { add, at, files, read } = client()
    mkdirSync(at('.ssh'))
    const theirs = 'Host gate.example\n  ProxyJump bastion\n'
    put(at('.ssh'), 'config', theirs)
    expect(await add([line, '--ssh-config'])).toMatchObject({
      code: 1,
      stdout: `${at('.ssh', 'config')} has this block, which is not changed:\n  Host gate.example\n    ProxyJump bastion\n`,
    })
    expect(files()).toEqual(['.ssh/config'])
    expect((await add([line])).code).toBe(0)
    expect([files(), read('.ssh', 'config')]).toEqual([[...ADDED, '.ssh/config'], theirs])
  })

  it('is not offered for a key that opens no port of it', async () => {
    const { add } = client()
    const { stdout } = await add([await lineOf(copy({ services: 'services = ["443/tcp", "8443/tcp"]\n' }))])
    expect(stdout).not.toContain('ssh')
  })
})

describe('what somebody hostile gives', () => {
  it('is refused where it is 10 MB, and not read to its end', async () => {
    const { add, files } = client()
    const input = `kt1.${'A'.repeat(10_000_000)}.AAAAAA`
    expect(await add(['-'], input)).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('expected at most 131072 bytes, got more'),
    })
    expect(await add([input.slice(0, 100_000)], '')).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('expected at most 4000 characters, got 100000'),
    })
    expect(files()).toEqual([])
  })

  it('is refused where it is for the recipient of an age key', async () => {
    const { add, files, home } = client()
    const encrypter = new Encrypter()
    encrypter.addRecipient(await identityToRecipient(await generateX25519Identity()))
    put(home, 'stick', await encrypter.encrypt(copy()))
    expect(said(await add(['stick']))).toMatch(/^stick: not an age file that a passphrase opens\n/)
    expect(files()).toEqual(['stick'])
  })

  it('is refused where it would take the memory of a machine', async () => {
    const { add, files, home } = client()
    put(home, 'stick', Buffer.from('age-encryption.org/v1\n-> scrypt AAAAAAAAAAAAAAAAAAAAAA 30\nAAAA\n--- AAAA\n'))
    expect(said(await add(['stick']))).toMatch(/expected a work factor of at most 19, got 30/)
    expect(files()).toEqual(['stick'])
  })

  it.each(['../../../.ssh/authorized_keys', '/etc/passwd', '..', '.hidden', 'a/b', 'a\\\\b', 'a\\u0000b', 'alice\\nbob'])(
    'names no file elsewhere: the id %s',
    async (id) => {
      const { add, files, home } = client()
      put(home, 'a', copy({ id }))
      expect(await add(['a'], '')).toMatchObject({
        code: 1,
        stderr: expect.stringContaining('a:1: "id" expected 1 to 32 letters'),
      })
      expect(files()).toEqual(['a'])
    },
  )

  it('puts nothing of a host into ssh_config but a host', async () => {
    const { add, files, home } = client()
    put(home, 'a', copy({ host: 'gate\\n  ProxyCommand touch pwned' }))
    expect(await add(['a', '--ssh-config'], '')).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('expected a host name or an address'),
    })
    expect(files()).toEqual(['a'])
  })

  it('writes through no folder that others may use', async () => {
    const { add, at, files } = client()
    const elsewhere = scratch()
    mkdirSync(join(elsewhere, 'keys'))
    chmodSync(join(elsewhere, 'keys'), 0o777)
    mkdirSync(at('.config'))
    symlinkSync(elsewhere, at('.config', 'knockturn'))
    expect(await add([line])).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('expected mode 0700, got 0777\nhint: run "chmod 700'),
    })
    expect([files(), readdirSync(elsewhere), readdirSync(join(elsewhere, 'keys'))]).toEqual([[], ['keys'], []])
  })

  it('writes through a link to a folder of dotfiles that is ours alone', async () => {
    const { add, at, dry } = client()
    const dotfiles = scratch()
    mkdirSync(at('.config'))
    symlinkSync(dotfiles, at('.config', 'knockturn'))
    expect((await add([line])).code).toBe(0)
    expect([readdirSync(dotfiles).sort(), (await dry('gate.example')).code]).toEqual([['config.toml', 'keys'], 0])
  })

  it('writes through no link in the place of a key', async () => {
    const { add, key, keys, home } = client()
    mkdirSync(keys, { recursive: true, mode: 0o700 })
    const target = join(home, 'target')
    symlinkSync(target, key('alice.key'))
    expect(await add([line])).toMatchObject({ code: 1, stderr: expect.stringContaining('already exists and is not overwritten') })
    expect(existsSync(target)).toBe(false)
  })
})

describe('the knock that is tried', () => {
  let service: Server
  let port: number
  beforeAll(async () => {
    service = createServer((socket) => socket.on('error', () => {}).end()).listen(0, '127.0.0.1')
    await once(service, 'listening')
    port = (service.address() as AddressInfo).port
  })
  afterAll(() => void service.close())
  const here = (door: number) => lineOf(copy({ host: '127.0.0.1', services: `services = ["${door}/tcp"]\n` }))
  const knock = async (door: number, { env }: ReturnType<typeof client>) =>
    run('knockclient', ['add', await here(door)], { env, input: `${PASSPHRASE}\n` })

  it('asks for the passphrase once, and says what came of it before what was written', async () => {
    const one = client()
    const { code, stdout, stderr } = await knock(port, one)
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    expect(stdout).toContain(`\nknocked at 127.0.0.1: the service answers\nwrote ${one.key('alice.key')}: the key alice\n`)
  })

  it('undoes nothing where it fails, and the exit code is its own', async () => {
    const one = client()
    const { code, stdout, stderr } = await knock(9, one)
    expect([code, stderr]).toEqual([1, expect.stringMatching(/^knockclient: error: 127\.0\.0\.1 port 9 refuses connections\n/)])
    expect(stderr).toMatch(/\nhint: the key is in its place: knock again with "knockclient 127\.0\.0\.1"\n$/)
    expect(stdout).toContain(`wrote ${one.config}: "knockclient 127.0.0.1" knocks\n`)
    expect(one.files().slice(0, 2)).toEqual(ADDED)
  })

  it('is not sent with a key that has expired, which is there all the same', async () => {
    const one = client()
    put(one.home, 'a', copy({ services: `${SERVICES}expires = 2021-01-01T00:00:00Z\n` }))
    const { code, stderr } = await run('knockclient', ['add', 'a'], { env: one.env, cwd: one.home })
    expect([code, stderr]).toEqual([
      1,
      expect.stringContaining('the key alice expired at 2021-01-01T00:00:00Z, according to its file'),
    ])
    expect(one.files()).toEqual([...ADDED, 'a'])
  })

  it('leaves passphrase and secret in no argument of any process', async () => {
    const one = client()
    const { result, seen } = await seenMeanwhile(() => knock(port, one))
    expect([result.code, seen]).toEqual([0, expect.stringContaining('kt1.')])
    for (const secret of [PASSPHRASE, secretOf(1)]) expect(seen).not.toContain(secret)
  })
})
