import { once } from 'node:events'
import { chmodSync, mkdirSync } from 'node:fs'
import { createServer, type Server } from 'node:net'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parseKeyFile } from '../../../src/keys/key-file'
import { windowAt } from '../../../src/protocol/key'
import { compose } from '../../../src/protocol/knock'
import type { Request } from '../../../src/protocol/request'
import { keyText, put, scratch, secretOf } from '../../system/scratch'
import { run } from '../programs'

const HERE = '127.0.0.1'
/** Keys of the client, by their ids: the host, and a number for the secret. */
const KEYS = { alice: ['gate.example', 1], bob: ['gate.example', 2], carol: ['Other.Example', 3], here: [HERE, 4] } as const
type Id = keyof typeof KEYS

/** A pool below the ports that this machine gives out by itself, and windows that don't turn within a test. */
const textOf = (id: Id) =>
  keyText({
    id,
    secret: secretOf(KEYS[id][1]),
    more: `host = "${KEYS[id][0]}"\nperiod = 300\npool = "10000-22000"\n`,
    grant: '',
  })

/** Rendezvous ports tell a key: those of the window, and of the next. */
function rendezvous(id: Id) {
  const { value } = parseKeyFile('', textOf(id))
  if (!value) throw new Error('the test’s own key is faulty')
  const request: Request = { action: 'open', protocol: 'tcp', once: true, salt: 0, port: 22, seconds: 30, address: '0.0.0.0' }
  const now = windowAt(Date.now() / 1000, 300)
  return [now, now + 1].map((window) => compose(value.key, window, request).slice(0, 8))
}

/** An environment with these keys. */
function keyring(...ids: Id[]) {
  const config = scratch()
  const keys = join(config, 'knockturn', 'keys')
  mkdirSync(keys, { recursive: true, mode: 0o700 })
  for (const id of ids) put(keys, `${id}.key`, textOf(id))
  return { keys, env: { XDG_CONFIG_HOME: config } }
}

describe('the key for a host', () => {
  const dry = (host: string, env: NodeJS.ProcessEnv) => run('knockclient', ['connect', host, '22', '--dry-run'], { env })
  const used = async (host: string, env: NodeJS.ProcessEnv) => {
    const { code, stdout, stderr } = await dry(host, env)
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    return stdout.trimEnd().split('\n').slice(0, 8).map(Number)
  }

  it.each<[string, string, Id[], Id]>([
    ['the only one, whatever its host', 'any.example', ['alice'], 'alice'],
    ['that whose host it is', 'gate.example', ['alice', 'carol'], 'alice'],
    ['that whose host it is, in any case', 'OTHER.example', ['alice', 'carol'], 'carol'],
    ['that whose host it is, with a final dot', 'gate.example.', ['alice', 'carol'], 'alice'],
    ['that which is named so', 'carol', ['alice', 'bob', 'carol'], 'carol'],
  ])('is %s', async (_, host, ids, id) => {
    expect(rendezvous(id)).toContainEqual(await used(host, keyring(...ids).env))
  })

  it('is the one of -k', async () => {
    const { env } = keyring('alice', 'bob')
    const { stdout } = await run('knockclient', ['connect', 'gate.example', '22', '-k', 'bob', '--dry-run'], { env })
    expect(rendezvous('bob')).toContainEqual(stdout.split('\n').slice(0, 8).map(Number))
  })

  it('is found beside one that is faulty', async () => {
    const { env, keys } = keyring('alice', 'carol')
    put(keys, 'bad.key', 'id = 1')
    expect(rendezvous('alice')).toContainEqual(await used('gate.example', env))
  })

  it('may be the one that is faulty', async () => {
    const { env, keys } = keyring('alice', 'carol')
    chmodSync(join(keys, 'alice.key'), 0o644)
    const { code, stderr } = await dry('gate.example', env)
    expect(code).toBe(1)
    expect(stderr).toMatch(/^knockclient: error: \S+alice\.key: .*\nhint: run "chmod 600 .*\n$/)
  })

  it.each<[string, Id[], string]>([
    ['gate.example', ['alice', 'bob', 'carol'], 'alice, bob'],
    ['any.example', ['alice', 'carol'], 'alice, carol'],
  ])('must be said for %s where there are %j', async (host, ids, got) => {
    const { env, keys } = keyring(...ids)
    expect(await dry(host, env)).toEqual({
      code: 1,
      stdout: '',
      stderr: `knockclient: error: ${keys}: ${got.includes('carol') ? 'no key' : 'several keys'} for ${host} (there are: ${got})\nhint: choose one with -k\n`,
    })
  })
})

it('the name of a key that reads like a host’s does not stand for another host', async () => {
  const { env, keys } = keyring('alice', 'bob')
  const named = keyText({ id: 'prod.invalid', secret: secretOf(9), more: `host = "${HERE}"\npool = "10000-22000"\n`, grant: '' })
  put(keys, 'prod.invalid.key', named)
  const { code, stderr } = await run('knockclient', ['connect', 'prod.invalid', '1', '--wait', '1'], { env })
  expect([code, stderr]).toEqual([
    2,
    expect.stringMatching(
      /^knockclient: error: the key prod\.invalid is for 127\.0\.0\.1, and it is not known whether prod\.invalid is that host/,
    ),
  ])
})

it.each([
  ['that nobody knows', '', 'unknown entry "a"', 'unknown entry "a"'],
  ['below one that is a text', 'host.', '"id" is missing', '"host" expected a string, got …'],
])('deep keys in a key’s file, %s, are told in one line, by the client and by key list', async (_, above, first, told) => {
  const folder = scratch()
  const path = put(folder, 'deep.key', `${above}${Array(30_000).fill('a').join('.')} = 1\n`)
  const [client, list] = [
    await run('knockclient', ['-k', path, '-p', '22', '--dry-run']),
    await run('knockturn', ['key', 'list', '--keys', folder]),
  ]
  expect([client.code, client.stderr]).toEqual([1, `knockclient: error: ${path}:1: ${first}\n`])
  expect([list.code, list.stderr.split('\n')]).toEqual([1, expect.arrayContaining([`knockturn: error: ${path}:1: ${told}`])])
})

describe('a profile', () => {
  const withProfile = (text: string, ...ids: Id[]) => {
    const { env } = keyring(...ids)
    put(join(env.XDG_CONFIG_HOME, 'knockturn'), 'config.toml', text)
    return env
  }
  const gate =
    '[profile.gate]\nhost = "gate.example"\nkey = "carol"\nservices = ["53/udp", "443/tcp"]\nwait = true\ntime = "9m"\n'

  it('gives connect its key', async () => {
    const { stdout } = await run('knockclient', ['connect', 'gate', '22', '--dry-run'], {
      env: withProfile(gate, 'alice', 'carol'),
    })
    expect(rendezvous('carol')).toContainEqual(stdout.split('\n').slice(0, 8).map(Number))
  })

  it('gives way to the command line', async () => {
    const args = ['connect', 'gate', '22', '-k', 'alice', '--dry-run']
    const { stdout } = await run('knockclient', args, { env: withProfile(gate, 'alice', 'carol') })
    expect(rendezvous('alice')).toContainEqual(stdout.split('\n').slice(0, 8).map(Number))
  })

  it('gives exec its first TCP service, and its host', async () => {
    const env = withProfile(gate.replace('gate.example', HERE).replace('carol', 'here'), 'here')
    const { stderr } = await run('knockclient', ['exec', 'gate', '-v', '--wait', '1', '--', 'true'], { env })
    expect(stderr).toContain(`knocking at ${HERE} for port 443, with key here`)
  })

  it.each([
    ['connect', ['connect', 'gate', '1', '--wait', '1', '-v'], 'for port 1, with key here'],
    ['exec', ['exec', 'gate', '--wait', '1', '-v', '--', 'true'], 'for port 1, with key here'],
    ['a plain knock', ['gate', '--wait', '1', '-v'], 'open port 1 for this address, 5 minutes, with key here'],
  ])("that names no host stands for its key's, in %s", async (_, words, what) => {
    const env = withProfile('[profile.gate]\nkey = "here"\nservices = "1"\n', 'alice', 'here')
    const { stderr } = await run('knockclient', words, { env })
    expect(stderr).toContain(`knocking at ${HERE}`)
    expect(stderr).toContain(what)
  })

  it('gives exec no service that a connection cannot be made to', async () => {
    const env = withProfile('[profile.gate]\nservices = "53/udp,22"\nprotocol = "udp"\n', 'here')
    const { code, stderr } = await run('knockclient', ['exec', 'gate', '--', 'true'], { env })
    expect([code, stderr]).toEqual([2, expect.stringContaining('no port to open: -p is missing')])
  })

  it.each([
    ['a plain knock', ['gate', '-p', '22']],
    ['connect', ['connect', 'gate', '22']],
  ])('of %s leaves its key aside where --key-fd gives one', async (_, words) => {
    const args = [...words, '--key-fd', '0', '--dry-run']
    const { stdout } = await run('knockclient', args, { env: withProfile(gate, 'carol'), input: textOf('alice') })
    expect(rendezvous('alice')).toContainEqual(stdout.split('\n').slice(0, 8).map(Number))
  })

  it('gives connect the time for which it waits', async () => {
    const env = withProfile(`[profile.gate]\nhost = "${HERE}"\nwait = 1\n`, 'here')
    const { code, stderr } = await run('knockclient', ['connect', 'gate', '1', '--quiet'], { env })
    expect([code, stderr]).toEqual([3, expect.stringContaining('port 1 refuses connections')])
  })

  it('is told by its name where it asks what only a plain knock may', async () => {
    const env = withProfile('[profile.gate]\ntime = 0\n', 'alice')
    const { code, stderr } = await run('knockclient', ['connect', 'gate', '22', '--dry-run'], { env })
    expect({ code, stderr }).toEqual({
      code: 1,
      stderr: expect.stringMatching(/config\.toml: profile "gate": -t expected 1 to 254 minutes, [^\n]*, got "0"\n$/),
    })
  })

  it('is told with file and line where it is faulty', async () => {
    const env = withProfile('[profile.gate]\nhos = "gate.example"\n', 'alice')
    const { code, stderr } = await run('knockclient', ['connect', 'gate', '22', '--dry-run'], { env })
    expect({ code, stderr }).toEqual({
      code: 1,
      stderr: expect.stringMatching(/^knockclient: error: \S+config\.toml:2: unknown entry "profile\.gate\.hos"[^\n]*\n$/),
    })
  })
})

describe('--dry-run with --datagram', () => {
  it('prints its port and its bytes, as a plain knock does', async () => {
    const { env } = keyring('alice')
    const { stdout } = await run('knockclient', ['connect', 'gate.example', '22', '--datagram', '443', '--dry-run'], { env })
    expect(stdout).toMatch(/^443 [0-9a-f]{72}\n$/)
  })
})

describe('a copy that says what its key may open', () => {
  /** A keyring in which a copy says so. */
  function hinted(hints: string) {
    const { keys, env } = keyring()
    put(keys, 'here.key', hints + textOf('here'))
    return env
  }
  const HINTS = 'services = ["22/tcp", "53/udp"]\nmax = "20s"\n'

  it.each([
    ['connect', ['connect', 'here', '443']],
    ['connect, by UDP’s port', ['connect', 'here', '53']],
    ['exec', ['exec', 'here', '-p', '443', '--', 'echo', 'run']],
  ])('has %s refuse another before anything is sent, but with --force', async (_, words) => {
    const env = hinted(HINTS)
    const { code, stdout, stderr } = await run('knockclient', words, { env })
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
    expect(stderr).toMatch(
      /^knockclient: error: the key here may not open \d+\/tcp: it opens 22\/tcp, 53\/udp\nhint: .* --force\n$/,
    )
    const forced = words.toSpliced(1, 0, '--force', '--dry-run')
    expect(await run('knockclient', forced, { env })).toMatchObject({ code: 0, stderr: '' })
  })

  it('has neither ask for longer than it may, unless somebody says so', async () => {
    const env = hinted(HINTS)
    for (const words of [
      ['connect', 'here', '22'],
      ['exec', 'here', '--', 'true'],
    ]) {
      expect(await run('knockclient', words.toSpliced(1, 0, '--dry-run'), { env })).toMatchObject({ code: 0, stderr: '' })
      const { code, stderr } = await run('knockclient', words.toSpliced(1, 0, '-t', '1m'), { env })
      expect([code, stderr]).toEqual([
        2,
        expect.stringContaining('-t expected at most 20s, the longest time of the key here, got 1m\n'),
      ])
    }
  })

  it('has exec open its only TCP service where no port is said', async () => {
    const { stderr } = await run('knockclient', ['exec', 'here', '-v', '--wait', '1', '--', 'true'], { env: hinted(HINTS) })
    expect(stderr).toContain(`knocking at ${HERE} for port 22, with key here`)
  })
})

describe('what does not go', () => {
  it.each([
    [['connect', 'gate.example'], /missing required argument 'port'/],
    [['connect', 'gate.example', '0'], /expected a port from 1 to 65535, got "0"/],
    [['connect', 'gate.example', 'ssh'], /expected a port from 1 to 65535, got "ssh"/],
    [['connect', 'gate.example', '22', '-t', '0'], /-t expected 1 to 254 minutes, or a duration/],
    [['connect', 'gate.example', '22', '--wait', '0'], /--wait expected seconds from 1 to 3600, got "0"/],
    [['connect', 'gate.example', '22', '--stun', 'a'], /--stun requires -i auto/],
    [['connect', 'gate.example', '22', '-i', 'auto', '--stun', 'a'], /--stun requires --stun-trusted: /],
    [['exec', 'gate.example', '-p', '22', '-i', 'auto', '--stun', 'a', '--', 'true'], /--stun requires --stun-trusted: /],
    [['connect', 'gate.example', '22', '--stun-trusted'], /--stun-trusted requires -i auto/],
    [['connect', 'gate.example', '22', '-4', '-6'], /-4 cannot be used with -6/],
    [['connect', 'gate.example', '22', '--pace', '193'], /--pace expected at most 192 ms for 52 ports/],
    [['-k', 'alice', 'connect', 'gate.example', '22'], /error: -k comes before "connect"\nhint: put -k after "connect"/],
    [['exec', 'gate.example', '--', 'true'], /no port to open: -p is missing\nhint: add -p with the port/],
    [['exec', 'gate.example', '-p', '22'], /missing required argument 'command'/],
    [
      ['exec', 'gate.example', '-p', '22', 'rsync', '-a', 'x', 'y'],
      /unknown option '-a'[\s\S]*\nhint: put the command and its options after "--"\n$/,
    ],
    [['exec', 'gate.example', '-p', '22', '--bogus', '--', 'true'], /unknown option '--bogus'/],
    [
      ['exec', 'gate.example', '-p', '22', 'rsync', '-r', 'x', 'y'],
      /"rsync" must come after "--"\nhint: put the command and its options after "--"$/m,
    ],
    [
      ['exec', 'gate.example', '-p', '22', 'x', '--', 'true'],
      /"x" must come after "--"\nhint: put the command and its options after "--"$/m,
    ],
    [['exec', 'gate.example', '-p', '0', '--', 'true'], /expected a port from 1 to 65535, got "0"/],
    [['-v', 'exec', 'gate.example', '-p', '22', '--', 'true'], /-v comes before "exec"\nhint: put -v after "exec"/],
  ])('is a usage fault: %j', async (args, message) => {
    const { code, stdout, stderr } = await run('knockclient', args, { env: keyring('alice').env })
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
    expect(stderr).toMatch(/^knockclient: error: [^\n]+\n(hint: [^\n]+\n)*$/)
    expect(stderr).toMatch(message)
  })
})

describe('the host of a key', () => {
  const ELSEWHERE = '127.0.0.2'
  /** A knock at the wrong host, for one pass; each refusal is one line. */
  async function refusal(words: string[], { env, input = '' }: { env: NodeJS.ProcessEnv; input?: string }) {
    const { code, stdout, stderr } = await run('knockclient', words, { env, input })
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
    return stderr
  }
  const config = (env: { XDG_CONFIG_HOME: string }, text: string) =>
    put(join(env.XDG_CONFIG_HOME, 'knockturn'), 'config.toml', text)
  const OTHER = `knockclient: error: the key here is for ${HERE}, and ${ELSEWHERE} is another host\nhint: use another key, or -r ${ELSEWHERE} if you mean that host\n`

  it.each<[string, string[]]>([
    ['connect', ['connect', ELSEWHERE, '1']],
    ['connect with -k', ['connect', ELSEWHERE, '1', '-k', 'here']],
    ['connect with --key-fd', ['connect', ELSEWHERE, '1', '--key-fd', '0']],
    ['connect by a profile', ['connect', 'gate', '1']],
    ['exec', ['exec', ELSEWHERE, '-p', '1', '--', 'echo', 'run']],
    ['exec by a profile', ['exec', 'gate', '--', 'echo', 'run']],
    ['a plain knock by a profile', ['gate', '--passes', '1']],
    ['a plain knock by a profile, with -k', ['gate', '--passes', '1', '-k', 'here']],
  ])('is where %s goes, or nowhere', async (_, words) => {
    const { env } = keyring('here')
    config(env, `[profile.gate]\nhost = "${ELSEWHERE}"\nservices = 1\n`)
    expect(await refusal(words, { env, input: textOf('here') })).toBe(OTHER)
  })

  it('is where a key goes that is found by its name, whatever the profile says', async () => {
    const { env } = keyring('alice', 'here')
    config(env, `[profile.here]\nhost = "${ELSEWHERE}"\n`)
    expect(await refusal(['connect', 'here', '1'], { env })).toBe(OTHER)
  })

  it('is asked for in --last, too', async () => {
    const { env } = keyring('here')
    const state = { ...env, XDG_STATE_HOME: scratch() }
    expect(await run('knockclient', ['-r', ELSEWHERE, '-p', '1', '--passes', '1'], { env: state })).toMatchObject({ code: 0 })
    expect(await refusal(['--last'], { env: state })).toBe(OTHER)
  })

  it('may have another name that is known to be its own', async () => {
    const { env } = keyring('here')
    const { code, stderr } = await run('knockclient', ['connect', 'localhost', '1', '--wait', '1', '--quiet'], { env })
    expect([code, stderr]).toEqual([3, `knockclient: error: localhost (${HERE}) port 1 refuses connections\n`])
  })

  it.each([
    [
      ['connect', 'gate.example', '1'],
      'it is not known whether gate.example is that host (the system knows no address of ',
      'here',
    ],
    [['connect', HERE, '1'], `it is not known whether ${HERE} is that host (the system knows no address of `, 'alice'],
    [['connect', HERE, '1', '-6'], `is that host (${HERE}: expected an IPv6 address, got an IPv4 one`, 'alice'],
  ] as const)('that nobody can find is none that was named: %j', async (words, why, id) => {
    expect(await refusal([...words], { env: keyring(id).env })).toContain(why)
  })

  it('is not asked for where -r says where to knock', async () => {
    const { env } = keyring('here')
    config(env, `[profile.gate]\nhost = "${ELSEWHERE}"\nservices = 1\npasses = 1\n`)
    const args = ['connect', 'gate', '1', '-r', ELSEWHERE, '--wait', '1', '--quiet']
    expect(await run('knockclient', args, { env })).toMatchObject({ code: 3, stderr: expect.stringContaining(ELSEWHERE) })
    expect(await run('knockclient', ['gate', '-r', ELSEWHERE], { env })).toEqual({ code: 0, stdout: '', stderr: '' })
  })

  describe('that its file does not say', () => {
    /** A keyring with a key for no host in particular. */
    function nameless() {
      const { env, keys } = keyring()
      put(keys, 'here.key', textOf('here').replace(/^host = .*\n/m, ''))
      config(env, `[profile.gate]\nhost = "${HERE}"\nservices = 1\npasses = 1\n`)
      return env
    }
    const WARNING = `knockclient: warning: the key here names no host: cannot check that ${HERE} is its server\n`

    it.each([
      ['connect', ['connect', HERE, '1', '--wait', '1']],
      ['a profile', ['gate']],
    ])('is told once, and %s goes on', async (_, words) => {
      const { code, stderr } = await run('knockclient', words, { env: nameless() })
      expect([code, stderr.split('\n').filter((line) => line.includes('warning'))]).toEqual([
        words.includes('gate') ? 0 : 3,
        [WARNING.trimEnd()],
      ])
    })

    it.each([
      ['with --quiet', ['gate', '--quiet']],
      ['with -r', ['-r', HERE, '-p', '1', '--passes', '1']],
    ])('is not told %s', async (_, words) => {
      expect(await run('knockclient', words, { env: nameless() })).toEqual({ code: 0, stdout: '', stderr: '' })
    })
  })
})

describe('where nothing opens', () => {
  const PORT = '1'
  /** Knocks with a key, of which its file says more. */
  const attempt = async (words: string[], id: Id, config = '', more = '') => {
    const { env, keys } = keyring(id)
    put(join(env.XDG_CONFIG_HOME, 'knockturn'), 'config.toml', config)
    put(keys, `${id}.key`, textOf(id) + more)
    const { code, stdout, stderr } = await run('knockclient', words, { env })
    return { code, stdout, lines: stderr.trimEnd().split('\n') }
  }

  it.each([
    ['connect', ['connect', HERE, PORT, '--wait', '1']],
    ['exec', ['exec', HERE, '-p', PORT, '--wait', '1', '--', 'echo', 'run']],
  ])('%s says what could be found out, as a plain knock does', async (_, words) => {
    const { code, stdout, lines } = await attempt(words, 'here')
    expect({ code, stdout }).toEqual({ code: 3, stdout: '' })
    expect(lines).toEqual([
      `knockclient: error: ${HERE} port ${PORT} refuses connections`,
      expect.stringMatching(/^knockclient: note: either no service listens on port 1, or a firewall rejects /),
      expect.stringMatching(/^hint: start the service on port 1, or read the server's log$/),
    ])
  })

  it('connect asks the time source of its profile', async () => {
    const config = `[profile.gate]\nhost = "${HERE}"\ntime_source = "https://${HERE}:1"\n`
    const { lines } = await attempt(['connect', 'gate', PORT, '--wait', '1'], 'here', config)
    expect(lines.join('\n')).toContain(`it is not known whether this clock is right: https://${HERE}:1: cannot be asked`)
  })

  it.each([
    ['has ended', -1, [expect.stringMatching(/^knockclient: note: the key expired at 20\d\d-/)]],
    ['is about to end', 1, []],
  ])('says of a key that %s no more than is so', async (_, hours, said) => {
    const expires = new Date(Date.now() + hours * 3_600_000).toISOString().replace(/\..*/, 'Z')
    const { lines } = await attempt(['connect', HERE, PORT, '--wait', '1', '--force'], 'here', '', `expires = ${expires}\n`)
    expect(lines.filter((line) => line.includes('the key'))).toEqual(said)
  })

  it('says that a door for a named address cannot be seen from here', async () => {
    const { lines } = await attempt(['connect', HERE, PORT, '--wait', '1', '-i', '198.51.100.7'], 'here')
    expect(lines.join('\n')).toContain('knockclient: note: the knock opens for 198.51.100.7: ')
  })

  it('says nothing but the error with --quiet', async () => {
    const { code, lines } = await attempt(['connect', HERE, PORT, '--wait', '1', '--quiet'], 'here')
    expect([code, lines]).toEqual([3, [expect.stringMatching(/refuses connections$/)]])
  })
})

describe('a service that is open', () => {
  let server: Server
  let port = ''
  const { env } = keyring('alice', 'here')
  beforeAll(async () => {
    // Says back in capitals what it has heard, at its end.
    server = createServer({ allowHalfOpen: true }, (socket) => {
      let text = ''
      socket
        .on('error', () => {})
        .on('data', (data) => {
          text += data
        })
      socket.on('end', () => socket.end(text.toUpperCase()))
    }).listen(0, HERE)
    await once(server, 'listening')
    const address = server.address()
    port = String(typeof address === 'object' && address?.port)
  })
  afterAll(() => {
    server.close()
  })

  it.each([
    ['its address', [HERE]],
    ["the key's name", ['here']],
    ['another name, with -r', ['gate.invalid', '-r', HERE, '-k', 'here']],
  ])('is connected to by %s, with both ends of the conversation', async (_, [host, ...options]) => {
    const args = ['connect', host, port, ...options]
    expect(await run('knockclient', args, { env, input: 'knock knock' })).toEqual({ code: 0, stdout: 'KNOCK KNOCK', stderr: '' })
  })

  it('is connected to with -v saying so, beside the conversation', async () => {
    const { stdout, stderr } = await run('knockclient', ['connect', 'here', port, '-v'], { env, input: 'who is there?' })
    expect(stdout).toBe('WHO IS THERE?')
    expect(stderr.split('\n').map((line) => line.replace(/^ *\d+ ms {2}/, ''))).toEqual([
      `knocking at ${HERE} for port ${port}, with key here`,
      'sent 52 ports by TCP, pass 1',
      `connected to ${HERE} port ${port}`,
      '',
    ])
  })

  it('has a command run, with our input and output', async () => {
    const args = ['exec', 'here', '-p', port, '--', 'sh', '-c', 'cat; exit 7']
    expect(await run('knockclient', args, { env, input: 'mine' })).toEqual({ code: 7, stdout: 'mine', stderr: '' })
  })

  it('has a command run, and says with which signal it ended', async () => {
    const args = ['exec', 'here', '-p', port, '--', 'sh', '-c', 'kill -TERM $$']
    expect((await run('knockclient', args, { env })).code).toBe(128 + 15)
  })
})
