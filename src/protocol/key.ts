import { bytesToHex, concatBytes, utf8ToBytes } from '@noble/hashes/utils.js'
import { hkdfExpand, hkdfExtract } from './primitives'

/** Length of a secret in bytes (docs/protocol.md, "Words"). */
export const SECRET_BYTES = 32
/** Shortest and longest period in seconds (docs/protocol.md, "Constants"). */
export const MIN_PERIOD = 10
export const MAX_PERIOD = 300
/** Longest server label in bytes of UTF-8 (docs/protocol.md, "Derivation"). */
const MAX_LABEL_BYTES = 255

/** What names a key: short and plain enough for a file's name and for a rule's comment. */
export const KEY_ID = /^[A-Za-z0-9][A-Za-z0-9._-]{0,31}$/
export const KEY_ID_RULE = '1 to 32 letters, digits, dots, dashes or underscores, the first a letter or digit'

/** What client and daemon share. `pool` is ascending and without duplicates, see {@link parsePool}. */
export interface KeyMaterial {
  readonly secret: Uint8Array
  readonly server: string
  readonly period: number
  readonly pool: Uint16Array
}

/** A key with everything that is derived from its secret once. */
export interface Key extends KeyMaterial {
  readonly rendezvousKey: Uint8Array
  readonly codebookKey: Uint8Array
  readonly sealKey: Uint8Array
  readonly totpSecret: Uint8Array
  readonly hintKey: Uint8Array
  /** 16 bytes that name the key in the ledger and in logs; not secret. */
  readonly fingerprint: Uint8Array
}

/**
 * Derives a key's subkeys (docs/protocol.md, "Derivation"; HKDF is RFC 5869).
 * @param material the secret (32 bytes), the server's label, the period (seconds) and the pool
 * @throws {RangeError} when the secret, the label or the period is outside its bounds
 */
export function deriveKey(material: KeyMaterial): Key {
  const { secret, server, period } = material
  if (secret.length !== SECRET_BYTES) {
    throw new RangeError(`"secret" expected ${SECRET_BYTES} bytes, got ${secret.length}`)
  }
  const fault = labelFault(server)
  if (fault) throw new RangeError(`"server" ${fault}`)
  if (!Number.isInteger(period) || period < MIN_PERIOD || period > MAX_PERIOD) {
    throw new RangeError(`"period" expected ${MIN_PERIOD} to ${MAX_PERIOD} seconds, got ${period}`)
  }
  const subkey = subkeys(material)
  const key = {
    ...material,
    rendezvousKey: subkey('rendezvous', 32),
    codebookKey: subkey('codebook', 32),
    sealKey: subkey('seal', 64),
    totpSecret: subkey('totp', 20),
    hintKey: subkey('hint', 32),
    fingerprint: subkey('id', 16),
  }
  // A key that ends up in a log, in JSON or in an error by mistake says its name and nothing else.
  const name = () => `[key ${bytesToHex(key.fingerprint)}]`
  return Object.defineProperties(key, { toJSON: { value: name }, [INSPECT]: { value: name } })
}

/** One more subkey, which a client does not need. @param name of docs/protocol.md's @param length bytes */
export const deriveSubkey = (material: Pick<KeyMaterial, 'secret' | 'server'>, name: string, length: number): Uint8Array =>
  subkeys(material)(name, length)

function subkeys({ secret, server }: Pick<KeyMaterial, 'secret' | 'server'>) {
  const prk = hkdfExtract(secret, utf8ToBytes('knockturn/1'))
  const label = utf8ToBytes(server)
  return (name: string, length: number) => hkdfExpand(prk, concatBytes(utf8ToBytes(name), Uint8Array.of(0), label), length)
}

/** The method that console.log and util.inspect ask for, in Node; elsewhere nobody asks. */
const INSPECT = Symbol.for('nodejs.util.inspect.custom')

/** What is wrong with a server label, or null (docs/protocol.md, "Derivation": taken as given, no folding). */
export function labelFault(server: string): string | null {
  if (/\p{Surrogate}/u.test(server)) return 'expected valid Unicode, got half a surrogate pair'
  if (server.includes('\0')) return 'expected a label without NUL'
  const length = utf8ToBytes(server).length
  if (length > MAX_LABEL_BYTES) return `expected at most ${MAX_LABEL_BYTES} bytes of UTF-8, got ${length}`
  return null
}

/** The number of the window that a Unix time (seconds) falls into: RFC 6238's T. */
export function windowAt(seconds: number, period: number): number {
  return Math.floor(seconds / period)
}
