import { createHash } from 'node:crypto'
import { existsSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import type { Contents } from '../../../src/browser/contents'
import { keyText, put, scratch, secretOf } from '../../system/scratch'
import { run } from '../programs'

const PASSPHRASE = 'correct horse battery staple'

/** A keyring with one key, and a page made from it. */
async function page(
  args: string[],
  { input = `${PASSPHRASE}\n`, key = {} }: { input?: string; key?: Parameters<typeof keyText>[0] } = {},
) {
  const keys = scratch()
  put(keys, 'alice.key', keyText(key))
  const out = join(scratch(), 'knock.html')
  const outcome = await run('knockturn', ['page', ...args, '--keys', keys, '--out', out], { input })
  const text = existsSync(out) ? readFileSync(out, 'utf8') : null
  const contents: Contents | null = text && JSON.parse(/id="contents">(.*?)<\/script>/.exec(text)?.[1] ?? 'null')
  return { ...outcome, out, text, contents }
}

/** Guessed first where the page says it, and nowhere else. */
const NAME = 'zq7kvwx9htb4.example'
const HERE = ['--host', 'gate.example', '--address', '198.51.100.1,2001:DB8::1']

describe('knockturn page', () => {
  it('prints the SHA-256 of what it has written', async () => {
    const { stdout, text } = await page(['alice', ...HERE])
    const hash = createHash('sha256')
      .update(text ?? '')
      .digest('hex')
    expect(stdout.split('\n').slice(1)).toEqual([
      'next: open it in a browser, from a disk, a phone, or a web host with a name of its own',
      `SHA-256: ${hash}`,
      '',
    ])
  })

  it.each<[string, { host?: string; server?: string }]>([
    ['host', { host: NAME }],
    ['server', { server: NAME }],
  ])(
    'refuses as a passphrase the %s that the page itself says',
    async (_, { host = 'gate.example', server = 'gate.example' }) => {
      const { code, stderr, text } = await page(['alice', ...HERE, '--host', host], { input: NAME, key: { server } })
      expect([code, stderr, text]).toEqual([
        1,
        expect.stringContaining('is too easy to guess: expected at least 10^14 guesses'),
        null,
      ])
    },
  )

  it('takes that for a page that does not say it', async () => {
    expect((await page(['alice', ...HERE], { input: NAME })).code).toBe(0)
  })

  it('puts the key into a page of mode 0600, sealed', async () => {
    const { code, stderr, out, text, contents } = await page(['alice', ...HERE])
    expect([code, stderr, statSync(out).mode & 0o777]).toEqual([0, '', 0o600])
    expect(contents).toMatchObject({
      ...{ kind: 'key', host: 'gate.example', addresses: ['198.51.100.1', '2001:db8::1'], http: ['198.51.100.1'] },
      ...{
        doors: [{ port: 22, protocol: 'tcp' }],
        period: 30,
        server: 'gate.example',
        pool: '49152-65535',
        seconds: 900,
        max: 3600,
      },
    })
    expect(text).not.toContain(secretOf(1))
  })

  it("takes the key's host and the grant's services, unless it is told others", async () => {
    const key = { more: 'host = "198.51.100.7"\n', grant: 'services = ["22/tcp", "53/udp"]\nmax = "5m"' }
    const { contents, stderr } = await page(['alice'], { key })
    expect(contents).toMatchObject({ host: '198.51.100.7', addresses: ['198.51.100.7'], seconds: 300, max: 300 })
    expect(contents?.doors).toEqual([
      { port: 22, protocol: 'tcp' },
      { port: 53, protocol: 'udp' },
    ])
    expect(stderr).toBe('knockturn: warning: alice: the key opens for at most 5m: the page uses that as its time\n')
    const other = await page(['alice', ...HERE, '--services', '443/tcp', '--time', '2m'], { key })
    expect(other.contents).toMatchObject({ host: 'gate.example', doors: [{ port: 443 }], seconds: 120 })
    expect(other.stderr).toBe('knockturn: warning: alice: the page offers 443/tcp, which the key may not open\n')
  })

  it('takes from a client’s copy what it tells of the grant', async () => {
    const key = { more: 'host = "198.51.100.7"\nservices = ["53/udp"]\nmax = "5m"\n', grant: '' }
    const { contents } = await page(['alice'], { key })
    expect(contents).toMatchObject({ doors: [{ port: 53, protocol: 'udp' }], max: 300 })
  })

  it.each([
    ['--passcode-base', 'as knockclient calls it'],
    ['--base', 'as 0.1.0 called it'],
  ])('makes a page for passcodes, without a key or a passphrase: %s, %s', async (base) => {
    const { code, contents } = await page(['--passcode', ...HERE, base, '47000', '--pin-digits', '0'], { input: '' })
    expect([code, contents]).toEqual([0, expect.objectContaining({ kind: 'passcode', base: 47_000, pinDigits: 0, period: 30 })])
    expect(contents).not.toHaveProperty('sealed')
  })

  it('takes spaces behind the commas of a list', async () => {
    const lists = ['--address', '198.51.100.1, 2001:db8::1', '--services', '22/tcp, 443:tcp']
    expect((await page(['alice', ...HERE, ...lists])).contents).toMatchObject({
      addresses: ['198.51.100.1', '2001:db8::1'],
      doors: [{ port: 22 }, { port: 443 }],
    })
  })

  it('knocks by one family for passcodes, since a code is good once', async () => {
    const both = ['--passcode', '--host', 'gate.example', '--address', '2001:db8::1,198.51.100.1']
    const { contents, stderr } = await page(both, { input: '' })
    expect(contents).toMatchObject({ addresses: ['198.51.100.1'], http: ['198.51.100.1'] })
    expect(stderr).toMatch(/^knockturn: note: the page knocks by IPv4 only: [^\n]*\n$/)
  })

  it.each<[string, string[], object, number, RegExp]>([
    [
      'no key',
      [...HERE],
      {},
      2,
      /no key named\nhint: name the key to put into the page, or add --passcode for a page without one/,
    ],
    [
      'a key with --passcode',
      ['alice', '--passcode', ...HERE],
      {},
      2,
      /--passcode makes a page without a key, and a key was named\nhint: leave out "alice", or leave out --passcode/,
    ],
    ['no host', ['alice'], {}, 2, /no server to knock at\nhint: add --host <host>/],
    [
      'a host that is none',
      ['alice', '--host', 'gate;x'],
      {},
      2,
      /--host expected a host name or an address, without port or brackets, got "gate;x"/,
    ],
    ['an address that is none', ['alice', '--address', 'gate'], {}, 2, /--address expected IP addresses such as .*, got "gate"/],
    [
      'a passphrase that is guessed soon',
      ['alice', ...HERE],
      { input: 'short\n' },
      1,
      /the passphrase is too easy to guess: expected at least 10\^14 guesses/,
    ],
    ['no passphrase', ['alice', ...HERE], { input: '' }, 1, /the passphrase: nothing was entered/],
    ['a key that is not there', ['bob', ...HERE], {}, 1, /no key "bob" \(there are: alice\)/],
    [
      'a revoked key',
      ['alice', ...HERE],
      { key: { more: 'revoked = 2026-01-01T00:00:00Z\n' } },
      1,
      /the key alice is revoked\nhint: make a new key with "knockturn key new"/,
    ],
  ])('with %s writes nothing and says why', async (_, args, how, status, fault) => {
    const { code, stderr, text } = await page(args, how)
    expect([code, text]).toEqual([status, null])
    expect(stderr).toMatch(/^knockturn: error: .*\n(hint: .*\n)?$/)
    expect(stderr).toMatch(fault)
  })
})
