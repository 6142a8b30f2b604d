import { generateSync } from 'otplib'
import type { Key } from './key'
import { CODE_DIGITS } from './passcode'

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
