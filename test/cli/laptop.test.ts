import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { createServer as createHttps } from 'node:https'
import { type AddressInfo, createServer, type Server } from 'node:net'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { sealText } from '../../src/keys/sealed-key'
import { keyText, put, scratch, secretOf } from '../system/scratch'
import { environment, programPath, run } from './programs'

const HERE = '127.0.0.1'
/** Below the ports that this machine gives out by itself. */
const POOL = '10000-22000'

/** A home with these keys and a config. */
function home(config = '', ids = ['alice']) {
  const folder = scratch()
  const base = join(folder, '.config', 'knockturn')
  const keys = join(base, 'keys')
  mkdirSync(keys, { recursive: true, mode: 0o700 })
  for (const [n, id] of ids.entries())
    put(keys, `${id}.key`, keyText({ id, secret: secretOf(n + 3), more: `host = "${HERE}"\npool = "${POOL}"\n`, grant: '' }))
  const path = join(base, 'config.toml')
  if (config) put(base, 'config.toml', config)
  const last = join(folder, '.local', 'state', 'knockturn', 'last.toml')
  const env = { HOME: folder, XDG_CONFIG_HOME: undefined, XDG_STATE_HOME: undefined }
  const client = (...args: string[]) => run('knockclient', args, { env })
  return { folder, keys, path, last, env, client, config: () => readFileSync(path, 'utf8') }
}
type Home = ReturnType<typeof home>

/** The requests that a command would say. */
async function requests({ client }: Home, ...args: string[]) {
  const { code, stdout, stderr } = await client(...args, '--dry-run', '--json')
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  const lines: {
    request: { port: number; protocol: string; seconds: number; address: string; once: boolean; action: string }
  }[] = stdout
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line))
  return lines.map(({ request }) => request)
}
const fault = (outcome: { stderr: string }) => outcome.stderr.replace(/^knockclient: error: /, '').trimEnd()

describe('a profile', () => {
  const GATE = `[profile.gate]
services = ["22/tcp", 443]
time = "10m"
address = "198.51.100.7"
once = true
`

  it('says what its options would', async () => {
    expect(await requests(home(GATE), 'gate')).toMatchObject([
      { port: 22, protocol: 'tcp', seconds: 600, address: '198.51.100.7', once: true },
      { port: 443, protocol: 'any', seconds: 600, address: '198.51.100.7', once: true },
    ])
  })

  it.each<[string, string[], object[]]>([
    ['-p', ['-p', '53/udp'], [{ port: 53, protocol: 'udp', seconds: 600 }]],
    ['-t', ['-t', '1'], [{ seconds: 60 }, { seconds: 60 }]],
    ['-i', ['-i', '198.51.100.8'], [{ address: '198.51.100.8' }, { address: '198.51.100.8' }]],
    [
      '--close',
      ['--close'],
      [
        { action: 'close', once: false, port: 22 },
        { action: 'close', port: 443 },
      ],
    ],
    ['-t 255', ['-t', '255'], [{ action: 'close', once: false }, { action: 'close' }]],
    ['--lock', ['--lock', '-p', '0'], [{ action: 'lock', seconds: 0, once: false }]],
  ])('gives way to %s, in front of its name and behind it', async (_, args, expected) => {
    const at = home(GATE)
    expect(await requests(at, 'gate', ...args)).toMatchObject(expected)
    expect(await requests(at, ...args, 'gate')).toMatchObject(expected)
  })

  it('does not wait for a port that nothing shows', async () => {
    const at = home('[profile.gate]\nservices = 22\nwait = true\n')
    expect(await at.client('gate', '-p', '53/udp', '--passes', '1')).toEqual({ code: 0, stdout: '', stderr: '' })
    expect(readFileSync(at.last, 'utf8')).not.toContain('wait')
  })

  it.each<[string, (at: Home) => string]>([
    ['an id', () => 'bob'],
    ['a path from the config’s folder', () => 'keys/bob.key'],
    ['a path from the home folder', () => '~/.config/knockturn/keys/bob.key'],
    ['a whole path', ({ keys }) => join(keys, 'bob.key')],
  ])('names its key by %s', async (_, key) => {
    const at = home('', ['alice', 'bob'])
    put(dirname(at.path), 'config.toml', `[profile.gate]\nservices = "22"\nkey = ${JSON.stringify(key(at))}\n`)
    const { stderr } = await at.client('gate', '--passes', '1', '-v')
    expect(stderr).toMatch(/with key bob$/m)
  })

  it('that is not there is told, with those that are', async () => {
    const at = home(`${GATE}[profile.home]\n`)
    const outcome = await at.client('gaet')
    expect(outcome).toMatchObject({ code: 2, stdout: '' })
    expect(fault(outcome).split('\n')).toEqual([
      `${at.path}: no profile "gaet" (there are: gate, home)`,
      'hint: to knock at a server of that name, run "knockclient -r gaet"',
    ])
  })

  it('that is not there is told, where there are none', async () => {
    const at = home()
    const outcome = await at.client('gate')
    expect([outcome.code, ...fault(outcome).split('\n')]).toEqual([
      2,
      `${at.path}: no profile "gate" (there are none)`,
      'hint: to make that profile, run "knockclient profile save gate"; to knock at a server of that name, run "knockclient -r gate"',
    ])
  })

  it('that is not there and is the name of a key is told how to use that', async () => {
    const outcome = await home().client('alice')
    expect(fault(outcome)).toMatch(/no profile "alice" .*\nhint: to knock with the key of that name, run "knockclient -k alice"$/)
  })

  it.each<[string, string, RegExp]>([
    ['an unknown entry', 'sevrices = "22"', /config\.toml:2: unknown entry "profile\.gate\.sevrices"$/],
    [
      'a faulty port',
      'services = [22, "443/sctp"]',
      /:2: "profile\.gate\.services" expected a port from 0 to 65535 such as 22 or 22\/tcp, got /,
    ],
    ['the host under the name of its option', 'server = "x"', /:2: "profile\.gate\.server" must be called "host"$/],
    ['the ports under the name of their option', 'port = 22', /:2: "profile\.gate\.port" must be called "services"$/],
    ['a faulty time', 'time = "1w"', /:2: "profile\.gate\.time" expected 0 \(until closed\).*, got "1w"$/],
    ['a text where a flag is', 'once = "yes"', /:2: "profile\.gate\.once" expected true or false, got "yes"$/],
    ['a flag where a text is', 'host = true', /:2: "profile\.gate\.host" expected a text.*, got true$/],
    ['a faulty wait', 'wait = 0', /:2: "profile\.gate\.wait" expected seconds from 1 to 3600, got "0"$/],
    ['a faulty choice', 'protocol = "sctp"', /:2: "profile\.gate\.protocol" expected tcp, udp, any, got "sctp"$/],
    ['no secret, and none is taken', 'secret = "x"', /:2: unknown entry/],
    ['no TOML', 'services = ', /config\.toml:2: .*\nhint: put text in quotes, as in server = "gate\.example"$/],
    ['a text that is too long', `host = "${'a'.repeat(5000)}"`, /:2: "profile\.gate\.host" expected at most 4096 characters/],
  ])('with %s is refused, with file and line', async (_, entry, message) => {
    const outcome = await home(`[profile.gate]\n${entry}\n`).client('gate', '--dry-run', '-p', '22')
    expect(outcome).toMatchObject({ code: 1, stdout: '' })
    expect(fault(outcome)).toMatch(message)
    expect(fault(outcome).replace(/\nhint: put text in quotes, as in [^\n]+$/, '')).not.toContain('\n')
  })

  it('is not read from a file that others may write', async () => {
    const at = home(GATE)
    chmodSync(at.path, 0o666)
    expect(fault(await at.client('gate'))).toBe(
      `${at.path}: users other than its owner may write it (mode 0666)\nhint: run "chmod go-w ${at.path}"`,
    )
    chmodSync(at.path, 0o644)
    expect(await requests(at, 'gate')).toHaveLength(2)
  })

  // Only root can give files away.
  it.runIf(process.getuid?.() === 0)('is not read by root from somebody else’s file', async () => {
    const at = home(GATE)
    chmodSync(at.path, 0o644)
    chownSync(at.path, 65_534, 65_534)
    expect(fault(await at.client('gate', '--dry-run'))).toBe(
      `${at.path}: expected owner 0 (you) or root, got 65534\nhint: run this as that user, with runuser(1), or with setpriv(1) for the daemon`,
    )
  })

  it('is not read from a file that is too large', async () => {
    expect(fault(await home(`${GATE}# ${'x'.repeat(70_000)}\n`).client('gate'))).toMatch(/expected at most 65536 bytes/)
  })

  it('with -i auto and nobody to ask is a fault of usage', async () => {
    expect(await home('[profile.gate]\nservices = 22\naddress = "auto"\n').client('gate')).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(
        /-i auto requires a server to ask for your address\nhint: name one with --address-url or --stun/,
      ),
    })
  })

  const AUTO = '[profile.gate]\nservices = 22\naddress = "auto"\nstun = "127.0.0.1:1"\n'

  it.each([
    ['a plain knock', ['gate']],
    ['connect', ['connect', 'gate', '22']],
    ['exec', ['exec', 'gate', '--', 'true']],
  ])('does not have %s ask a STUN server that it does not trust', async (_, words) => {
    const outcome = await home(AUTO).client(...words)
    expect(outcome).toMatchObject({ code: 2, stdout: '' })
    expect(fault(outcome)).toMatch(/^--stun requires --stun-trusted: .*\nhint: .* \(in a profile: stun_trusted = true\)$/)
  })

  it('may trust its STUN server, and no other', async () => {
    const at = home(`${AUTO}stun_trusted = true\n`)
    expect(fault(await at.client('gate'))).toMatch(/^127\.0\.0\.1 \(127\.0\.0\.1\) has not answered within 5 s/)
    expect(fault(await at.client('gate', '--stun', '127.0.0.1:2'))).toMatch(/^--stun requires --stun-trusted: /)
    const url = ['--address-url', 'https://127.0.0.1:1/']
    expect(fault(await at.client('gate', ...url))).toMatch(/^https:\/\/127\.0\.0\.1:1: cannot be asked/)
  })

  it.each([
    ['is up', '1', 3, 'the time of --wait was too short for it: give it more, or give your address with -i'],
    ['is not', '30', 1, undefined],
  ])(
    'has a STUN server that does not answer told by the exit status where the time of --wait %s',
    async (_, wait, code, hint) => {
      const outcome = await home(`${AUTO}stun_trusted = true\n`).client('gate', '--wait', wait)
      expect([outcome.code, /\nhint: (.*)\n/.exec(outcome.stderr)?.[1]]).toEqual([code, hint])
    },
  )

  it('need not trust a STUN server that is not asked', async () => {
    expect(await home(AUTO).client('gate', '-i', '198.51.100.7', '--passes', '1')).toMatchObject({ code: 0, stderr: '' })
  })
})

describe('--time-offset', () => {
  it('is of the moment, and not kept for --last', async () => {
    const at = home()
    expect((await at.client('-p', '22', '--passes', '1', '--time-offset', '60')).code).toBe(0)
    expect(readFileSync(at.last, 'utf8')).not.toContain('offset')
  })

  it('is not kept for --last from a profile, which keeps it itself', async () => {
    const at = home('[profile.gate]\nservices = 22\npasses = 1\ntime_offset = 60\n')
    const { stderr } = await at.client('gate', '-v')
    expect(stderr).toMatch(/: open port 22 .*, with key alice, by a clock that is corrected by 60 s$/m)
    expect(readFileSync(at.last, 'utf8')).not.toContain('offset')
  })

  it('is shown where connect shows its knock', async () => {
    const { stderr } = await home().client('connect', HERE, '1', '--wait', '1', '--time-offset', '-60', '-v')
    expect(stderr).toMatch(/knocking at .*, with key alice, by a clock that is corrected by -60 s$/m)
  })

  it.each([
    ['a plain knock', ['-p', '22', '--passes', '1']],
    ['one that is printed', ['-p', '22', '--dry-run']],
    ['connect', ['connect', HERE, '1', '--wait', '1']],
    ['connect that is printed', ['connect', HERE, '1', '--dry-run']],
  ])('is warned of beyond four windows of the key, by %s', async (_, words) => {
    const warning =
      /^knockclient: warning: --time-offset \d+ is more than 4 windows of the key alice \(120 s\): anyone who hears this knock .*\nhint: set the clock instead$/m
    const at = home()
    expect((await at.client(...words, '--time-offset', '121')).stderr).toMatch(warning)
    expect((await at.client(...words, '--time-offset', '120')).stderr).not.toMatch(warning)
  })

  it('is warned of by the windows of the key, which may be shorter', async () => {
    const at = home()
    const key = put(at.keys, 'short.key', keyText({ id: 'short', more: 'period = 10\n', grant: '' }))
    const words = ['-k', key, '-p', '22', '--dry-run']
    const { stderr } = await at.client(...words, '--time-offset', '41')
    expect([stderr, (await at.client(...words, '--time-offset', '40')).stderr]).toEqual([
      expect.stringMatching(/^knockclient: warning: --time-offset 41 is more than 4 windows of the key short \(40 s\): /),
      '',
    ])
  })
})

describe('profile save', () => {
  it('writes a config that knocks as it was told', async () => {
    const at = home()
    const { code, stdout } = await at.client(
      'profile',
      'save',
      'gate',
      '-p',
      '22/tcp,443',
      '-t',
      '15m',
      '--once',
      '--time-offset',
      '-90',
    )
    expect({ code, stdout }).toEqual({ code: 0, stdout: `saved in ${at.path}: "knockclient gate" knocks with these options\n` })
    expect(statSync(at.path).mode & 0o777).toBe(0o600)
    expect(await requests(at, 'gate')).toMatchObject([
      { port: 22, protocol: 'tcp', seconds: 900, once: true },
      { port: 443, protocol: 'any', seconds: 900, once: true },
    ])
  })

  const OTHERS = '# mine\n\n[profile.home] # here\nservices = [\n  22,\n]\n\n# of the office\n[profile.office]\nservices = 443\n'

  it('keeps what is there', async () => {
    const at = home(OTHERS)
    await at.client('profile', 'save', 'gate', '-p', '22')
    expect(at.config()).toBe(`${OTHERS}\n[profile.gate]\nservices = [ "22" ]\n`)
  })

  describe('of ports that the key, by its file, does not open', () => {
    /** A home whose only key says what it may open. */
    function limited() {
      const at = home()
      const path = join(at.keys, 'alice.key')
      writeFileSync(path, `services = ["22/tcp", "53/udp"]\n${readFileSync(path, 'utf8')}`)
      return at
    }
    const save = (at: Home, ...args: string[]) => at.client('profile', 'save', 'gate', ...args)

    it.each<[string[], string]>([
      [['-p', '22,443'], '443'],
      [['-p', '22', '--protocol', 'udp'], '22/udp'],
      [['-p', '80,443/tcp', '-k', 'alice'], '80, 443/tcp'],
    ])('warns, and saves them: %j', async (args, ports) => {
      const at = limited()
      const { code, stderr } = await save(at, ...args)
      expect([code, stderr.split('\n')]).toEqual([
        0,
        [`knockclient: warning: the key alice may not open ${ports}`, expect.stringMatching(/^hint: change the grant /), ''],
      ])
      expect(at.config()).toContain('[profile.gate]')
    })

    it.each<[string, string[]]>([
      ['of a port that it opens', ['-p', '22,53/udp']],
      ['of all ports', ['-p', '0']],
      ['of what closes', ['-p', '443', '--close']],
      ['without ports', ['-t', '15m']],
      ['of a key that is not there yet', ['-p', '443', '-k', 'bob']],
    ])('says nothing %s', async (_, args) => {
      expect(await save(limited(), ...args)).toMatchObject({ code: 0, stderr: '' })
    })

    it('says nothing where the key is under a passphrase, and asks for none', async () => {
      const at = limited()
      put(at.keys, 'alice.key.age', 'age-encryption.org/v1\n')
      rmSync(join(at.keys, 'alice.key'))
      expect(await save(at, '-p', '443')).toMatchObject({ code: 0, stderr: '' })
    })
  })

  it('refuses a name that is taken', async () => {
    const at = home(OTHERS)
    const outcome = await at.client('profile', 'save', 'home', '-p', '23')
    expect(outcome.code).toBe(1)
    expect(fault(outcome)).toMatch(/has a profile "home" already\nhint: choose another name, or replace it with --force$/)
    expect(at.config()).toBe(OTHERS)
  })

  it('puts with --force just that table in its place', async () => {
    const at = home(OTHERS)
    expect((await at.client('profile', 'save', 'home', '-p', '23', '--force')).code).toBe(0)
    expect(at.config()).toBe(
      '# mine\n\n[profile.home]\nservices = [ "23" ]\n\n# of the office\n[profile.office]\nservices = 443\n',
    )
  })

  it.each([
    ['an inline table', 'profile = { home = { services = 22 } }\n'],
    ['dotted keys', 'profile.home.services = 22\n'],
  ])('touches nothing where the profile is written as %s', async (_, config) => {
    const at = home(config)
    const outcome = await at.client('profile', 'save', 'home', '-p', '23', '--force')
    expect(outcome.code).toBe(1)
    expect(outcome.stderr).toMatch(
      /cannot add the profile "home" without changing the rest of the file\nhint: write it by hand: \[profile\.home\]; services = \[ "23" \]\n/,
    )
    expect(at.config()).toBe(config)
  })

  it('writes through a link, and leaves it one', async () => {
    const at = home()
    const target = put(at.folder, 'dotfile.toml', OTHERS)
    symlinkSync(target, at.path)
    expect((await at.client('profile', 'save', 'gate', '-p', '22')).code).toBe(0)
    expect([lstatSync(at.path).isSymbolicLink(), readFileSync(target, 'utf8')]).toEqual([
      true,
      expect.stringContaining('profile.gate'),
    ])
  })

  it.each<[string[], RegExp]>([
    [['gate'], /no options to save\nhint: give options such as -r and -p, or --last/],
    [['a/b', '-p', '22'], /<name> expected 1 to 32 letters/],
    [['profile', '-p', '22'], /"profile" is a command\nhint: choose another name/],
    [['gate', '-p', 'ssh'], /-p expected a port/],
    [['gate', '--dry-run'], /unknown option/],
    [['gate', '-p', '22', '--key-fd', '3'], /--key-fd cannot be saved: .*\nhint: name the key with -k/],
    [['gate', '-p', '22', '-i', 'auto', '--stun', 'a'], /--stun requires --stun-trusted: /],
    [['gate', '-p', '22', '--stun', 'a'], /--stun requires --stun-trusted: /],
    [['gate', '-p', '22', '--stun-trusted'], /--stun-trusted requires --stun/],
  ])('of %j is a fault of usage', async (args, message) => {
    const at = home()
    const { code, stderr } = await at.client('profile', 'save', ...args)
    expect([code, stderr]).toEqual([2, expect.stringMatching(message)])
    expect(existsSync(at.path)).toBe(false)
  })
})

describe('profile list', () => {
  it('lists them', async () => {
    const at = home('[profile.gate]\nhost = "gate.example"\nservices = ["22/tcp", 443]\n[profile.home]\nkey = "bob"\n')
    expect((await at.client('profile', 'list')).stdout).toBe(
      'PROFILE  HOST          SERVICES    KEY\ngate     gate.example  22/tcp,443  -\nhome     -             -           bob\n',
    )
  })

  it('says that there are none', async () => {
    const at = home()
    expect(await at.client('profile', 'list')).toEqual({ code: 0, stdout: `${at.path}: no profiles\n`, stderr: '' })
  })
})

describe('profile rm', () => {
  const THREE =
    "# mine\n\n[profile.home] # here\nservices = [\n  22,\n]\n\n# of the office\n[profile.office]\nservices = 443\n\n[profile.'gate']\nservices = 22\n# the end\n"

  it.each([
    ['home', "# mine\n\n# of the office\n[profile.office]\nservices = 443\n\n[profile.'gate']\nservices = 22\n# the end\n"],
    [
      'office',
      "# mine\n\n[profile.home] # here\nservices = [\n  22,\n]\n\n# of the office\n\n[profile.'gate']\nservices = 22\n# the end\n",
    ],
    [
      'gate',
      '# mine\n\n[profile.home] # here\nservices = [\n  22,\n]\n\n# of the office\n[profile.office]\nservices = 443\n\n# the end\n',
    ],
  ])('takes out that table and nothing else: %s', async (name, rest) => {
    const at = home(THREE)
    const outcome = await at.client('profile', 'rm', name)
    expect(outcome).toEqual({ code: 0, stdout: `removed from ${at.path}: ${name}\n`, stderr: '' })
    expect(at.config()).toBe(rest)
  })

  it.each(['', '# mine\n', THREE])('undoes what profile save has done to %j', async (config) => {
    const at = home(config)
    await at.client('profile', 'save', 'new', '-p', '22')
    await at.client('profile', 'rm', 'new')
    expect(at.config()).toBe(config)
  })

  const HELP = 'hint: see "knockclient profile rm --help"'
  it('is told that there is no such profile', async () => {
    const at = home(THREE)
    const outcome = await at.client('profile', 'rm', 'gaet')
    expect([outcome.code, fault(outcome)]).toEqual([2, `${at.path}: no profile "gaet" (there are: home, office, gate)\n${HELP}`])
  })

  it('is told that there is none', async () => {
    const at = home()
    const outcome = await at.client('profile', 'rm', 'gate')
    expect([outcome.code, fault(outcome)]).toEqual([2, `${at.path}: no profile "gate" (there are none)\n${HELP}`])
    expect(existsSync(at.path)).toBe(false)
  })

  it.each([
    ['an inline table', 'profile = { home = { services = 22 } }\n'],
    ['dotted keys', 'profile.home.services = 22\n'],
    ['a text that looks like another', '[profile.home]\nhost = """\n[profile.office]\n"""\n'],
  ])('touches nothing where the profile is written as %s', async (_, config) => {
    const at = home(config)
    const outcome = await at.client('profile', 'rm', 'home')
    expect([outcome.code, fault(outcome)]).toEqual([
      1,
      expect.stringMatching(/cannot remove the profile "home" without changing the rest of the file\nhint: remove it by hand$/),
    ])
    expect(at.config()).toBe(config)
  })

  it('writes through a link, and leaves it one', async () => {
    const at = home()
    const target = put(at.folder, 'dotfile.toml', THREE)
    symlinkSync(target, at.path)
    expect((await at.client('profile', 'rm', 'gate')).code).toBe(0)
    expect([lstatSync(at.path).isSymbolicLink(), readFileSync(target, 'utf8')]).toEqual([
      true,
      expect.not.stringContaining('gate'),
    ])
  })
})

describe('--last', () => {
  it('is the last knock, with its key and without its secret', async () => {
    const at = home()
    expect((await at.client('-p', '22,443', '-t', '2', '-i', '198.51.100.7', '--passes', '1', '--quiet')).code).toBe(0)
    expect(statSync(at.last).mode & 0o777).toBe(0o600)
    expect(readdirSync(dirname(at.last))).toEqual(['last.toml'])
    const kept = readFileSync(at.last, 'utf8')
    expect(kept).not.toContain(secretOf(3))
    expect(kept).toContain(`key = ${JSON.stringify(join(at.keys, 'alice.key'))}`)
    put(at.keys, 'bob.key', keyText({ id: 'bob', secret: secretOf(9), grant: '' }))
    expect(await requests(at, '--last')).toMatchObject([
      { port: 22, seconds: 120, address: '198.51.100.7' },
      { port: 443, seconds: 120 },
    ])
  })

  it('gives way to the command line', async () => {
    const at = home()
    await at.client('-p', '22', '--passes', '1')
    expect(await requests(at, '--last', '-p', '443')).toMatchObject([{ port: 443 }])
  })

  it('is what a profile has said', async () => {
    const at = home('[profile.gate]\nservices = 22\npasses = 1\n')
    await at.client('gate', '-t', '3')
    expect(await requests(at, '--last')).toMatchObject([{ port: 22, seconds: 180 }])
  })

  it('is saved as a profile', async () => {
    const at = home()
    await at.client('-p', '22', '-t', '3', '--passes', '1')
    expect((await at.client('profile', 'save', 'gate', '--last', '-t', '4')).code).toBe(0)
    expect(await requests(at, 'gate')).toMatchObject([{ port: 22, seconds: 240 }])
  })

  it('that asked a STUN server without trust, as older clients kept it, is neither repeated nor saved', async () => {
    const at = home()
    mkdirSync(dirname(at.last), { recursive: true })
    put(dirname(at.last), 'last.toml', '[profile.last]\nservices = 22\naddress = "auto"\nstun = "127.0.0.1:1"\n')
    for (const words of [['--last'], ['profile', 'save', 'gate', '--last']]) {
      const outcome = await at.client(...words)
      expect([outcome.code, fault(outcome)]).toEqual([2, expect.stringMatching(/^--stun requires --stun-trusted: /)])
    }
    expect(existsSync(at.path)).toBe(false)
    expect(await at.client('profile', 'save', 'gate', '--last', '--stun-trusted')).toMatchObject({ code: 0 })
    expect(at.config()).toContain('stun_trusted = true')
  })

  it('is told where there is none', async () => {
    const at = home()
    const outcome = await at.client('--last')
    expect([outcome.code, fault(outcome)]).toEqual([1, `${at.last}: there is no last knock\nhint: knock once without --last`])
  })

  it.each<[string, string[]]>([
    ['that was not sent', ['-p', '22', '--dry-run']],
    ['that opened nothing', ['-p', '1', '--wait', '1']],
    ['that was called wrongly', ['-p', '22', '--close', '--once']],
    ['that closed', ['-p', '22', '--close', '--passes', '1']],
  ])('is no knock %s', async (_, args) => {
    const at = home()
    await at.client(...args)
    expect(existsSync(at.last)).toBe(false)
  })

  it('is nothing to complain of where it cannot be kept, but with -v', async () => {
    const at = home()
    writeFileSync(join(at.folder, '.local'), '')
    expect(await at.client('-p', '22', '--passes', '1')).toEqual({ code: 0, stdout: '', stderr: '' })
    expect((await at.client('-p', '22', '--passes', '1', '-v')).stderr).toMatch(
      /not saved for --last: .*last\.toml: cannot be written/,
    )
  })

  it('is no knock by a key from a descriptor', async () => {
    const at = home()
    const argv = [programPath('knockclient'), '--key-fd', '0', '-p', '22', '--passes', '1']
    const input = readFileSync(join(at.keys, 'alice.key'))
    expect(spawnSync(process.execPath, argv, { input, env: environment(at.env), encoding: 'utf8' })).toMatchObject({ status: 0 })
    expect(existsSync(at.last)).toBe(false)
  })

  it('is not kept where no config of ours is, as on a borrowed machine', async () => {
    const at = home()
    const key = put(at.folder, 'stick.key', readFileSync(join(at.keys, 'alice.key'), 'utf8'))
    rmSync(join(at.folder, '.config'), { recursive: true })
    expect((await at.client('-k', key, '-p', '22', '--passes', '1')).code).toBe(0)
    expect(existsSync(at.last)).toBe(false)
  })

  it('and a profile is a fault of usage', async () => {
    expect(await home().client('gate', '--last')).toMatchObject({ code: 2 })
  })
})

describe('several ports', () => {
  const servers: Server[] = []
  afterAll(() => {
    for (const server of servers) server.close()
  })
  async function listen(): Promise<number> {
    const server = createServer((socket) => socket.on('error', () => {}).end()).listen(0, HERE)
    servers.push(server)
    await once(server, 'listening')
    return (server.address() as AddressInfo).port
  }

  it('are all waited for, and each is told of at once', async () => {
    const [one, other] = [await listen(), await listen()]
    const { stderr } = await home().client('-p', `${one},${other}`, '--wait', '-v')
    for (const port of [one, other]) expect(stderr).toMatch(new RegExp(`${HERE} port ${port} (was already|is) open: `))
  })

  it('are told of at the end in one line, those that are open before those that refuse', async () => {
    const port = await listen()
    const { code, stderr } = await home().client('-p', `1,${port}`, '--wait', '1')
    expect([code, stderr.split('\n')[0]]).toEqual([
      3,
      expect.stringMatching(
        new RegExp(`^knockclient: error: ${HERE} port ${port} (was already|is) open; port 1 refuses connections$`),
      ),
    ])
  })
})

describe('a server that is asked by HTTPS', () => {
  /** What the service says, by path. */
  const PAGES: Record<string, [number, Record<string, string>, string]> = {
    '/address': [200, {}, '198.51.100.7\n'],
    '/moved': [302, { location: '/address' }, '198.51.100.7\n'],
    '/page': [200, {}, '<html>198.51.100.7</html>'],
    '/long': [200, {}, '1'.repeat(100_000)],
    '/other': [200, {}, '2001:db8::7'],
    '/control': [200, {}, '\u001b[2J'],
  }
  let port: number
  let certificate: string
  /** Seconds by which the server's Date is ahead. */
  let lie = 0
  const folder = scratch()
  const server = (() => {
    const files = ['-keyout', join(folder, 'key.pem'), '-out', join(folder, 'cert.pem')]
    const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1']
    spawnSync('openssl', [
      'req',
      '-x509',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:prime256v1',
      '-nodes',
      '-days',
      '1',
      ...files,
      ...subject,
    ])
    certificate = join(folder, 'cert.pem')
    return createHttps(
      { key: readFileSync(join(folder, 'key.pem')), cert: readFileSync(certificate) },
      ({ url = '' }, response) => {
        if (url === '/silent') return
        const [status, headers, text] = PAGES[url] ?? [404, {}, '']
        // HEAD: somebody asks for the time.
        if (lie !== 0) response.setHeader('date', new Date(Date.now() + lie * 1000).toUTCString())
        response.writeHead(status, headers).end(text)
      },
    )
  })()
  beforeAll(async () => {
    server.listen(0, HERE)
    await once(server, 'listening')
    port = (server.address() as AddressInfo).port
  })
  afterAll(() => void server.close())

  const ask = (path: string, env: NodeJS.ProcessEnv = { NODE_EXTRA_CA_CERTS: certificate }) => {
    const at = home()
    const args = ['-p', '22', '-i', 'auto', '--address-url', `https://${HERE}:${port}${path}`, '--passes', '1', '-v']
    return run('knockclient', args, { env: { ...at.env, ...env } })
  }

  it('knocks for the address that is answered', async () => {
    expect(await ask('/address')).toMatchObject({ code: 0, stderr: expect.stringContaining('open port 22 for 198.51.100.7, ') })
  })

  it.each([
    ['a redirect', '/moved', /expected the status 200, got 302$/],
    ['a status of failure', '/none', /expected the status 200, got 404$/],
    ['a page', '/page', /expected this machine's IPv4 address and nothing else, got "<html>198/],
    ['a flood', '/long', /expected at most 1024 bytes, got more$/],
    ['an address of the other family', '/other', /expected this machine's IPv4 address and nothing else, got "2001:db8::7"$/],
    ['silence', '/silent', /no answer within 5 s$/],
    ['control characters', '/control', /got "\\u001b\[2J"$/],
  ])('refuses %s', async (_, path, message) => {
    const outcome = await ask(path)
    expect([outcome.code, fault(outcome)]).toEqual([1, expect.stringMatching(message)])
  })

  it('checks the certificate', async () => {
    const outcome = await ask('/address', {})
    expect([outcome.code, fault(outcome)]).toEqual([1, expect.stringMatching(/cannot be asked: .*certificate/)])
  })

  it('checks it whatever the environment says', async () => {
    const outcome = await ask('/address', { NODE_TLS_REJECT_UNAUTHORIZED: '0' })
    expect([outcome.code, fault(outcome)]).toEqual([1, expect.stringMatching(/cannot be asked: .*certificate/)])
  })

  it('is a server that can be asked for the time, too, when nothing has opened', async () => {
    const at = home()
    const args = ['-p', '1', '--wait', '1', '--time-source', `https://${HERE}:${port}`]
    const { code, stderr } = await run('knockclient', args, { env: { ...at.env, NODE_EXTRA_CA_CERTS: certificate } })
    expect([code, stderr]).toEqual([3, expect.stringMatching(/this clock is right to \d+\.\d s, according to https:/)])
  })

  it('leads nobody away from the time in several small steps', async () => {
    const at = home()
    let [offset, steps] = [0, 0]
    try {
      for (; steps < 10; steps++) {
        lie = offset + 75
        const args = ['-p', '1', '--wait', '1', '--time-source', `https://${HERE}:${port}`, '--time-offset', String(offset)]
        const { stderr } = await run('knockclient', args, { env: { ...at.env, NODE_EXTRA_CA_CERTS: certificate } })
        const advised = Number(/ or knock with --time-offset (\d+)/.exec(stderr)?.[1] ?? offset)
        if (advised === offset) break
        offset = advised
      }
    } finally {
      lie = 0
    }
    expect([steps, offset <= 4 * 30]).toEqual([1, true])
  })

  it('is not asked beside another address than auto, where a profile names it', async () => {
    const at = home('[profile.gate]\nservices = 22\naddress = "auto"\naddress_url = "https://127.0.0.1:1/"\n')
    const outcome = await at.client('gate', '-i', '198.51.100.7', '--passes', '1')
    expect(outcome).toEqual({ code: 0, stdout: '', stderr: '' })
  })
})

describe.each(['knockclient', 'knockturn'] as const)('completion of %s', (program) => {
  it.each(['bash', 'zsh', 'fish'])('is a script that %s reads', async (shell) => {
    const { stdout } = await run(program, ['completion', shell])
    expect(spawnSync(shell, ['-n', put(scratch(), 'completion', stdout)], { encoding: 'utf8' })).toMatchObject({
      status: 0,
      stderr: '',
    })
  })

  it('is of no other shell', async () => {
    expect(await run(program, ['completion', 'nu'])).toMatchObject({ code: 2, stdout: '' })
  })
})

describe('completion', () => {
  const at = home('[profile.gate]\nservices = 22\n[profile.office]\nservices = 22\n', ['alice', 'bob'])
  const BIN = dirname(programPath('knockclient'))
  const BASH = `source <(PROGRAM completion bash); COMP_WORDS=("$@"); COMP_CWORD=$(( $# - 1 )); _PROGRAM; printf '%s\\n' "\${COMPREPLY[@]}"`
  // What is completed is asked of the shell's own functions, which are stood in for: they work in a line editor only.
  const ZSH = `compdef() { :; }; compadd() { shift; print -rl -- "$@"; }; _files() { print FILES; }
source <(PROGRAM completion zsh); words=("$@"); CURRENT=$#; _PROGRAM`
  // It completes a line by itself, with what it says of each word behind a tab.
  const FISH = 'PROGRAM completion fish | source; complete -C "$argv[2..-1]"'
  const SHELLS = {
    bash: { script: BASH, flags: ['--norc', '-c'] },
    zsh: { script: ZSH, flags: ['-f', '-c'] },
    fish: { script: FISH, flags: ['--no-config', '-c'] },
  }
  function complete(shell: keyof typeof SHELLS, ...words: string[]): string[] {
    const script = SHELLS[shell].script.replaceAll('PROGRAM', words[0])
    const env = environment({ ...at.env, PATH: `${BIN}:${process.env.PATH}` })
    const { stdout, stderr } = spawnSync(shell, [...SHELLS[shell].flags, script, shell, ...words], {
      encoding: 'utf8',
      env,
      cwd: at.folder,
    })
    expect(stderr).toBe('')
    const found = stdout.split('\n').filter(Boolean)
    // zsh chooses by itself what begins as the word does.
    return shell === 'zsh' ? found.filter((word) => word === 'FILES' || word.startsWith(words.at(-1) ?? '')) : found
  }

  describe.each(['bash', 'zsh', 'fish'] as const)('in %s', (shell) => {
    it.each<[string[], string[]]>([
      [['knockclient', '--pro'], ['--protocol']],
      [
        ['knockclient', '--protocol', ''],
        ['tcp', 'udp', 'any'],
      ],
      [['knockclient', '--protocol', 'u'], ['udp']],
      [['knockclient', 'g'], ['gate']],
      [['knockclient', '-p', '22', 'o'], ['office']],
      [['knockclient', '-p', ''], []],
      [['knockclient', '-p', 'profile', 'pro'], ['profile']],
      [
        ['knockclient', 'profile', ''],
        ['save', 'list', 'rm', '--help'],
      ],
      [['knockclient', 'profile', 'rm', 'o'], ['office']],
      [['knockclient', '--udp', 'profile', 'save', 'x', '--las'], ['--last']],
      [
        ['knockclient', 'completion', ''],
        ['bash', 'zsh', 'fish', '--help'],
      ],
      [['knockturn', 'key', 'n'], ['new']],
      [['knockturn', 'key', 'new', 'x', '--require'], ['--require-address']],
    ])('%j may go on with %j', (words, found) => {
      // fish has an order of its own.
      expect(complete(shell, ...words).sort()).toEqual(found.toSorted())
    })

    it('a key goes on with the ids of the keyring, or a path', () => {
      expect(complete(shell, 'knockclient', '-k', 'b')).toContain('bob')
      const paths = complete(shell, 'knockclient', '-k', '')
      expect(paths).toEqual(expect.arrayContaining(['alice', 'bob']))
    })
  })

  it.each(['bash', 'zsh', 'fish'] as const)('in %s, no name of a file becomes a command', (shell) => {
    put(at.keys, 'bob$(touch pwned).key', '')
    put(at.keys, 'bob;x.key', '')
    const found = complete(shell, 'knockclient', '-k', 'bo').filter((word) => word !== 'FILES')
    rmSync(join(at.keys, 'bob$(touch pwned).key'))
    rmSync(join(at.keys, 'bob;x.key'))
    expect(found).toEqual(['bob'])
  })

  it('in bash, connect goes on with profiles and keys', () => {
    put(at.keys, 'stick.key.age', '')
    expect(complete('bash', 'knockclient', 'connect', '')).toEqual(expect.arrayContaining(['gate', 'office', 'alice']))
    expect(complete('bash', 'knockclient', 'exec', 'sti')).toEqual(['stick'])
    rmSync(join(at.keys, 'stick.key.age'))
  })

  it.each(['bash', 'fish'] as const)('in %s, a file goes on with a path', (shell) => {
    put(at.folder, 'some file.toml', '')
    expect(complete(shell, 'knockturn', 'firewall', 'install', '--config', 'so')).toEqual(['some file.toml'])
  })

  it('in zsh, a file in its fpath completes the first time that it is asked', () => {
    const folder = scratch()
    put(folder, '_knockclient', spawnSync(programPath('knockclient'), ['completion', 'zsh'], { encoding: 'utf8' }).stdout)
    const script = `compadd() { shift; print -rl -- "$@"; }; fpath=(${folder}); autoload -Uz _knockclient; words=(knockclient completion ''); CURRENT=3; _knockclient`
    const { stdout } = spawnSync('zsh', ['-f', '-c', script], { encoding: 'utf8' })
    expect(stdout.split('\n')).toEqual(['bash', 'zsh', 'fish', '--help', ''])
  })
})

describe.each(['darwin', 'win32', 'freebsd'])('where nothing of Linux is there, as on %s', (platform) => {
  /** Takes away what only Linux has, and the programs that only it has. */
  const preload = put(
    scratch(),
    'bare.cjs',
    `
const fs = require('node:fs')
const isLinux = (path) => /^\\/(proc|sys|etc\\/knockturn)(\\/|$)/.test(String(path))
const missing = (path) => Object.assign(new Error('ENOENT: no such file or directory, open \\'' + path + '\\''), { code: 'ENOENT' })
for (const name of Object.keys(fs).filter((name) => name.endsWith('Sync'))) {
  const real = fs[name]
  fs[name] = function (path, ...rest) {
    if (isLinux(path)) throw missing(path)
    return real.call(this, path, ...rest)
  }
}
for (const name of Object.keys(fs.promises)) {
  const real = fs.promises[name]
  if (typeof real === 'function')
    fs.promises[name] = function (path, ...rest) {
      return isLinux(path) ? Promise.reject(missing(path)) : real.call(this, path, ...rest)
    }
}
const children = require('node:child_process')
for (const name of ['spawn', 'spawnSync', 'exec', 'execSync', 'execFile', 'execFileSync', 'fork'])
  children[name] = (command) => {
    fs.writeSync(2, 'started ' + command + '\\n')
    throw missing(command)
  }
Object.defineProperty(process, 'platform', { value: '${platform}' })
if ('${platform}' === 'win32')
  for (const name of ['getuid', 'geteuid', 'getgid', 'getegid', 'getgroups', 'setuid', 'seteuid', 'setgid', 'setegid', 'setgroups'])
    process[name] = undefined
`,
  )
  const CLIENT = fileURLToPath(new URL('../../dist/knockclient.cjs', import.meta.url))
  /** On Windows, the same folders by its own names. */
  const envOf = ({ env, folder }: Home) =>
    environment({ ...env, APPDATA: join(folder, '.config'), LOCALAPPDATA: join(folder, '.local', 'state') })
  const bare = (at: Home, ...args: string[]) =>
    spawnSync(process.execPath, ['--require', preload, CLIENT, ...args], { encoding: 'utf8', env: envOf(at), cwd: at.folder })

  it('the client knocks without a word of complaint', async () => {
    const at = home('[profile.gate]\nservices = ["22", "443/tcp"]\n')
    const server = createServer((socket) => socket.on('error', () => {}).end()).listen(0, HERE)
    await once(server, 'listening')
    const { port } = server.address() as AddressInfo
    expect(bare(at, '-p', '22', '--passes', '1')).toMatchObject({ status: 0, stdout: '', stderr: '' })
    expect(bare(at, 'gate', '--udp')).toMatchObject({ status: 0, stdout: '', stderr: '' })
    expect(bare(at, '--last', '-p', String(port), '--wait')).toMatchObject({ status: 0, stdout: '', stderr: '' })
    expect(bare(at, 'profile', 'save', 'last', '--last')).toMatchObject({ status: 0, stderr: '' })
    server.close()
  })

  it.each<[string, string[], string, string]>([
    ['a datagram', ['-p', '22', '--datagram', '53', '--passes', '1'], '', ''],
    ['a passcode', ['--passcode', '-r', HERE, '--passes', '1'], '0417\n12345678\n', ''],
    ['profile list', ['profile', 'list'], '', 'PROFILE  HOST  SERVICES  KEY\ngate     -     22        -\n'],
  ])('so does %s', (_, args, input, stdout) => {
    const at = home('[profile.gate]\nservices = 22\n')
    const argv = ['--require', preload, CLIENT, ...args]
    const ran = spawnSync(process.execPath, argv, { input, encoding: 'utf8', env: envOf(at) })
    expect(ran).toMatchObject({ status: 0, stdout, stderr: '' })
  })

  it('a key under a passphrase is opened by it', async () => {
    const at = home()
    const sealed = await sealText(readFileSync(join(at.keys, 'alice.key'), 'utf8'), 'correct horse battery')
    rmSync(join(at.keys, 'alice.key'))
    put(at.keys, 'alice.key.age', sealed)
    const argv = ['--require', preload, CLIENT, '-p', '22', '--passes', '1']
    const ran = spawnSync(process.execPath, argv, {
      input: 'correct horse battery\n',
      encoding: 'utf8',
      env: envOf(at),
    })
    expect(ran).toMatchObject({ status: 0, stdout: '', stderr: '' })
  })

  it('a key is added', () => {
    const at = home('', [])
    put(at.folder, 'alice.key', keyText({ more: `host = "${HERE}"\n`, grant: '' }))
    expect(bare(at, 'add', 'alice.key', '--no-knock', '--ssh-config')).toMatchObject({ status: 0, stderr: '' })
    expect([existsSync(join(at.keys, 'alice.key')), at.config()]).toEqual([true, expect.stringContaining('key = "alice"')])
    expect(readdirSync(join(at.folder, '.ssh')).sort()).toEqual(['config', 'knockturn.conf'])
  })

  it('connect says why nothing has opened', () => {
    const { status, stderr } = bare(home(), 'connect', HERE, '1', '--wait', '1')
    expect([status, stderr]).toEqual([3, expect.stringMatching(/^knockclient: error: .*\nknockclient: note: .*\nhint: .*\n$/)])
  })
})
