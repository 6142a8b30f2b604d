/* Passcodes as ports (docs/protocol.md, "Passcode knock"). Without TOTP, which a client and a page have no need of. */

/** Digits of the TOTP part, and most digits of a PIN. */
export const CODE_DIGITS = 8
export const MAX_PIN_DIGITS = 4
/** First passcode port by default; position i uses the ten ports from base + 10 i. */
export const PASSCODE_BASE = 48000
/** Highest first passcode port that leaves room for every length of PIN. */
export const LAST_PASSCODE_BASE = 65_536 - 10 * (MAX_PIN_DIGITS + CODE_DIGITS)
/**
 * What stands for V in the ledger: "passcode" in ASCII, padded with zeros to V's 16 bytes, in hex. A key has one passcode a window, so that
 * nothing else has to tell it from others.
 */
export const PASSCODE_V = '70617373636f64650000000000000000'

/**
 * The ports of PIN and code, in order of position.
 * @throws {RangeError} when the PIN is not 0 to 4 digits or the code is not 8
 */
export function passcodePorts(pin: string, code: string, base = PASSCODE_BASE): number[] {
  if (!/^\d{0,4}$/.test(pin)) throw new RangeError(`"pin" expected 0 to ${MAX_PIN_DIGITS} digits`)
  if (!/^\d{8}$/.test(code)) throw new RangeError(`"code" expected ${CODE_DIGITS} digits`)
  return Array.from(pin + code, (digit, i) => base + 10 * i + Number(digit))
}

/** The first and the last of all passcode ports of a server. */
export function passcodeRange(base: number, pinDigits: number): readonly [number, number] {
  return [base, base + 10 * (pinDigits + CODE_DIGITS) - 1]
}
