import { createSocket, type Socket } from 'node:dgram'
import { once } from 'node:events'
import { chmodSync, mkdirSync } from 'node:fs'
import { createServer, type Server } from 'node:net'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { parseKeyFile } from '../../src/keys/key-file'
import { composeDatagram, openDatagram } from '../../src/protocol/datagram'
import { windowAt } from '../../src/protocol/key'
import { compose } from '../../src/protocol/knock'
import type { Request } from '../../src/protocol/request'
import { keyText, put, scratch, secretOf } from '../system/scratch'
import { run } from './programs'

const SECRET = secretOf(3)
const TEXT = keyText({ secret: SECRET, more: 'host = "gate.invalid"\n', grant: '' })
const folder = scratch()
const FILE = put(folder, 'alice.key', TEXT)
const key = (() => {
  const { value } = parseKeyFile(FILE, TEXT)
  if (!value) throw new Error('the test’s own key is faulty')
  return value.key
})()

interface Printed {
  window: number
  ports: number[]
  request: Request
}

const knock = (...args: string[]) => run('knockclient', ['-k', FILE, ...args])

/** What a knock would be, on its own, with the port that it needs unless another is given. */
async function printed(...args: string[]): Promise<Printed> {
  const port = args.some((arg) => /^(-p|--port.*|--close|--lock|255)$/.test(arg)) ? [] : ['-p', '22']
  const { code, stdout, stderr } = await knock('--dry-run', '--json', ...port, ...args)
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  return JSON.parse(stdout)
}

describe('--dry-run --json', () => {
  it('prints window, ports and request, and nothing else', async () => {
    const { code, stdout, stderr } = await knock('--dry-run', '--json', '-p', '22')
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    expect(stdout.split('\n')).toHaveLength(2)
    const knocking = JSON.parse(stdout)
    expect(Object.keys(knocking)).toEqual(['window', 'ports', 'request'])
    expect(Object.keys(knocking.request)).toEqual(['action', 'protocol', 'once', 'salt', 'port', 'seconds', 'address'])
  })

  it.each([
    ['IPv4', []],
    ['IPv6', ['-i', '2001:db8::7']],
    ['parity 0', ['--parity', '0']],
    ['parity 35', ['--parity', '35']],
  ])('prints the ports of its request (%s)', async (_, args) => {
    const { window, ports, request } = await printed(...args)
    const parity = args[0] === '--parity' ? Number(args[1]) : undefined
    expect(ports).toEqual(compose(key, window, request, parity))
  })

  it('prints this moment’s window', async () => {
    const before = windowAt(Date.now() / 1000, 30)
    const { window } = await printed()
    expect([before, windowAt(Date.now() / 1000, 30)]).toContain(window)
  })

  it('prints a knock for each of several ports, each with a salt of its own', async () => {
    const { stdout } = await knock('--dry-run', '--json', '-p', '22, 443/tcp,53/udp,tcp:443')
    const knocks: Printed[] = stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line))
    expect(knocks.map(({ request: { port, protocol } }) => [port, protocol])).toEqual([
      [22, 'any'],
      [443, 'tcp'],
      [53, 'udp'],
    ])
    for (const { window, ports, request } of knocks) expect(ports).toEqual(compose(key, window, request))
    expect(new Set(knocks.map(({ request }) => request.salt)).size).toBeGreaterThan(1)
  })

  it('prints another salt each time', async () => {
    const salts = await Promise.all(Array.from({ length: 4 }, async () => (await printed()).request.salt))
    expect(new Set(salts).size).toBeGreaterThan(1)
  })

  it('asks to open for the address that is seen, 5 minutes, any protocol', async () => {
    const { salt: _, ...request } = (await printed()).request
    expect(request).toEqual({ action: 'open', protocol: 'any', once: false, port: 22, seconds: 300, address: '0.0.0.0' })
  })
})

describe('--datagram with --dry-run', () => {
  it.each([
    ['IPv4', 36, []],
    ['IPv6', 48, ['-i', '2001:db8::7']],
  ])('prints as JSON its port and its payload beside window and request (%s)', async (_, length, args) => {
    const { window, ports, payload, request } = (await printed('--datagram', '53', ...args)) as Printed & { payload: string }
    expect(ports).toEqual([53])
    expect(payload).toBe(Buffer.from(composeDatagram(key, window, request)).toString('hex'))
    expect(payload).toHaveLength(2 * length)
  })

  it('prints its port and its payload in hex', async () => {
    const { stdout } = await knock('--dry-run', '-p', '22', '--datagram', '443')
    expect(stdout).toMatch(/^443 [0-9a-f]{72}\n$/)
  })
})

describe('--dry-run', () => {
  it('prints the ports, one on a line', async () => {
    const { stdout } = await knock('--dry-run', '-p', '22')
    expect(stdout).toMatch(/^(\d{5}\n){52}$/)
  })

  it('resolves nothing', async () => {
    expect(await knock('--dry-run', '-p', '22', '-r', 'no.such.host.invalid')).toMatchObject({ code: 0, stderr: '' })
  })
})

describe('the request', () => {
  it.each<[string[], Partial<Request>]>([
    [['-t', '0'], { action: 'open', seconds: 0 }],
    [['-t', '1'], { action: 'open', seconds: 60 }],
    [['-t', '15'], { action: 'open', seconds: 900 }],
    [['-t', '254'], { action: 'open', seconds: 15_240 }],
    [['-t', '255'], { action: 'close', seconds: 0, port: 0 }],
    [['-t', '255', '-p', '22'], { action: 'close', seconds: 0, port: 22 }],
    [['-t', '90s'], { seconds: 90 }],
    [['-t', '1d'], { seconds: 86_400 }],
    [['-p', 'tcp/443'], { port: 443, protocol: 'tcp' }],
    [['-p', '53:udp'], { port: 53, protocol: 'udp' }],
    [['-t', '15m'], { seconds: 900 }],
    [['-t', '1h30m'], { seconds: 5400 }],
    [['-t', '256s'], { seconds: 256 }],
    [['-t', '16777215s'], { seconds: 0xffffff }],
    [['-p', '0'], { port: 0 }],
    [['-p', '65535'], { port: 65_535 }],
    [['-i', '198.51.100.7'], { address: '198.51.100.7' }],
    [['-i', '2001:DB8:0:0:0:0:0:7'], { address: '2001:db8::7' }],
    [['-i', '::ffff:198.51.100.7'], { address: '198.51.100.7' }],
    [['-i', '0.0.0.0'], { address: '0.0.0.0' }],
    [['-i', '::'], { address: '::' }],
    [['--close'], { action: 'close', port: 0, seconds: 0 }],
    [['--close', '-p', '22', '-i', '198.51.100.7'], { action: 'close', port: 22, address: '198.51.100.7' }],
    [['--lock'], { action: 'lock', seconds: 0 }],
    [['--lock', '-t', '10'], { action: 'lock', seconds: 600 }],
    [['--once'], { action: 'open', once: true }],
    [['--protocol', 'tcp'], { protocol: 'tcp' }],
    [['--protocol', 'udp'], { protocol: 'udp' }],
    [['--protocol', 'any'], { protocol: 'any' }],
  ])('of %j is what it says', async (args, part) => {
    expect((await printed(...args)).request).toMatchObject(part)
  })

  it.each([
    [['--parity', '0'], 36],
    [['--parity', '16'], 52],
    [['--parity', '35'], 71],
    [['-i', '2001:db8::7'], 64],
    [['-i', '2001:db8::7', '--parity', '35'], 71],
  ])('of %j takes %i ports', async (args, count) => {
    expect((await printed(...args)).ports).toHaveLength(count)
  })

  it.each([-86_400, 86_400])('is moved by --time-offset %i', async (offset) => {
    const at = () => windowAt(Date.now() / 1000 + offset, 30)
    const before = at()
    // That it is far from the clock is warned of.
    const { window } = await printed('--time-offset', String(offset), '--quiet')
    expect([before, at()]).toContain(window)
  })

  it.each([
    ['-4'],
    ['-6'],
    ['--udp'],
    ['--quiet'],
    ['-v'],
    ['--pace', '10'],
    ['--passes', '3'],
    ['-r', 'x.invalid'],
    ['--wait', '1'],
  ])('is not changed by %s', async (...args) => {
    const { salt: _, ...request } = (await printed(...args)).request
    expect(request).toEqual({ action: 'open', protocol: 'any', once: false, port: 22, seconds: 300, address: '0.0.0.0' })
  })
})

describe('a long name', () => {
  it.each<[string[], string[]]>([
    [
      ['-p', '443'],
      ['--port', '443'],
    ],
    [
      ['-p', '22', '-t', '15'],
      ['-p', '22', '--time', '15'],
    ],
    [
      ['-p', '22', '-i', '198.51.100.7'],
      ['--port=22', '--address=198.51.100.7'],
    ],
  ])('asks what the short one asks: %j and %j', async (short, long) => {
    const [a, b] = [await printed(...short), await printed(...long)].map(({ request: { salt: _, ...rest } }) => rest)
    expect(a).toEqual(b)
  })

  it('names key, server and family, and has more said', async () => {
    const words = ['--key', FILE, '--server', '127.0.0.1', '--ipv4', '--port', '1', '--passes', '1', '--verbose']
    const { code, stderr } = await run('knockclient', words)
    expect([code, stderr]).toEqual([0, expect.stringMatching(/knocking at 127\.0\.0\.1: open port 1 .*, with key alice$/m)])
    expect(
      (
        await run(
          'knockclient',
          words.map((word) => word.replace('ipv4', 'ipv6')),
        )
      ).stderr,
    ).toContain('expected an IPv6 address')
  })

  it('is there for every short one', async () => {
    for (const command of [[], ['connect'], ['exec'], ['profile', 'save']]) {
      const { stdout } = await run('knockclient', [...command, command.length === 0 ? '--help-all' : '--help'])
      expect(stdout.match(/^ {2}-[^-\s,](?!, --)/gm)).toBeNull()
    }
  })
})

describe('a copy that says what its key may open', () => {
  const HINTS = 'services = ["22/tcp"]\nmax = "2m"\n'
  const copyWith = (hints: string) => put(scratch(), 'copy.key', `${hints}${TEXT}`)
  const dry = async (hints: string, ...args: string[]) => {
    const { code, stdout, stderr } = await run('knockclient', ['-k', copyWith(hints), '--dry-run', '--json', ...args])
    return { code, stderr, request: stdout && JSON.parse(stdout).request }
  }

  it('opens its only service where no port is said, for no longer than it may', async () => {
    const expected = { action: 'open', port: 22, protocol: 'tcp', seconds: 120 }
    expect(await dry(HINTS)).toMatchObject({ code: 0, stderr: '', request: expected })
  })

  it('has all closed where no port is said', async () => {
    expect(await dry(HINTS, '--close')).toMatchObject({ code: 0, request: { action: 'close', port: 0 } })
  })

  it.each<[string[], number, string]>([
    [['-p', '443'], 2, 'the key alice may not open 443: it opens 22/tcp'],
    [['-t', '1h'], 2, '-t expected at most 2m, the longest time of the key alice, got 1h'],
    [['--lock', '-t', '1h'], 2, '-t expected at most 2m, the longest time of the key alice, got 1h'],
    [['--protocol', 'udp'], 2, 'no port to open: -p is missing'],
  ])('has %j told in two lines before anything is sent or resolved', async (args, code, message) => {
    const outcome = await run('knockclient', ['-k', copyWith(HINTS), ...args])
    expect(outcome).toMatchObject({ code, stdout: '' })
    expect(outcome.stderr.split('\n')).toEqual([`knockclient: error: ${message}`, expect.stringMatching(/^hint: /), ''])
  })

  it('has its end told by the clock as it is corrected', async () => {
    const expires = new Date(Date.now() + 3_600_000).toISOString().replace(/\..*/, 'Z')
    const hints = `expires = ${expires}\n`
    expect(await dry(hints, '-p', '22')).toMatchObject({ code: 0 })
    const { code, stderr } = await dry(hints, '-p', '22', '--time-offset', '7200')
    expect([code, stderr]).toEqual([1, expect.stringContaining(`the key alice expired at ${expires}, according to its file\n`)])
  })

  it('does not keep --force from sending', async () => {
    const { stderr, request } = await dry(`expires = 2026-01-01T00:00:00Z\n${HINTS}`, '-p', '443', '-t', '1h', '--force')
    expect({ stderr, request }).toEqual({ stderr: '', request: expect.objectContaining({ port: 443, seconds: 3600 }) })
  })

  it('does not have a port waited for that only UDP has', async () => {
    const { code, stderr } = await dry('services = ["53/udp"]\n', '--wait')
    expect([code, stderr]).toEqual([2, expect.stringContaining('--wait requires a TCP port in -p')])
    expect((await dry('services = ["53/udp"]\n', '-p', '53', '--wait')).code).toBe(2)
  })
})

describe('a fault of usage', () => {
  it.each<[string[], RegExp]>([
    [['-p', '22', '-t', '256'], /-t expected a unit for a number over 255, got "256"$/],
    [['-p', '22', '-t', '1440'], /a unit .* got "1440"/],
    [['-p', '22', '-t', '16777216s'], /-t expected .*at most 16,777,215 s\), got "16777216s"$/],
    [['-p', '22', '-t', '0s'], /-t expected .*, got "0s"$/],
    [['-p', '22', '-t', '195d'], /-t expected .*at most 16,777,215 s\), got "195d"$/],
    [['-p', '22', '-t', '-5'], /-t expected .*, got "-5"$/],
    [['-p', '22', '-t', '1.5'], /-t expected .*, got "1.5"$/],
    [['-p', '22', '-t', ''], /-t expected .*, got ""$/],
    [[], /no port to open: -p is missing$/],
    [['-p', '65536'], /-p expected a port from 0 to 65535 such as 22 or 22\/tcp, got "65536"$/],
    [['-p', '-1'], /-p expected a port from 0 to 65535 such as 22 or 22\/tcp, got "-1"$/],
    [['-p', '22,'], /-p expected a port from 0 to 65535 such as 22 or 22\/tcp, got "22,"$/],
    [['-p', '22/sctp'], /-p expected a port from 0 to 65535 such as 22 or 22\/tcp, got "22\/sctp"$/],
    [['-p', '22,0'], /-p expected 0 alone, as it means all ports$/],
    [['-p', Array.from({ length: 17 }, (_, n) => n + 1).join()], /-p expected at most 16 ports, got 17$/],
    [['-p', '22/tcp', '--protocol', 'udp'], /--protocol udp contradicts the protocol in -p$/],
    [['-p', '53/udp', '--wait'], /--wait requires a TCP port in -p: /],
    [['-p', '22', '-i', 'auto'], /-i auto requires a server to ask for your address$/],
    [['-p', '22', '-i', 'auto', '--stun', 'a', '--address-url', 'https://b'], /--stun cannot be used with --address-url$/],
    [['-p', '22', '--stun', 'a'], /--stun requires -i auto$/],
    [['-p', '22', '-i', 'auto', '--stun', 'a'], /--stun requires --stun-trusted: anyone on the path can forge the answer/],
    [['-p', '22', '--stun-trusted'], /--stun-trusted requires -i auto$/],
    [['-p', '22', '-i', 'auto', '--address-url', 'https://b', '--stun-trusted'], /--stun-trusted requires --stun$/],
    [['-p', '22', '--address-url', 'https://b', '-i', '198.51.100.7'], /--address-url requires -i auto$/],
    [['-p', '22', '--time-source', 'ntp://a'], /--time-source requires --wait$/],
    [['-p', '22', '--passcode-base', '700'], /--passcode-base requires --passcode$/],
    [['-p', '22', '--pin-digits', '3'], /--pin-digits requires --passcode$/],
    [['-p', '22', '--stun', 'stun:a'], /--stun expected a host, or host:port, got "stun:a"$/],
    [['-p', '22', '--address-url', 'http://a'], /--address-url expected an https URL, got "http:\/\/a"$/],
    [['-p', '22', '--time-source', 'a'], /--time-source expected ntp:\/\/HOST or https:\/\/HOST, got "a"$/],
    [['-p', 'ssh'], /-p expected a port from 0 to 65535 such as 22 or 22\/tcp, got "ssh"$/],
    [['-p', '22', '-i', 'gate.example'], /-i expected an IPv4 or IPv6 address, got "gate\.example"$/],
    [['-p', '22', '-i', '198.51.100.256'], /-i expected an IPv4 or IPv6 address/],
    [['-p', '22', '-i', '198.51.100.0/24'], /-i expected an IPv4 or IPv6 address/],
    [['-p', '22', '-i', 'fe80::1%eth0'], /-i expected an IPv4 or IPv6 address/],
    [['--close', '--lock'], /--close cannot be used with --lock$/],
    [['-p', '22', '-4', '-6'], /-4 cannot be used with -6$/],
    [['-p', '22', '--datagram', '0'], /--datagram expected a port from 1 to 65535, got "0"$/],
    [['-p', '22', '--datagram', '53', '--udp'], /--udp cannot be used with --datagram$/],
    [['-p', '22', '--json'], /--json requires --dry-run$/],
    [['--close', '--once'], /--once cannot be used with --close or --lock$/],
    [['--lock', '-t', '255'], /-t 255 means close, and cannot be used with --lock$/],
    [['--close', '--wait'], /--wait cannot be used with --close or --lock$/],
    [['-p', '0', '--wait'], /--wait requires a TCP port in -p: /],
    [['-p', '22', '--protocol', 'udp', '--wait'], /--wait requires a TCP port in -p: /],
    [['-p', '22', '--once', '--wait'], /--wait would use up the one connection of --once$/],
    [['-p', '22', '--wait', '0'], /--wait expected seconds from 1 to 3600, got "0"$/],
    [['-p', '22', '--passes', '0'], /--passes expected a number from 1 to 10, got "0"$/],
    [['-p', '22', '--passes', '11'], /--passes expected a number from 1 to 10, got "11"$/],
    [['-p', '22', '--parity', '36'], /--parity expected a number from 0 to 35, got "36"$/],
    [['-p', '22', '--pace', '-1'], /--pace expected milliseconds/],
    [['-p', '22', '--pace', '193'], /--pace expected at most 192 ms for 52 ports, which must fit into 10 s, got 193$/],
    [['-p', '22', '--time-offset', '1h'], /--time-offset expected whole seconds.*, got "1h"$/],
    [['-p', '22', '--protocol', 'sctp'], /--protocol .*sctp/],
    [['-p', '22', '--loud'], /unknown option '--loud'/],
    [['-p', '22', 'gate', 'more'], /too many arguments: expected 1, got 2$/],
    [['-p'], /argument missing/],
  ])('in %j is told, with exit code 2', async (args, message) => {
    const { code, stdout, stderr } = await knock(...args)
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
    expect(stderr.split('\n')[0]).toMatch(message)
  })

  it.each([[['-p', 'ssh']], [['--loud']], [['-p']], [['-p', '22', '--protocol', 'sctp']]])(
    'in %j is one line, and one that points to the help',
    async (args) => {
      expect((await knock(...args)).stderr).toMatch(/^knockclient: error: [^\n]+\nhint: see "knockclient --help"\n$/)
    },
  )

  it.each([
    [['-p', '22', '-t', '256'], 'write 256s or 256m'],
    [['-p', '22', '--once', '--wait'], 'leave one of them out'],
    [['-p', '22', 'gate', 'more'], 'see "knockclient --help"'],
    [[], 'add -p with the port, such as -p 22'],
  ])('in %j says on a second line what to do', async (args, hint) => {
    expect((await knock(...args)).stderr.split('\n').slice(1)).toEqual([`hint: ${hint}`, ''])
  })

  it('is a key without a host, and no -r', async () => {
    const bare = put(scratch(), 'bare.key', keyText({ grant: '' }))
    const { code, stderr } = await run('knockclient', ['-k', bare, '-p', '22'])
    expect({ code, stderr }).toMatchObject({
      code: 2,
      stderr: 'knockclient: error: no server to knock at: the key names no host\nhint: name it with -r\n',
    })
  })

  it('shows no control characters', async () => {
    const { stderr } = await knock('-p', '22\u001b[2J\n\u0007')
    expect(stderr.trimEnd().replace('\nhint: see "knockclient --help"', '')).not.toMatch(/\p{Cc}/u)
  })
})

describe('a failure', () => {
  const failing = async (args: string[], env: NodeJS.ProcessEnv = {}) => {
    const { code, stdout, stderr } = await run('knockclient', ['--dry-run', '-p', '22', ...args], { env })
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' })
    expect(stderr).toMatch(/^knockclient: error: [^\n]+\n(hint: [^\n]+\n)?$/)
    return stderr
  }

  it('is a key file that is missing', async () => {
    const path = join(scratch(), 'none.key')
    expect(await failing(['-k', path])).toContain(`${path}: cannot be read: ENOENT`)
  })

  it('is a key file that others may read', async () => {
    const path = put(scratch(), 'alice.key', TEXT, 0o644)
    expect(await failing(['-k', path])).toContain(`${path}: expected mode 0600, got 0644\nhint: run "chmod 600 ${path}"`)
  })

  it('is a key file with a fault', async () => {
    const path = put(scratch(), 'alice.key', TEXT.replace(SECRET, SECRET.slice(1)))
    expect(await failing(['-k', path])).toContain(`${path}:2: "secret" expected base32 of 32 bytes`)
  })

  it('is a clock before 2020', async () => {
    expect(await failing(['-k', FILE, '--time-offset', '-999999999'])).toMatch(
      /the clock is wrong: expected 2020 or later, got .*\nhint: .*--time-offset/,
    )
  })

  it('is a keyring that is missing', async () => {
    const home = scratch()
    expect(await failing([], { HOME: home })).toMatch(
      new RegExp(`${home}/.config/knockturn/keys: .*\nhint: .*, or give its file with -k`),
    )
  })

  it('is a host that is not there', async () => {
    const { code, stdout, stderr } = await knock('-p', '22', '-r', 'no such host')
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' })
    expect(stderr).toMatch(
      /^knockclient: error: no such host: cannot be resolved: [^\n]+\nhint: give the name or address alone, without port or brackets\n$/,
    )
  })

  it.each([
    ['-4', '::1'],
    ['-6', '127.0.0.1'],
  ])('is %s for the address %s', async (family, host) => {
    expect(await knock('-p', '22', family, '-r', host)).toMatchObject({
      code: 1,
      stderr: expect.stringContaining(`${host}: expected`),
    })
  })

  it.each<[string, string, number]>([
    ['a wrong secret', TEXT.replace(SECRET, `${SECRET.slice(0, -1)}!`), 0o600],
    ['no quotes', TEXT.replace(`"${SECRET}"`, SECRET), 0o600],
    ['a missing quote', TEXT.replace(`${SECRET}"`, SECRET), 0o600],
    ['a loose mode', TEXT, 0o644],
    ['an unknown key', `${TEXT}secrets = "x"\n`, 0o600],
  ])('shows nothing of the secret (%s)', async (_, text, mode) => {
    const stderr = await failing(['-k', put(scratch(), 'alice.key', text, mode)])
    for (let at = 0; at + 6 <= SECRET.length; at++) expect(stderr).not.toContain(SECRET.slice(at, at + 6))
  })
})

describe('the key', () => {
  /** A keyring with some keys, found by the environment. */
  function keyring(ids: string[]) {
    const config = scratch()
    const keys = join(config, 'knockturn', 'keys')
    mkdirSync(keys, { recursive: true })
    chmodSync(keys, 0o700)
    for (const [n, id] of ids.entries()) put(keys, `${id}.key`, keyText({ id, secret: secretOf(n + 3), grant: '' }))
    return { config, keys }
  }
  const dry = (env: NodeJS.ProcessEnv) => run('knockclient', ['--dry-run', '--json', '-p', '22'], { env })

  it('is the only one in XDG_CONFIG_HOME', async () => {
    const { code, stdout } = await dry({ XDG_CONFIG_HOME: keyring(['alice']).config })
    const { window, ports, request } = JSON.parse(stdout)
    expect({ code, ports }).toEqual({ code: 0, ports: compose(key, window, request) })
  })

  it('is the only one in ~/.config', async () => {
    const home = scratch()
    const keys = join(home, '.config', 'knockturn', 'keys')
    mkdirSync(keys, { recursive: true })
    chmodSync(keys, 0o700)
    put(keys, 'alice.key', TEXT)
    expect((await dry({ HOME: home })).code).toBe(0)
  })

  it.each([
    [
      [],
      'there is no key (the names of key files end in .key)\nhint: put a key there, from "knockturn key export" on the server, or give its file with -k',
    ],
    [['alice', 'bob'], 'there are several keys (alice, bob)\nhint: choose one with -k'],
  ])('must be named where there are %j', async (ids, told) => {
    const { config, keys } = keyring(ids)
    const { code, stderr } = await dry({ XDG_CONFIG_HOME: config })
    expect({ code, stderr }).toEqual({
      code: 1,
      stderr: `knockclient: error: ${keys}: ${told}\n`,
    })
  })

  it('is named by -k among others', async () => {
    const { config } = keyring(['alice', 'bob'])
    const { code, stdout } = await run('knockclient', ['--dry-run', '--json', '-p', '22', '-k', 'alice'], {
      env: { XDG_CONFIG_HOME: config },
    })
    const { window, ports, request } = JSON.parse(stdout)
    expect({ code, ports }).toEqual({ code: 0, ports: compose(key, window, request) })
  })

  it('is judged by itself with -k, wherever it lies', async () => {
    const shared = scratch()
    const path = put(shared, 'alice.key', TEXT)
    chmodSync(shared, 0o755)
    expect((await run('knockclient', ['-k', path, '--dry-run', '-p', '22'])).code).toBe(0)
  })
})

describe('sending', () => {
  /** An address of its own, too: other tests knock at 127.0.0.1 meanwhile, and each touch counts here. */
  const HERE = '127.0.0.3'
  /** A key of its own, whose pool lies below the ports that this machine gives out by itself. */
  const pool = '10000-22000'
  const text = keyText({ secret: SECRET, more: `host = "${HERE}"\nperiod = 300\npool = "${pool}"\n`, grant: '' })
  const file = put(folder, 'here.key', text)
  const servers: Server[] = []
  const sockets: Socket[] = []
  afterEach(() => {
    for (const server of servers.splice(0)) server.close()
    for (const socket of sockets.splice(0)) socket.close()
  })

  const here = (() => {
    const { value } = parseKeyFile(file, text)
    if (!value) throw new Error('the test’s own key is faulty')
    return value.key
  })()
  /** A window's rendezvous ports are the same in every knock: those of this one and the next are listened on. */
  function rendezvous() {
    const now = windowAt(Date.now() / 1000, 300)
    const request: Request = { action: 'open', protocol: 'any', once: false, salt: 0, port: 0, seconds: 0, address: '0.0.0.0' }
    return [now, now + 1].map((window) => compose(here, window, request).slice(0, 8))
  }
  const send = (...args: string[]) => run('knockclient', ['-k', file, '-p', '22', ...args])

  /** How often each port is touched by TCP. */
  async function listenTcp(ports: number[]) {
    const touched: number[] = []
    for (const port of ports) {
      const server = createServer((socket) => {
        touched.push(port)
        socket.on('error', () => {}).resume()
      })
      servers.push(server)
      server.on('error', () => {}).listen(port, HERE)
      await Promise.race([once(server, 'listening'), once(server, 'error')])
    }
    return touched
  }
  async function listenUdp(ports: number[]) {
    const touched: number[] = []
    for (const port of ports) {
      const socket = createSocket('udp4')
      sockets.push(socket)
      socket.on('message', ({ length }) => touched.push(length === 0 ? port : -1))
      socket.bind(port, HERE)
      await once(socket, 'listening')
    }
    return touched
  }
  const counts = (touched: number[], ports: number[]) => ports.map((port) => touched.filter((other) => other === port).length)

  it.each([
    [1, ['--passes', '1']],
    [2, []],
    [3, ['--passes', '3']],
  ])('touches each port once a pass, %i times', async (times, args) => {
    const windows = rendezvous()
    const touched = await listenTcp(windows.flat())
    expect(await send(...args)).toEqual({ code: 0, stdout: '', stderr: '' })
    expect(windows.map((ports) => counts(touched, ports))).toContainEqual(Array(8).fill(times))
  })

  it('goes to an address of the other family than the one to open for', async () => {
    const windows = rendezvous()
    const touched = await listenTcp(windows.flat())
    expect(await send('-i', '2001:db8::7', '--passes', '1')).toEqual({ code: 0, stdout: '', stderr: '' })
    expect(windows.map((ports) => counts(touched, ports))).toContainEqual(Array(8).fill(1))
  })

  it('touches by UDP, with empty datagrams', async () => {
    const windows = rendezvous()
    const touched = await listenUdp(windows.flat())
    expect(await send('--udp', '--passes', '1')).toEqual({ code: 0, stdout: '', stderr: '' })
    expect(windows.map((ports) => counts(touched, ports))).toContainEqual(Array(8).fill(1))
  })

  it.each([
    [1, ['--passes', '1']],
    [2, []],
  ])('sends all of it in one datagram, %i times', async (times, args) => {
    const socket = createSocket('udp4')
    sockets.push(socket)
    const heard: string[] = []
    socket.on('message', (bytes) => heard.push(bytes.toString('hex')))
    socket.bind(0, HERE)
    await once(socket, 'listening')
    const { port } = socket.address()
    expect(await send('--datagram', String(port), ...args)).toEqual({ code: 0, stdout: '', stderr: '' })
    expect([heard.length, new Set(heard).size]).toEqual([times, 1])
    const now = windowAt(Date.now() / 1000, 300)
    const opened = [now - 1, now].map((window) => openDatagram(here, window, Buffer.from(heard[0], 'hex'))?.request)
    expect(opened).toContainEqual(expect.objectContaining({ action: 'open', port: 22 }))
  })

  it('says of a datagram, with -v, where it goes', async () => {
    const { stderr } = await send('-v', '--datagram', '53', '--passes', '1')
    expect(stderr).toContain(' ms  sent a datagram to port 53, pass 1\n')
  })

  it('says with -v what it does, and how long it took', async () => {
    const { stdout, stderr } = await send('-v', '-t', '15')
    expect(stdout).toBe('')
    expect(stderr.split('\n')).toEqual([
      expect.stringMatching(/^ *\d+ ms {2}knocking at 127\.0\.0\.3: open port 22 for this address, 15 minutes, with key alice$/),
      expect.stringMatching(/^ *\d+ ms {2}sent 52 ports by TCP, pass 1$/),
      expect.stringMatching(/^ *\d+ ms {2}sent 52 ports by TCP, pass 2$/),
      '',
    ])
  })

  it('says nothing with --quiet, whatever -v says', async () => {
    expect(await send('--quiet', '-v', '--passes', '1')).toEqual({ code: 0, stdout: '', stderr: '' })
  })

  it('says nothing where there is no terminal', async () => {
    expect(await send('--passes', '1')).toEqual({ code: 0, stdout: '', stderr: '' })
  })

  it.each([
    ['a knock', 0, ['-k', FILE, '-r', '127.0.0.1', '-p', '22', '-v']],
    ['a fault', 2, ['-k', FILE, '--close', '--lock']],
  ])('ends %s as ever where nobody reads standard error any more', async (_, code, args) => {
    expect(await run('knockclient', args, { deaf: true })).toMatchObject({ code })
  })

  it('fails where nothing can be sent', async () => {
    const { code, stderr } = await send('-r', '255.255.255.255', '--passes', '1')
    expect({ code, stderr }).toEqual({
      code: 1,
      stderr: expect.stringMatching(
        /^knockclient: error: 255\.255\.255\.255: nothing could be sent: [^\n]+\nhint: check this machine's network\n$/,
      ),
    })
  })

  describe('with --wait', () => {
    let port = 0
    let service: Server
    beforeAll(async () => {
      service = createServer((socket) => socket.on('error', () => {}).end()).listen(0, HERE)
      await once(service, 'listening')
      const address = service.address()
      port = typeof address === 'object' && address ? address.port : 0
    })
    afterAll(() => {
      service.close()
    })

    it('ends when the service answers', async () => {
      expect(await run('knockclient', ['-k', file, '-p', String(port), '--wait'])).toEqual({ code: 0, stdout: '', stderr: '' })
    })

    it('says with -v of a service that was open before the knock that it proves nothing', async () => {
      const { stderr } = await run('knockclient', ['-k', file, '-p', String(port), '--wait', '-v'])
      // Where this machine is held up for a second, it can't be told from a SYN that was said again.
      expect(stderr).toMatch(
        new RegExp(
          `ms {2}127\\.0\\.0\\.3 port ${port} (was already|is) open: only the server's log shows whether it accepted this knock\\n$`,
        ),
      )
    })

    it('gives up when the time is over, and says what the port has shown', async () => {
      const { code, stdout, stderr } = await run('knockclient', ['-k', file, '-p', '1', '--wait', '1'])
      expect({ code, stdout }).toEqual({ code: 3, stdout: '' })
      expect(stderr).toMatch(
        /^knockclient: error: 127\.0\.0\.3 port 1 refuses connections\nknockclient: note: either no service listens on port 1, or [^\n]+\nhint: start the service on port 1, or [^\n]+\n$/,
      )
    })

    it.each([
      ['a plain knock', ['-k', file, '-p', '1', '--wait', '60', '--quiet']],
      ['connect', ['connect', HERE, '1', '-k', file, '--wait', '60', '--quiet']],
      ['exec', ['exec', HERE, '-p', '1', '-k', file, '--wait', '60', '--quiet', '--', 'true']],
    ])('%s ends as a failure, long before its time, where the port refuses for good', async (_, words) => {
      const { code, stdout, stderr } = await run('knockclient', words)
      expect({ code, stdout, stderr }).toEqual({
        code: 1,
        stdout: '',
        stderr: `knockclient: error: ${HERE} port 1 refuses connections\n`,
      })
    })

    it.each([[[]], [['--udp']], [['--datagram', '9']]])('sends with %j no more of a knock whose port is open', async (way) => {
      const { code, stderr } = await run('knockclient', ['-k', file, '-p', `${port},1`, '--wait', '60', '-v', ...way])
      const sent = stderr.match(/sent .*(?=, pass)/g)
      expect([code, sent?.length, new Set(sent).size]).toEqual([1, 3, 2])
    })
  })
})
