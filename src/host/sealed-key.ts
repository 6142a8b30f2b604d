import { randomBytes } from 'node:crypto'
import { base32crockford } from '@scure/base'
import { Fault, reason } from './fault'

/* A key file in an age file (age-encryption.org/v1), under a passphrase: what may lie on a USB stick. The same file opens with age(1). */

/**
 * scrypt's work factor (log2 N). Each knock waits for it, in JavaScript: 16 takes 64 MB and 0.3 to 0.9 s here, age's own 18 takes 256 MB,
 * too much for a phone's browser, and 1.8 to 3.6 s. The two steps are worth 2 bits: less than one more letter in the passphrase.
 */
const WORK_FACTOR = 16
/** Highest work factor of a file that is read: age(1) writes 18. This takes 512 MB and 4 to 8 s, and every further step twice that. */
const MAX_WORK_FACTOR = 19
/** Shortest passphrase, in characters: who finds the stick tries at leisure. */
const MIN_PASSPHRASE = 12
/** Random bytes of a passphrase that is made: 80 bits, out of reach at any work factor. */
const MADE_BYTES = 10

const INTRO = 'age-encryption.org/v1\n'
/** Bytes in which the lines below stand. */
const HEADER = 256
/** The header of a file under a passphrase: one stanza, `-> scrypt SALT LOG_N`. */
const SCRYPT = /^age-encryption\.org\/v1\n-> scrypt \S{1,64} ([1-9]\d{0,9})\n/

/** What is wrong with a passphrase that is to be set, or null. */
export function passphraseFault(passphrase: string): string | null {
  const length = [...passphrase].length
  return length < MIN_PASSPHRASE ? `at least ${MIN_PASSPHRASE} characters, got ${length}` : null
}

/** A new passphrase: 16 letters and digits in fours, none of which looks like another (Crockford's base 32). */
export function makePassphrase(): string {
  const text = base32crockford.encode(randomBytes(MADE_BYTES)).toLowerCase()
  return (text.match(/.{4}/g) ?? []).join('-')
}

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
  // Only who seals needs it, and it is heavy.
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
    new Fault(`${path}: expected a whole age file, got a damaged one (${reason(error)}): copy or export it again`)
  let file = bytes
  if (beginning(bytes, INTRO.length) !== INTRO) {
    try {
      file = armor.decode(Buffer.from(bytes).toString('latin1'))
    } catch (error) {
      throw damaged(error)
    }
  }
  const [, factor] = SCRYPT.exec(beginning(file, HEADER)) ?? []
  if (factor === undefined)
    throw new Fault(
      `${path}: expected an age file under a passphrase, got another one: make it with "knockturn key export --passphrase"`,
    )
  if (Number(factor) > MAX_WORK_FACTOR)
    throw new Fault(
      `${path}: expected a work factor of at most ${MAX_WORK_FACTOR}, got ${factor}: it would take too long; export the key again`,
    )
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
