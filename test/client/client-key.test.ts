import { chmodSync, closeSync, fstatSync, mkdirSync, openSync } from 'node:fs'
import { join } from 'node:path'
import { armor } from 'age-encryption'
import { describe, expect, it } from 'vitest'
import { findClientKey, loadClientKey, onlyClientKey, readKeyFrom } from '../../src/client/client-key'
import { keyText, put, scratch } from '../system/scratch'

const INTRO = 'age-encryption.org/v1\n'
/** An age file that is told from all others by its fault: it asks for a passphrase, and for too much work. */
const HARD = `${INTRO}-> scrypt AAAAAAAAAAAAAAAAAAAAAA 42\n`
const ARMOURED = armor.encode(Buffer.from(HARD))
const TOLD = 'expected a work factor of at most 19, got 42'

/** Opens a file, and has its descriptor read. */
const readOpen = (path: string) => readKeyFrom(openSync(path, 'r'))

describe('a plain key', () => {
  it('is read where it is the owner’s alone', async () => {
    expect(await loadClientKey(put(scratch(), 'a', keyText()))).toMatchObject({ id: 'alice' })
  })

  it('that others may read is refused, with what to do on a stick', async () => {
    const path = put(scratch(), 'a', keyText(), 0o755)
    await expect(loadClientKey(path)).rejects.toMatchObject({
      message: `${path}: expected mode 0600, got 0755`,
      hint: `run "chmod 600 ${path}"; on a USB stick, which knows no modes, use a key exported with --passphrase`,
    })
  })

  it('that is too long is refused', async () => {
    const path = put(scratch(), 'a', 'x'.repeat(128 * 1024 + 1))
    await expect(loadClientKey(path)).rejects.toThrow(`${path}: expected at most 131072 bytes, got 131073`)
  })
})

describe('a key under a passphrase', () => {
  it.each([
    ['binary', HARD],
    ['armoured', ARMOURED],
    ['armoured, behind a line end', `\r\n${ARMOURED}`],
  ])('is known by its first bytes, whatever its name and mode (%s)', async (_, text) => {
    await expect(loadClientKey(put(scratch(), 'a', text, 0o777))).rejects.toThrow(TOLD)
  })

  it('that is too long is refused', async () => {
    const path = put(scratch(), 'a', HARD.padEnd(128 * 1024 + 1))
    await expect(loadClientKey(path)).rejects.toThrow(`${path}: expected at most 131072 bytes, got 131073`)
  })
})

describe('in the client’s keyring', () => {
  it('a name finds the plain key, and the one under a passphrase where there is no other', async () => {
    const folder = scratch()
    put(folder, 'alice.key.age', HARD)
    await expect(findClientKey(folder, 'alice')).rejects.toThrow(TOLD)
    put(folder, 'alice.key', keyText())
    expect(await findClientKey(folder, 'alice')).toMatchObject({ id: 'alice' })
  })

  it('a path, as a profile has it, finds the one under a passphrase, too', async () => {
    const folder = scratch()
    put(folder, 'alice.key.age', HARD)
    await expect(loadClientKey(join(folder, 'alice.key'))).rejects.toThrow(TOLD)
    put(folder, 'alice.key', keyText())
    expect(await loadClientKey(join(folder, 'alice.key'))).toMatchObject({ id: 'alice' })
  })

  it('the only key is found, of either kind', async () => {
    const folder = scratch()
    put(folder, 'alice.key.age', HARD)
    await expect(onlyClientKey(folder)).rejects.toThrow(TOLD)
    put(folder, 'bob.key', keyText({ id: 'bob' }))
    await expect(onlyClientKey(folder)).rejects.toThrow(`${folder}: there are several keys (bob, alice)`)
  })

  it('a name that nobody has is a fault', async () => {
    await expect(findClientKey(scratch(), 'alice')).rejects.toThrow('no key "alice" (there are none)')
  })
})

describe('a descriptor', () => {
  it('gives a plain key, whatever its file’s mode, and is closed', async () => {
    const fd = openSync(put(scratch(), 'a', keyText(), 0o644), 'r')
    expect(await readKeyFrom(fd)).toMatchObject({ id: 'alice' })
    expect(() => fstatSync(fd)).toThrow('EBADF')
  })

  it('gives a key under a passphrase', async () => {
    await expect(readOpen(put(scratch(), 'a', HARD))).rejects.toThrow(`: ${TOLD}`)
  })

  it('with more than a key can be is refused', async () => {
    await expect(readOpen(put(scratch(), 'a', 'x'.repeat(200_000)))).rejects.toThrow('expected at most 131072 bytes, got more')
  })

  it.each([
    ['other than UTF-8', Buffer.from([0xff]), 'is not UTF-8 text'],
    ['nothing', '', '"id" is missing'],
  ])('that has %s is refused', async (_, content, fault) => {
    await expect(readOpen(put(scratch(), 'a', content))).rejects.toThrow(fault)
  })

  it('that is closed is refused', async () => {
    const fd = openSync(put(scratch(), 'a', keyText()), 'r')
    closeSync(fd)
    await expect(readKeyFrom(fd)).rejects.toMatchObject({
      message: `--key-fd ${fd}: cannot be read: EBADF: bad file descriptor, fstat`,
      hint: `open a key there, as in "--key-fd ${fd} ${fd}< alice.key"`,
    })
  })

  it('of a folder is refused', async () => {
    const folder = join(scratch(), 'folder')
    mkdirSync(folder)
    chmodSync(folder, 0o700)
    const fd = openSync(folder, 'r')
    await expect(readKeyFrom(fd)).rejects.toThrow('neither a file nor a pipe is open there')
    closeSync(fd)
  })
})
