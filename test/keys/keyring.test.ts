import { execFileSync } from 'node:child_process'
import { chmodSync, chownSync, mkdirSync, readFileSync, type Stats, statSync, symlinkSync, utimesSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { parseKeyFile } from '../../src/keys/key-file'
import { addKey, clientKeys, loadKeyFile, readKeyring, revokeKey } from '../../src/keys/keyring'
import { writePasscode } from '../../src/keys/passcode-table'
import { Fault, inOneLine } from '../../src/system/fault'
import { checkPrivate } from '../../src/system/files'
import { keyText, put, scratch, secretOf } from '../system/scratch'

/** The fault that a promise is rejected with, in one line; anything else fails. */
async function faultOf(promise: Promise<unknown>): Promise<string> {
  const error = await promise.then(
    () => new Error('expected a fault, and there is none'),
    (reason) => reason,
  )
  if (!(error instanceof Fault)) throw error
  return inOneLine(error)
}
const faultyOf = async (folder: string) => (await readKeyring(folder)).faulty.flatMap(({ faults }) => faults.map(inOneLine))

function parsed(text: string) {
  const { value } = parseKeyFile('', text)
  if (!value) throw new Error('the test’s own key is faulty')
  return value
}

describe('a key file', () => {
  it.each([0o644, 0o640, 0o604, 0o660, 0o601, 0o777])('of mode %o is refused with the remedy', async (mode) => {
    const path = put(scratch(), 'alice.key', keyText(), mode)
    expect(await faultOf(loadKeyFile(path))).toBe(
      `${path}: expected mode 0600, got 0${mode.toString(8)}: run "chmod 600 ${path}"`,
    )
  })

  it.each([0o600, 0o400])('of mode %o is read', async (mode) => {
    expect((await loadKeyFile(put(scratch(), 'alice.key', keyText(), mode))).id).toBe('alice')
  })

  it('is read by itself in a folder that others may list', async () => {
    const folder = scratch()
    const path = put(folder, 'alice.key', keyText())
    chmodSync(folder, 0o755)
    expect((await loadKeyFile(path)).id).toBe('alice')
  })

  it.each([
    ['a folder', (path: string) => mkdirSync(path, 0o700)],
    ['a pipe', (path: string) => execFileSync('mkfifo', ['-m', '600', path])],
    ['a link to a device', (path: string) => symlinkSync('/dev/zero', path)],
  ])('that is %s is refused at once', async (_, make) => {
    const path = join(scratch(), 'alice.key')
    make(path)
    expect(await faultOf(loadKeyFile(path))).toBe(`${path}: is not a regular file`)
  })

  it('that is a link to nothing is refused', async () => {
    const path = join(scratch(), 'alice.key')
    symlinkSync(`${path}.gone`, path)
    expect(await faultOf(loadKeyFile(path))).toMatch(/^\S+alice\.key: cannot be read: ENOENT/)
  })

  it('that is a link is judged by what it links to', async () => {
    const folder = scratch()
    symlinkSync(put(folder, 'shared', keyText(), 0o644), join(folder, 'alice.key'))
    expect(await faultOf(loadKeyFile(join(folder, 'alice.key')))).toContain('expected mode 0600, got 0644')
  })

  it('may have 64 KiB', async () => {
    const path = put(scratch(), 'alice.key', keyText().padEnd(65_536, '\n'))
    expect((await loadKeyFile(path)).id).toBe('alice')
  })

  it('must not have more than 64 KiB', async () => {
    const path = put(scratch(), 'alice.key', keyText().padEnd(65_537, '\n'))
    expect(await faultOf(loadKeyFile(path))).toBe(`${path}: expected at most 65536 bytes, got 65537`)
  })

  it.each([
    ['half a character', [0xc3]],
    ['Latin-1', [0xe9]],
    ['half a surrogate pair', [0xed, 0xa0, 0x80]],
  ])('must be UTF-8, not %s', async (_, bytes) => {
    const path = put(
      scratch(),
      'alice.key',
      Buffer.concat([Buffer.from('# '), Buffer.from(bytes), Buffer.from(`\n${keyText()}`)]),
    )
    expect(await faultOf(loadKeyFile(path))).toBe(`${path}: is not UTF-8 text`)
  })
})

describe('an owner', () => {
  const owned = (by: number) => ({ mode: 0o100600, uid: by }) as Stats
  beforeEach(() => {
    vi.spyOn(process, 'geteuid').mockReturnValue(1000)
  })
  afterEach(() => {
    vi.restoreAllMocks()
  })

  it('who is somebody else is refused with the remedy', () => {
    expect(() => checkPrivate('/k', owned(1001), 0o600)).toThrow(
      expect.objectContaining({
        message: '/k: expected owner 1000 (you) or root, got 1001',
        hint: 'run this as that user or as root; or, to make it yours, run as root "chown 1000 /k", then "chmod 600 /k"',
      }),
    )
  })

  it.each([
    ['is this user', 1000],
    ['is root', 0],
  ])('who %s is fine', (_, by) => {
    expect(() => checkPrivate('/k', owned(by), 0o600)).not.toThrow()
  })
})

// Only root can give files away.
if (process.getuid?.() === 0) {
  describe('an owner, as root sees it,', () => {
    it('is looked at when a key is read', async () => {
      const path = put(scratch(), 'alice.key', keyText())
      chownSync(path, 65_534, 65_534)
      expect(await faultOf(loadKeyFile(path))).toContain('expected owner 0 (you) or root, got 65534')
    })

    it('is looked at when a keyring is read', async () => {
      const folder = scratch()
      chownSync(folder, 65_534, 65_534)
      expect(await faultOf(readKeyring(folder))).toContain('expected owner 0 (you) or root, got 65534')
    })
  })
}

describe('a keyring', () => {
  it.each([0o755, 0o750, 0o711, 0o707])('of mode %o is refused with the remedy', async (mode) => {
    const folder = scratch()
    chmodSync(folder, mode)
    const message = `${folder}: expected mode 0700, got 0${mode.toString(8)}: run "chmod 700 ${folder}"`
    expect(await faultOf(readKeyring(folder))).toBe(message)
  })

  it('that is missing is refused with the remedy', async () => {
    const folder = join(scratch(), 'keys')
    expect(await faultOf(readKeyring(folder))).toMatch(
      /keys: the keyring cannot be read: ENOENT.*: make a key with "knockturn key new"$/,
    )
  })

  it('has its keys in the order of their names', async () => {
    const folder = scratch()
    for (const id of ['zoe', 'alice', 'bob']) put(folder, `${id}.key`, keyText({ id }))
    expect((await readKeyring(folder)).keys.map(({ id }) => id)).toEqual(['alice', 'bob', 'zoe'])
  })

  it('names the files that are no keys, whatever is in them', async () => {
    const folder = scratch()
    const others = ['.hidden.key', 'alice.key.bak', 'alice.key~', 'notes']
    for (const name of others) put(folder, name, keyText(), 0o644)
    expect((await readKeyring(folder)).ignored).toEqual(others.sort().map((name) => join(folder, name)))
  })

  it('may have the companions of a checkout', async () => {
    const folder = scratch()
    for (const name of ['README.md', '.gitignore']) put(folder, name, '', 0o644)
    expect(await readKeyring(folder)).toEqual({ keys: [], faulty: [], ignored: [] })
  })

  it('has no key under another’s name', async () => {
    const folder = scratch()
    const path = put(folder, 'bob.key', keyText({ id: 'alice' }))
    expect(await readKeyring(folder)).toMatchObject({ keys: [] })
    expect(await faultyOf(folder)).toEqual([`${path}: id expected "bob", got "alice": rename the file to alice.key`])
  })

  it('has its good keys in spite of the bad ones', async () => {
    const folder = scratch()
    put(folder, 'alice.key', keyText({ id: 'alice' }))
    put(folder, 'loose.key', keyText({ id: 'loose' }), 0o644)
    put(folder, 'broken.key', 'id = ')
    put(folder, 'binary.key', Uint8Array.of(0xff, 0xfe))
    mkdirSync(join(folder, 'folder.key'))
    execFileSync('mkfifo', ['-m', '600', join(folder, 'pipe.key')])
    symlinkSync('nowhere', join(folder, 'link.key'))
    put(folder, 'nested.key', keyText({ id: 'nested', more: `period${'.a'.repeat(20_000)} = 1\n` }))
    const { keys, faulty } = await readKeyring(folder)
    expect(keys.map(({ id }) => id)).toEqual(['alice'])
    expect(faulty.map(({ id }) => id)).toEqual(['binary', 'broken', 'folder', 'link', 'loose', 'nested', 'pipe'])
  })
})

/** A word of revocation, in ways that are no valid key file. */
const WORD = 'revoked = 2026-11-22T12:00:00Z\n'
const utf16 = (text: string) => Buffer.from(`\ufeff${text}`, 'utf16le')
const TAKEN_FOR_REVOKED: [string, string | Uint8Array][] = [
  ['beside TOML that is broken', `${WORD}id = `],
  ['in double quotes', `"revoked" = yes\n${keyText()}`],
  ['in single quotes', `'revoked' = yes\n${keyText()}`],
  ['with blanks around it', `id =\n \t revoked\t = yes\n`],
  ['behind all tables', `${keyText()}${WORD}`],
  ['with a capital letter', `Revoked = true\n${keyText()}`],
  ['without a value', `${keyText()}\nrevoked =`],
  ['with the line ends of an old Mac', `id =\rrevoked = yes\r`],
  ['beside a letter of Latin-1', Buffer.from(`# caf\xe9\n${WORD}${keyText()}`, 'latin1')],
  ['behind a letter of Latin-1', Buffer.from(`\xa0${WORD}${keyText()}`, 'latin1')],
  ['behind a byte order mark, and beside other bytes', Buffer.from(`\xef\xbb\xbf${WORD}# \xff`, 'latin1')],
  ['in UTF-16', utf16(`${WORD}${keyText()}`)],
  ['in UTF-16 further down', utf16(`${keyText()}${WORD}`)],
  ['in UTF-16 with the bytes in the other order', utf16(`${WORD}${keyText()}`).swap16()],
  ['between NULs', `id =\0\n\0re\0voked\0 = yes`],
  ['in more than 64 KiB', `${WORD}${keyText().padEnd(65_537, '\n')}`],
  ['at the end of more than 64 KiB', `${keyText().padEnd(1_000_000, '#\n')}${WORD}`],
  ['under another name', `${WORD}${keyText({ id: 'bob' })}`],
]

describe('a file that is no key', () => {
  it.each(TAKEN_FOR_REVOKED)('is taken for a revoked one with the word %s', async (_, content) => {
    const folder = scratch()
    put(folder, 'alice.key', content)
    expect((await readKeyring(folder)).faulty).toMatchObject([{ id: 'alice', revoked: true }])
  })

  it('is taken for a revoked one with the word in a file that others may read', async () => {
    const folder = scratch()
    put(folder, 'alice.key', `${WORD}${keyText()}`, 0o644)
    expect((await readKeyring(folder)).faulty).toMatchObject([{ id: 'alice', revoked: true }])
  })

  it.each([
    ['in a comment', '# revoked = yes'],
    ['in another word', 'unrevoked = yes\nrevoked_by = "me"'],
    ['in a value', 'host = "revoked = yes"'],
    ['and no equals sign', 'revoked'],
    ['beyond its first MiB', `${'#\n'.repeat(2 ** 19)}${WORD}`],
  ])('is not with the word %s', async (_, content) => {
    const folder = scratch()
    put(folder, 'alice.key', `id =\n${content}`)
    expect((await readKeyring(folder)).faulty).toMatchObject([{ id: 'alice', revoked: false }])
  })

  it.each<[string, number, (folder: string) => unknown]>([
    ['10 s where it is faulty', 10_000, (folder) => put(folder, 'alice.key', 'id = ')],
    ['10 s where it is no text', 10_000, (folder) => put(folder, 'alice.key', Uint8Array.of(0xff))],
    ['10 s where others may read it', 10_000, (folder) => put(folder, 'alice.key', keyText(), 0o644)],
    ['10 s where it is a folder', 10_000, (folder) => mkdirSync(join(folder, 'alice.key'))],
    ['none where it is too long', 0, (folder) => put(folder, 'alice.key', keyText().padEnd(65_537, '\n'))],
    ['none where it is a link to nothing', 0, (folder) => symlinkSync('nowhere', join(folder, 'alice.key'))],
    ['no end where it cannot be read', Infinity, (folder) => symlinkSync('/proc/self/mem', join(folder, 'alice.key'))],
  ])('has a grace of %s', async (_, grace, make) => {
    const folder = scratch()
    make(folder)
    expect((await readKeyring(folder)).faulty).toMatchObject([{ id: 'alice', grace }])
  })
})

describe('the client’s keyring', () => {
  it('is where XDG_CONFIG_HOME says', () => {
    const before = process.env.XDG_CONFIG_HOME
    process.env.XDG_CONFIG_HOME = '/xdg'
    try {
      expect(clientKeys()).toBe('/xdg/knockturn/keys')
    } finally {
      if (before === undefined) delete process.env.XDG_CONFIG_HOME
      else process.env.XDG_CONFIG_HOME = before
    }
  })
})

describe('adding a key', () => {
  it('makes a file of mode 0600', async () => {
    const path = await addKey(scratch(), parsed(keyText()))
    expect(statSync(path).mode & 0o777).toBe(0o600)
  })

  it('makes a missing folder of mode 0700', async () => {
    const folder = join(scratch(), 'etc', 'keys')
    await addKey(folder, parsed(keyText()))
    expect(statSync(folder).mode & 0o777).toBe(0o700)
  })

  it('writes what is read back', async () => {
    const folder = scratch()
    await addKey(folder, parsed(keyText()))
    expect((await readKeyring(folder)).keys).toMatchObject([{ id: 'alice' }])
  })

  it('never writes over another', async () => {
    const folder = scratch()
    const before = '# not even a key\n'
    const path = put(folder, 'alice.key', before)
    expect(await faultOf(addKey(folder, parsed(keyText())))).toContain(`${path}: already exists and is not overwritten`)
    expect(readFileSync(path, 'utf8')).toBe(before)
  })

  it('never writes through a link', async () => {
    const folder = scratch()
    const aim = join(scratch(), 'aim')
    symlinkSync(aim, join(folder, 'alice.key'))
    expect(await faultOf(addKey(folder, parsed(keyText())))).toContain('already exists')
    expect(statSync(aim, { throwIfNoEntry: false })).toBeUndefined()
  })

  it('writes nothing into a folder that others may use', async () => {
    const folder = scratch()
    chmodSync(folder, 0o755)
    expect(await faultOf(addKey(folder, parsed(keyText())))).toContain(`run "chmod 700 ${folder}"`)
    expect(statSync(join(folder, 'alice.key'), { throwIfNoEntry: false })).toBeUndefined()
  })
})

describe('revoking a key', () => {
  const AT = Date.UTC(2026, 10, 22, 12)
  const text = `# mine\n${keyText({ more: 'host = "gate.example" # the door\n' })}# the end`

  it('adds the date and leaves the rest byte for byte', async () => {
    const folder = scratch()
    const path = put(folder, 'alice.key', text)
    await revokeKey(folder, 'alice', AT)
    expect(readFileSync(path, 'utf8')).toBe(`revoked = 2026-11-22T12:00:00Z\n${text}`)
  })

  it('leaves a key that says when', async () => {
    const folder = scratch()
    const path = put(folder, 'alice.key', text)
    await revokeKey(folder, 'alice', AT)
    expect((await loadKeyFile(path)).revoked).toBe(AT)
  })

  it('leaves a file of mode 0600', async () => {
    const folder = scratch()
    const path = put(folder, 'alice.key', text)
    await revokeKey(folder, 'alice', AT)
    expect(statSync(path).mode & 0o777).toBe(0o600)
  })

  it('twice keeps the first date', async () => {
    const folder = scratch()
    const path = put(folder, 'alice.key', text)
    await revokeKey(folder, 'alice', AT)
    const once = readFileSync(path, 'utf8')
    expect(await revokeKey(folder, 'alice', AT + 60_000)).toBe(AT)
    expect(readFileSync(path, 'utf8')).toBe(once)
  })

  it('leaves nothing else behind', async () => {
    const folder = scratch()
    put(folder, 'alice.key', text)
    await revokeKey(folder, 'alice', AT)
    expect((await readKeyring(folder)).ignored).toEqual([])
  })

  it.each([65_536, 65_506, 65_505])('of %i bytes is seen by a daemon', async (length) => {
    const folder = scratch()
    put(folder, 'alice.key', keyText().padEnd(length, '\n'))
    await revokeKey(folder, 'alice', AT)
    const { keys, faulty } = await readKeyring(folder)
    expect([keys[0]?.revoked === AT, faulty[0]?.revoked]).toEqual(length > 65_505 ? [false, true] : [true, undefined])
  })

  it('fails where the daemon reads nothing in the folder, and says why', async () => {
    const folder = scratch()
    put(folder, 'alice.key', text)
    chmodSync(folder, 0o755)
    expect(await faultOf(revokeKey(folder, 'alice', AT))).toBe(
      `the daemon does not see that alice is revoked: ${folder}: expected mode 0700, got 0755: run "chmod 700 ${folder}"`,
    )
  })

  it('is not lost to a passcode that is written at the same time, nor the other way round', async () => {
    const passcode = { pin: '0417', services: [{ port: 22, protocol: 'tcp' as const }], seconds: 60, once: true }
    for (let i = 0; i < 20; i++) {
      const folder = scratch()
      put(folder, 'alice.key', keyText({ id: 'alice' }))
      await Promise.all([revokeKey(folder, 'alice', AT), writePasscode(folder, 'alice', passcode)])
      const { keys } = await readKeyring(folder)
      expect(keys.map((key) => [key.revoked, key.passcode?.pin])).toEqual([[AT, '0417']])
    }
  })

  it('is not stopped by what a killed revocation left behind', async () => {
    const folder = scratch()
    put(folder, 'alice.key', text)
    put(folder, 'alice.key.new', 'revoked = 20')
    utimesSync(join(folder, 'alice.key.new'), 0, 0)
    expect(await revokeKey(folder, 'alice', AT)).toBe(AT)
  })

  it.each([
    ['is missing', undefined, 0o600, /no key "alice" \(there are none\): make a key with "knockturn key new"$/],
    ['others may read', text, 0o644, /expected mode 0600, got 0644/],
    ['is no key', 'id = ', 0o600, /alice\.key:1: /],
  ])('refuses a file that %s', async (_, content, mode, message) => {
    const folder = scratch()
    if (content !== undefined) put(folder, 'alice.key', content, mode)
    expect(await faultOf(revokeKey(folder, 'alice', AT))).toMatch(message)
  })

  it('leaves a faulty file as it was', async () => {
    const folder = scratch()
    const path = put(folder, 'alice.key', `secret = "${secretOf(1)}`)
    await faultOf(revokeKey(folder, 'alice', AT))
    expect(readFileSync(path, 'utf8')).toBe(`secret = "${secretOf(1)}`)
  })
})

describe('writing a passcode', () => {
  const PASSCODE = { pin: '0417', services: [{ port: 22, protocol: 'tcp' as const }], seconds: 60, once: true }

  it('into a file that would be too long by that is refused, and leaves the file as it was', async () => {
    const folder = scratch()
    const before = `${keyText().padEnd(65_535, '#')}\n`
    const path = put(folder, 'alice.key', before)
    expect(await faultOf(writePasscode(folder, 'alice', PASSCODE))).toMatch(
      /alice\.key: expected at most 65536 bytes, got 65\d{3}$/,
    )
    expect(readFileSync(path, 'utf8')).toBe(before)
  })

  it.each([
    ['the daemon does not see the new passcode of alice', PASSCODE],
    ['the daemon still sees a passcode of alice', null],
  ])('fails where the daemon reads nothing in the folder: %s', async (unseen, passcode) => {
    const folder = scratch()
    put(folder, 'alice.key', keyText())
    await writePasscode(folder, 'alice', PASSCODE)
    chmodSync(folder, 0o755)
    expect(await faultOf(writePasscode(folder, 'alice', passcode))).toMatch(`${unseen}: ${folder}: expected mode 0700`)
  })
})
