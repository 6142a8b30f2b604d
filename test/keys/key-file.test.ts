import { bytesToHex } from '@noble/hashes/utils.js'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { formatKeyFile, hintOf, type KeyFile, parseKeyFile } from '../../src/keys/key-file'
import { formatAddress, parseCidr } from '../../src/protocol/address'
import { deriveKey, KEY_ID } from '../../src/protocol/key'
import { formatPool, parsePool } from '../../src/protocol/pool'
import { keyText, secretOf } from '../system/scratch'

const PATH = '/keys/alice.key'
const SECRET = secretOf(1)

/** Every line of a key file, with numbers that the faults below name. */
const LINES = [
  '# alice, from the laptop',
  'id = "alice"',
  `secret = "${SECRET}"`,
  'server = "gate.example"',
  'period = 30',
  'pool = "49152-65535"',
  'created = 2026-01-02T03:04:05Z',
  'expires = 2027-01-02T03:04:05Z',
  'revoked = 2026-06-02T03:04:05Z',
  'host = "gate.example"',
  '[grant]',
  'services = ["22/tcp", "53/udp"]',
  'max = "30m"',
  'addresses = ["198.51.100.0/24", "2001:db8::/32"]',
  'bind_source = false',
  'require_address = true',
  'allow_until_closed = true',
  'lock = true',
  'open_prefix = 24',
  'open_prefix6 = 56',
]
const lineOf = (name: string) => LINES.findIndex((line) => line.split(' ')[0] === name) + 1
const replaced = (name: string, line: string) => LINES.map((old) => (old.split(' ')[0] === name ? line : old)).join('\n')

function read(text: string): KeyFile {
  const { value, faults } = parseKeyFile(PATH, text)
  if (!value) throw faults[0]
  return value
}
const faultsOf = (text: string) => (parseKeyFile(PATH, text).faults ?? []).map(({ message }) => message)

/** A key file as plain values: a pool of 16,384 ports is compared as its text. */
const plain = ({ key, grant, ...rest }: KeyFile) => ({
  ...rest,
  ...{ secret: bytesToHex(key.secret), server: key.server, period: key.period, pool: formatPool(key.pool) },
  grant: grant && { ...grant, addresses: grant.addresses.map(({ bytes, bits }) => `${formatAddress(bytes)}/${bits}`) },
})

describe('a client’s copy', () => {
  const HINTS = 'services = ["22/tcp", "53/udp"]\nmax = "30m"\n'

  it('tells what its key may open, as a hint and not as a grant', () => {
    const file = read(keyText({ more: HINTS, grant: '' }))
    const hint = {
      services: [
        { port: 22, protocol: 'tcp' },
        { port: 53, protocol: 'udp' },
      ],
      max: 1800,
    }
    expect(file).toMatchObject({ grant: null, hint })
    expect(plain(read(formatKeyFile(file)))).toEqual(plain(file))
  })

  it('need not: those of version 0.1.0 do not', () => {
    const file = read(keyText({ grant: '' }))
    expect([file.hint, hintOf(file)]).toEqual([undefined, null])
  })

  it.each([
    ['services = ["22/tcp"]', { services: [{ port: 22, protocol: 'tcp' }], max: null }],
    ['max = "30m"', { services: null, max: 1800 }],
  ])('may tell one of both: %s', (entry, hint) => {
    const file = read(keyText({ more: `${entry}\n`, grant: '' }))
    expect(file.hint).toEqual(hint)
    expect(read(formatKeyFile(file)).hint).toEqual(hint)
  })

  it.each([
    ['services', 'services = ["22"]', 'a service such as "22/tcp"'],
    ['services', 'services = []', 'at least one service'],
    ['max', 'max = "0s"', 'a duration such as "15m"'],
  ])('is refused where its hint is none: %s in %s', (name, entry, expected) => {
    expect(faultsOf(keyText({ more: `${entry}\n`, grant: '' }))).toEqual([
      expect.stringContaining(`${PATH}:4: "${name}" expected ${expected}`),
    ])
  })

  it('is no server’s: beside a grant, a hint would be taken for part of it', () => {
    expect(faultsOf(keyText({ more: HINTS }))).toEqual([
      `${PATH}:4: "services" must be inside [grant]`,
      `${PATH}:5: "max" must be inside [grant]`,
    ])
  })
})

describe('a key file', () => {
  const date = fc.date({ min: new Date('0001-01-01T00:00:00Z'), max: new Date('9999-12-31T23:59:59Z'), noInvalidDate: true })
  const instant = date.map((at) => at.getTime())
  const grants = fc.record({
    services: fc.array(fc.record({ port: fc.integer({ min: 1, max: 65535 }), protocol: fc.constantFrom('tcp', 'udp') }), {
      minLength: 1,
      maxLength: 64,
    }),
    max: fc.integer({ min: 1, max: 0xffffff }),
    addresses: fc
      .array(fc.constantFrom('0.0.0.0/0', '::/0', '198.51.100.7/32', '10.0.0.0/8', '2001:db8::/32', 'fe80::1/128'))
      .map((blocks) => blocks.flatMap((block) => parseCidr(block) ?? [])),
    bindSource: fc.boolean(),
    requireAddress: fc.boolean(),
    allowUntilClosed: fc.boolean(),
    lock: fc.boolean(),
    openPrefix: fc.constant(32),
    openPrefix6: fc.constant(128),
  })
  const keys = fc
    .record({
      secret: fc.uint8Array({ minLength: 32, maxLength: 32 }),
      server: fc.string({ unit: 'binary', maxLength: 60 }).filter((label) => !label.includes('\0')),
      period: fc.integer({ min: 10, max: 300 }),
      pool: fc.constantFrom('49152-65535', '20000-25635,40000-45635', '1-65535', '9,20000-40000').map(parsePool),
    })
    .map(deriveKey)
  const files: fc.Arbitrary<KeyFile> = fc.record({
    id: fc.stringMatching(KEY_ID),
    key: keys,
    created: instant,
    expires: fc.option(instant),
    revoked: fc.option(instant),
    host: fc.option(fc.string({ minLength: 1 })),
    grant: fc.option(grants),
  })

  it('comes back from its text', () => {
    fc.assert(
      fc.property(files, (file) => {
        expect(plain(read(formatKeyFile(file)))).toEqual(plain(file))
      }),
    )
  })

  it('says in its first line that it is secret', () => {
    expect(formatKeyFile(read(keyText())).split('\n')[0]).toMatch(/^# .*0600/)
  })

  it('gives all that it says', () => {
    expect(plain(read(LINES.join('\n')))).toEqual({
      id: 'alice',
      secret: bytesToHex(read(keyText()).key.secret),
      server: 'gate.example',
      period: 30,
      pool: '49152-65535',
      created: Date.UTC(2026, 0, 2, 3, 4, 5),
      expires: Date.UTC(2027, 0, 2, 3, 4, 5),
      revoked: Date.UTC(2026, 5, 2, 3, 4, 5),
      host: 'gate.example',
      grant: {
        services: [
          { port: 22, protocol: 'tcp' },
          { port: 53, protocol: 'udp' },
        ],
        max: 1800,
        addresses: ['198.51.100.0/24', '2001:db8::/32'],
        bindSource: false,
        requireAddress: true,
        allowUntilClosed: true,
        lock: true,
        openPrefix: 24,
        openPrefix6: 56,
      },
    })
  })

  it('has the documented defaults', () => {
    const file = plain(read(keyText()))
    expect(file).toMatchObject({ period: 30, pool: '49152-65535', created: 0, expires: null, revoked: null, host: null })
  })

  it('has the documented defaults in its grant', () => {
    expect(plain(read(keyText())).grant).toEqual({
      services: [{ port: 22, protocol: 'tcp' }],
      max: 3600,
      addresses: ['0.0.0.0/0', '::/0'],
      bindSource: true,
      requireAddress: false,
      allowUntilClosed: false,
      lock: false,
      openPrefix: 32,
      openPrefix6: 128,
    })
  })

  it('is a client’s copy without a grant', () => {
    expect(read(keyText({ grant: '' })).grant).toBeNull()
  })

  it.each([
    ['lower case', SECRET.toLowerCase()],
    ['mixed case', SECRET.replace(/[A-M]/g, (letter) => letter.toLowerCase())],
    ['padding', `${SECRET}====`],
    ['lower case and padding', `${SECRET.toLowerCase()}====`],
  ])('may have its secret in %s', (_, secret) => {
    expect(bytesToHex(read(keyText({ secret })).key.secret)).toBe(bytesToHex(read(keyText()).key.secret))
  })

  it('may have several ranges in its pool', () => {
    const more = 'pool = "40000-45635, 20000-25635"\n'
    expect(formatPool(read(keyText({ more })).key.pool)).toBe('20000-25635,40000-45635')
  })

  it.each([
    ['2026-01-02T03:04:05Z', '2026-01-02T03:04:05.000Z'],
    ['2026-01-02T03:04:05+01:30', '2026-01-02T01:34:05.000Z'],
    ['2026-01-02T03:04:05-08:00', '2026-01-02T11:04:05.000Z'],
    ['2026-01-02 03:04:05.250Z', '2026-01-02T03:04:05.250Z'],
  ])('may expire at %s', (text, instant) => {
    expect(read(keyText({ more: `expires = ${text}\n` })).expires).toBe(Date.parse(instant))
  })

  it.each(['a', 'A1', '0', 'al.ice_2-b', 'x'.repeat(32)])('may have the id %s', (id) => {
    expect(read(keyText({ id })).id).toBe(id)
  })

  it.each([
    ['no label', ''],
    ['a label of 255 bytes', 'é'.repeat(127).concat('x')],
  ])('may have %s', (_, server) => {
    expect(read(keyText({ server })).key.server).toBe(server)
  })
})

describe('a fault in a key file', () => {
  it.each([
    ['id', 'id = ""', /expected 1 to 32 letters.*, got ""$/],
    ['id', 'id = "../alice"', /expected 1 to 32 letters.*, got "\.\.\/alice"$/],
    ['id', 'id = ".alice"', /expected 1 to 32 letters.*, got "\.alice"$/],
    ['id', 'id = "al ice"', /expected 1 to 32 letters.*, got "al ice"$/],
    ['id', `id = "${'x'.repeat(33)}"`, /expected 1 to 32 letters.*, got "x{33}"$/],
    ['id', 'id = 7', /expected a string, got 7$/],
    ['server', `server = "${'é'.repeat(128)}"`, /expected at most 255 bytes of valid UTF-8 without NUL, got "/],
    ['server', 'server = "ga\\u0000te"', /expected at most 255 bytes of valid UTF-8 without NUL, got "/],
    ['server', 'server = true', /expected a string, got true$/],
    ['period', 'period = 9', /expected 10 or more, got 9$/],
    ['period', 'period = 301', /expected 300 or less, got 301$/],
    ['period', 'period = 30.5', /expected a whole number, got 30\.5$/],
    ['period', 'period = "30"', /expected a number, got "30"$/],
    ['open_prefix', 'open_prefix = 15', /expected a whole number from 16 to 32, got 15$/],
    ['open_prefix', 'open_prefix = 33', /expected a whole number from 16 to 32, got 33$/],
    ['open_prefix', 'open_prefix = "24"', /expected a number, got "24"$/],
    ['open_prefix6', 'open_prefix6 = 47', /expected a whole number from 48 to 128, got 47$/],
    ['open_prefix', 'open_prefix = 23', /expected at least 24, as there is 198\.51\.100\.0\/24 in addresses, got 23$/],
    ['pool', 'pool = "49152-65535,"', /expected port ranges such as .*, got "/],
    ['pool', 'pool = "1-11271"', /expected at least 11272 ports, got /],
    ['pool', 'pool = 49152', /expected a string, got 49152$/],
    ['created', 'created = "2026-01-02"', /expected an offset date-time.*, got "2026-01-02"$/],
    ['expires', 'expires = 1767322445', /expected an offset date-time.*, got 1767322445$/],
    ['revoked', 'revoked = true', /expected an offset date-time.*, got true$/],
    ['host', 'host = ""', /expected a host name or address, got ""$/],
    ['services', 'services = []', /expected at least one service, got \[\]$/],
    ['services', 'services = "22/tcp"', /expected an array, got "22\/tcp"$/],
    ['services', 'services = ["22"]', /expected a service such as "22\/tcp", got "22"$/],
    ['services', 'services = ["0/tcp"]', /expected a service such as "22\/tcp", got "0\/tcp"$/],
    ['services', 'services = ["65536/tcp"]', /expected a service such as "22\/tcp", got "65536\/tcp"$/],
    ['services', 'services = ["22/sctp"]', /expected a service such as "22\/tcp", got "22\/sctp"$/],
    ['max', 'max = "1w"', /expected a duration such as .*, got "1w"$/],
    ['max', 'max = "0s"', /expected a duration such as .*, got "0s"$/],
    ['max', 'max = "16777216s"', /expected a duration such as .*, got "16777216s"$/],
    ['max', 'max = 3600', /expected a string, got 3600$/],
    ['addresses', 'addresses = ["198.51.100.1/24"]', /expected an address or a block .*, got "198\.51\.100\.1\/24"$/],
    ['addresses', 'addresses = ["everybody"]', /expected an address or a block .*, got "everybody"$/],
    ['bind_source', 'bind_source = "no"', /expected true or false, got "no"$/],
    ['require_address', 'require_address = 1', /expected true or false, got 1$/],
    ['allow_until_closed', 'allow_until_closed = []', /expected true or false, got \[\]$/],
    ['lock', 'lock = "yes"', /expected true or false, got "yes"$/],
  ])('in %s (%s) is one line with its place', (name, line, message) => {
    const faults = faultsOf(replaced(name, line))
    expect(faults).toEqual([expect.stringMatching(message)])
    expect(faults[0]).toMatch(new RegExp(`^${PATH}:${lineOf(name)}: "(grant\\.)?${name}" expected [^\n]*$`))
  })

  it.each(['created', 'expires', 'revoked'])('is a date-time without an offset in %s', (name) => {
    const faults = ['2026-01-02T03:04:05', '2026-01-02', '03:04:05'].flatMap((at) => faultsOf(replaced(name, `${name} = ${at}`)))
    expect(faults).toEqual(
      Array(3).fill(expect.stringContaining(`${PATH}:${lineOf(name)}: "${name}" expected an offset date-time`)),
    )
  })

  it.each(['id', 'secret', 'server'])('is a missing %s', (name) => {
    expect(faultsOf(replaced(name, ''))).toEqual([expect.stringMatching(`^${PATH}:1: "${name}" is missing$`)])
  })

  it('is a grant without services, on the line of its table', () => {
    const faults = faultsOf(replaced('services', ''))
    expect(faults).toEqual([expect.stringMatching(`^${PATH}:${lineOf('[grant]')}: "grant.services" is missing$`)])
  })

  it.each([
    ['at the top', 'host', 'hosts = ["gate.example"]', 'hosts'],
    ['in the grant', 'lock', 'locks = true', 'grant.locks'],
  ])('is an unknown key %s', (_, name, line, key) => {
    expect(faultsOf(replaced(name, line))).toEqual([`${PATH}:${lineOf(name)}: unknown entry "${key}"`])
  })

  it('is an unknown table', () => {
    expect(faultsOf(`${LINES.join('\n')}\n[password]\npin = "1234"`)).toEqual([
      `${PATH}:${LINES.length + 1}: unknown entry "password"`,
    ])
  })

  it('does not hide the others', () => {
    const faults = faultsOf(replaced('period', 'period = 9').replace('max = "30m"', 'max = "30"').replace('"alice"', '"-"'))
    expect(faults.map((fault) => fault.split(': ')[0])).toEqual([2, 5, 13].map((line) => `${PATH}:${line}`))
  })

  it('of syntax has its line', () => {
    expect(faultsOf(replaced('period', 'period = = 30'))).toEqual([
      expect.stringMatching(new RegExp(`^${PATH}:${lineOf('period')}: [^\n]+$`)),
    ])
  })

  it.each([
    ['an empty file', ''],
    ['two keys of one name', `${LINES.join('\n')}\n[grant]\nlock = true`],
    ['another format', '{"id": "alice"}'],
    ['a private key of another program', '-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEA\n'],
  ])('is %s', (_, text) => {
    expect(faultsOf(text)[0]).toMatch(new RegExp(`^${PATH}:\\d+: [^\n]+$`))
  })
})

describe('a fault with the secret', () => {
  it.each([
    ['one letter short', `"${SECRET.slice(0, -2)}"`],
    ['one byte long', `"${SECRET.slice(0, -1)}AAA"`],
    ['two of them', `"${SECRET}${SECRET}"`],
    ['a digit that base32 has not', `"${SECRET.slice(0, -1)}1"`],
    ['a space', `"${SECRET.slice(0, 26)} ${SECRET.slice(26)}"`],
    ['padding in the middle', `"${SECRET.slice(0, 26)}=${SECRET.slice(26)}"`],
    ['bits behind its end', `"${SECRET.slice(0, -1)}B"`],
    ['hexadecimal', `"${'0f'.repeat(32)}"`],
    ['empty', '""'],
    ['an array', `["${SECRET}"]`],
    ['a table', `{ base32 = "${SECRET}" }`],
    ['a number', '7'],
  ])('(%s) names its line and shows nothing of it', (_, value) => {
    expect(faultsOf(replaced('secret', `secret = ${value}`))).toEqual([
      expect.stringMatching(
        new RegExp(
          `^${PATH}:${lineOf('secret')}: "secret" expected (base32 of 32 bytes|a string), got something else \\(not shown\\)$`,
        ),
      ),
    ])
  })

  it.each([
    ['no quotes', `secret = ${SECRET}`],
    ['no closing quote', `secret = "${SECRET}`],
    ['no opening quote', `secret = ${SECRET}"`],
    ['no equals sign', `secret "${SECRET}"`],
    ['a colon', `secret: "${SECRET}"`],
    ['words behind it', `secret = "${SECRET}" for alice`],
    ['nothing but itself', SECRET],
    ['nothing but itself and its padding', `${SECRET}====`],
    ['a backslash', `secret = "${SECRET}\\q"`],
    ['itself twice', `secret = "${SECRET}"\nsecret = "${SECRET}"`],
  ])('in its syntax (%s) shows nothing of it', (_, line) => {
    const [fault, ...more] = faultsOf(replaced('secret', line))
    expect(more).toEqual([])
    expect(fault).toMatch(new RegExp(`^${PATH}:(${lineOf('secret')}|${lineOf('secret') + 1}): [^\n]+$`))
    for (let at = 0; at + 4 <= SECRET.length; at++) expect(fault).not.toContain(SECRET.slice(at, at + 4))
  })

  it('shows nothing of it, whatever has come between its letters', () => {
    const junk = fc.constantFrom('"', "'", '\\', ' ', '#', ',', '[', '{', '}', '"""', '\t', '\0', 'é', '\u2028', '\\u12', '.')
    const place = fc.nat(SECRET.length)
    fc.assert(
      fc.property(junk, place, fc.constantFrom('"', "'", '', '"""'), (what, at, quote) => {
        const secret = SECRET.slice(0, at) + what + SECRET.slice(at)
        const faults = faultsOf(replaced('secret', `secret = ${quote}${secret}${quote}`)).join()
        for (let i = 0; i + 6 <= SECRET.length; i++) expect(faults).not.toContain(SECRET.slice(i, i + 6))
      }),
    )
  })
})
