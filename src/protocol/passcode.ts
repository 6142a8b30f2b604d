import { generateSync } from 'otplib'
import type { Key } from './key'

/** Digits of the TOTP part, and most digits of a PIN (docs/protocol.md, "Passcode knock"). */
const CODE_DIGITS = 8
const MAX_PIN_DIGITS = 4
/** First passcode port by default; position i uses the ten ports from base + 10 i. */
const PASSCODE_BASE = 48000

/** The 8 digits that an authenticator app shows for this key in this window (RFC 6238, SHA-1, the key's period). */
export function passcode(key: Key, window: number): string {
  return generateSync({
    secret: key.totpSecret,
    algorithm: 'sha1',
    digits: CODE_DIGITS,
    period: key.period,
    epoch: window * key.period,
  })
}

/**
 * The ports of PIN and code, in order of position.
 * @throws {RangeError} when the PIN is not 0 to 4 digits or the code is not 8
 */
export function passcodePorts(pin: string, code: string, base = PASSCODE_BASE): number[] {
  if (!/^\d{0,4}$/.test(pin)) throw new RangeError(`"pin" expected 0 to ${MAX_PIN_DIGITS} digits`)
  if (!/^\d{8}$/.test(code)) throw new RangeError(`"code" expected ${CODE_DIGITS} digits`)
  return Array.from(pin + code, (digit, i) => base + 10 * i + Number(digit))
}
