import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { armor, Encrypter, generateX25519Identity, identityToRecipient } from 'age-encryption'
import { describe, expect, it } from 'vitest'
import { readSealed, sealText } from '../../src/keys/sealed-key'
import { keyText, put, scratch } from '../system/scratch'
import { onTerminal } from '../terminal'

const PASSPHRASE = 'correct horse battery'
const TEXT = keyText()
/** What can't be read is refused by one of these. */
const REFUSED = /^stick\/a: (the age file is damaged \(|not an age file that a passphrase opens$|expected a work factor )/
const EXPORT = 'export the key again with "knockturn key export --passphrase"'
const bytesOf = (text: string) => new TextEncoder().encode(text)
const textOf = (bytes: Uint8Array | null) => bytes && new TextDecoder().decode(bytes)

/** An age file with another work factor than ours, or of another kind. */
async function sealed({ factor = 2, recipient = '' } = {}): Promise<Uint8Array> {
  const encrypter = new Encrypter()
  if (recipient) encrypter.addRecipient(recipient)
  else {
    encrypter.setPassphrase(PASSPHRASE)
    encrypter.setScryptWorkFactor(factor)
  }
  return encrypter.encrypt(TEXT)
}
/** The same with another line behind `-> scrypt`. */
const withFactor = (file: Uint8Array, factor: string) =>
  Buffer.from(
    Buffer.from(file)
      .toString('latin1')
      .replace(/^(-> scrypt \S+) .*$/m, `$1 ${factor}`),
    'latin1',
  )

describe('a key file under a passphrase', () => {
  it('comes back from its text', async () => {
    const open = await readSealed('', bytesOf(await sealText(TEXT, PASSPHRASE)))
    expect(textOf(await open(PASSPHRASE))).toBe(TEXT)
  })

  it('opens with age', async () => {
    const path = put(scratch(), 'alice.key.age', await sealText(TEXT, PASSPHRASE))
    const { shown, code } = await onTerminal(['age', '--decrypt', path], [['passphrase', `${PASSPHRASE}\r`]])
    expect(code).toBe(0)
    expect(shown.replaceAll('\r\n', '\n')).toContain(TEXT)
  })

  it('opens where age has made it', async () => {
    const folder = scratch()
    const [plain, path] = [put(folder, 'alice.key', TEXT), join(folder, 'alice.key.age')]
    const turns = ['Enter passphrase', 'Confirm passphrase'].map((prompt) => [prompt, `${PASSPHRASE}\r`] as const)
    await onTerminal(['age', '--passphrase', '--output', path, plain], turns)
    expect(textOf(await (await readSealed(path, readFileSync(path)))(PASSPHRASE))).toBe(TEXT)
  })

  it('does not open with another passphrase', async () => {
    expect(await (await readSealed('', await sealed()))(`${PASSPHRASE} `)).toBeNull()
  })
})

describe('an age file', () => {
  const fails = async (file: Uint8Array) => (await readSealed('stick/a', file))(PASSPHRASE)

  it('that is cut in its text is damaged', async () => {
    const file = await sealed()
    await expect(fails(file.subarray(0, -1))).rejects.toThrow(/^stick\/a: the age file is damaged \(/)
  })

  it('that is cut in its armour is damaged', async () => {
    const text = armor.encode(await sealed())
    await expect(fails(bytesOf(text.slice(0, -10)))).rejects.toThrow('stick/a: the age file is damaged (')
  })

  it.each([1, 20, 40, 100, 150, 180])('of which %i bytes are left opens with nothing', async (length) => {
    const file = await sealed()
    await expect(fails(file.subarray(0, length))).rejects.toThrow(REFUSED)
  })

  it('with a bit that is another is damaged, or does not open', async () => {
    const file = await sealed()
    for (let at = 0; at < file.length; at += 7) {
      const other = file.slice()
      other[at] ^= 1
      // In the header's salt or body, it is another passphrase's.
      expect(await fails(other).catch(({ message }) => REFUSED.test(message))).toSatisfy(
        (result) => result === null || result === true,
      )
    }
  })

  it.each(['20', '30', '63', '4294967296'])('that asks for a work factor of %s is refused before any work', async (factor) => {
    await expect(readSealed('stick/a', withFactor(await sealed(), factor))).rejects.toMatchObject({
      message: `stick/a: expected a work factor of at most 19, got ${factor}, which takes too long`,
      hint: EXPORT,
    })
  })

  it.each(['0', '-1', '1e1', '007', '10 10', '99999999999999999999'])(
    'whose work factor is "%s" is none of ours',
    async (factor) => {
      await expect(readSealed('stick/a', withFactor(await sealed(), factor))).rejects.toMatchObject({
        message: 'stick/a: not an age file that a passphrase opens',
        hint: EXPORT,
      })
    },
  )

  it('that is for a key of age and not under a passphrase is none of ours', async () => {
    const file = await sealed({ recipient: await identityToRecipient(await generateX25519Identity()) })
    await expect(readSealed('stick/a', file)).rejects.toThrow('stick/a: not an age file that a passphrase opens')
  })
})
