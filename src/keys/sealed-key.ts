import { Fault, reason } from '../system/fault'

/*
 * A key file in an age file (age-encryption.org/v1), under a passphrase: what may lie on a USB stick. The same file opens with age(1).
 * age-encryption is heavy: loaded only where there is such a file.
 */

/**
 * scrypt's work factor (log2 N). Each knock waits for it, in JavaScript: 16 takes 64 MB and 0.3 to 0.9 s here, age's own 18 takes 256 MB,
 * too much for a phone's browser, and 1.8 to 3.6 s. The two steps are worth 2 bits: less than one more letter in the passphrase.
 */
const WORK_FACTOR = 16
/** Highest work factor of a file that is read: age(1) writes 18. This takes 512 MB and 4 to 8 s, and every further step twice that. */
const MAX_WORK_FACTOR = 19
const INTRO = 'age-encryption.org/v1\n'
/** Bytes in which the lines below stand. */
const HEADER = 256
/** The header of a file under a passphrase: one stanza, `-> scrypt SALT LOG_N`. */
const SCRYPT = /^age-encryption\.org\/v1\n-> scrypt \S{1,64} ([1-9]\d{0,9})\n/
/** What to do about a file that can't be used. */
const EXPORT = 'export the key again with "knockturn key export --passphrase"'

/** Encrypts a key file's text. @returns an age file, armoured, so that it may be mailed and pasted */
export async function sealText(text: string, passphrase: string): Promise<string> {
  const { armor } = await import('age-encryption')
  return armor.encode(await sealBytes(Buffer.from(text), passphrase))
}

/**
 * Encrypts bytes.
 * @param workFactor scrypt's (log2 N), where a test has no time
 * @returns an age file
 */
export async function sealBytes(bytes: Uint8Array, passphrase: string, workFactor = WORK_FACTOR): Promise<Uint8Array> {
  const { Encrypter } = await import('age-encryption')
  const encrypter = new Encrypter()
  encrypter.setPassphrase(passphrase)
  encrypter.setScryptWorkFactor(workFactor)
  return encrypter.encrypt(bytes)
}

/**
 * Readies an age file for its passphrase, so that nobody is asked for one in vain.
 * @param path names the file in faults
 * @returns what decrypts it; null from that: the passphrase is another one
 * @throws {Fault} when it is damaged, needs something else than a passphrase, or would take too long
 */
export async function readSealed(path: string, bytes: Uint8Array): Promise<(passphrase: string) => Promise<Uint8Array | null>> {
  const { armor, Decrypter } = await import('age-encryption')
  const damaged = (error: unknown) =>
    new Fault(`${path}: the age file is damaged (${reason(error)})`, { hint: `copy it again, or ${EXPORT}` })
  let file = bytes
  if (beginning(bytes, INTRO.length) !== INTRO) {
    try {
      file = armor.decode(Buffer.from(bytes).toString('latin1'))
    } catch (error) {
      throw damaged(error)
    }
  }
  const [, factor] = SCRYPT.exec(beginning(file, HEADER)) ?? []
  if (factor === undefined) throw new Fault(`${path}: not an age file that a passphrase opens`, { hint: EXPORT })
  if (Number(factor) > MAX_WORK_FACTOR)
    throw new Fault(`${path}: expected a work factor of at most ${MAX_WORK_FACTOR}, got ${factor}, which takes too long`, {
      hint: EXPORT,
    })
  return async (passphrase) => {
    const decrypter = new Decrypter()
    decrypter.addPassphrase(passphrase)
    try {
      return await decrypter.decrypt(file)
    } catch (error) {
      if (reason(error).startsWith('no identity matched')) return null
      throw damaged(error)
    }
  }
}

function beginning(bytes: Uint8Array, length: number): string {
  return Buffer.from(bytes.subarray(0, length)).toString('latin1')
}
