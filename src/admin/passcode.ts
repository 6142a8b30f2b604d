import { base32nopad } from '@scure/base'
import { generateURI } from 'otplib'
import { passcodeFault } from '../daemon/passcode-rules'
import type { GrantRules, PasscodeGrant } from '../gate/server-key'
import type { KeyFile } from '../keys/key-file'
import { findKey } from '../keys/keyring'
import { writePasscode } from '../keys/passcode-table'
import { type Key, windowAt } from '../protocol/key'
import { CODE_DIGITS } from '../protocol/passcode'
import { formatService, type Service } from '../protocol/service'
import { passcode } from '../protocol/totp'
import { Fault } from '../system/fault'
import { asOwner } from '../system/files'
import { wholeConfig } from './config'
import { refuseEnded } from './ended'
import { readKeys } from './keyring'

/** Windows in which a code is looked for, to say by how much a clock is wrong: ten minutes of 30 seconds. */
const FAR = 20

/**
 * The grant of a key that may have a passcode.
 * @param now Unix milliseconds
 * @throws {Fault} where it may have none
 */
export function grantOf({ id, grant, revoked, expires }: KeyFile, now: number): GrantRules {
  if (!grant) throw new Fault(`${id} has no table [grant]: it is a client's copy`, { hint: "run this with the server's keyring" })
  refuseEnded({ id, revoked, expires }, now)
  if (grant.requireAddress)
    throw new Fault(`${id} has require_address = true, and a passcode cannot name an address`, {
      hint: 'make another key for the passcode with "knockturn key new"',
    })
  return grant
}

/** Services that are none of a grant's. */
export function ungranted(grant: GrantRules, services: readonly Service[]): Service[] {
  const granted = grant.services.map(formatService)
  return services.filter((service) => !granted.includes(formatService(service)))
}

/**
 * How many digits a PIN has here.
 * @param file the key that is to have a passcode
 * @param keys the folder of its keyring
 * @param config the daemon's
 * @throws {Fault} where the server could not use the passcode
 */
export async function pinDigitsOf(file: KeyFile, keys: string, config: string): Promise<number> {
  const rules = await wholeConfig(config)
  const { keys: all } = await readKeys(keys)
  const others = all.filter((other) => other.passcode && other.id !== file.id)
  const fault = passcodeFault(all, [...others, file], rules)
  if (fault) throw fault
  return rules.passcode.pinDigits
}

/** The URI by which an authenticator app takes the secret of a key's codes. It is as secret as the key. */
export function enrolmentUri({ id, key }: KeyFile): string {
  return generateURI({
    issuer: 'knockturn',
    // Behind the issuer's own a colon is one too many: FreeOTP refuses such a code, percent-encoded or not.
    label: `${id}@${key.server}`.replaceAll(':', '-'),
    secret: base32nopad.encode(key.totpSecret),
    algorithm: 'sha1',
    digits: CODE_DIGITS,
    period: key.period,
  })
}

/** Why a code is none of this moment: it has not {@link CODE_DIGITS} digits, it is that of another moment, or nobody can tell. */
export type Misfit =
  | { readonly kind: 'form' | 'other' }
  /** Seconds by which the app is ahead of us; negative where it is behind. */
  | { readonly kind: 'clock'; readonly ahead: number }

/**
 * Looks whether a code is one of this moment.
 * @param now Unix milliseconds
 * @returns null where it is; else why not, as far as that can be told
 */
export function misfitOf(key: Key, code: string, now: number): Misfit | null {
  if (!new RegExp(`^\\d{${CODE_DIGITS}}$`).test(code)) return { kind: 'form' }
  const current = windowAt(now / 1000, key.period)
  for (let off = 0; off <= FAR; off++) {
    const found = [current + off, current - off].find((window) => passcode(key, window) === code)
    if (found === undefined) continue
    return off <= 1 ? null : { kind: 'clock', ahead: (found - current) * key.period }
  }
  return { kind: 'other' }
}

/** Gives a key a passcode, as the keyring's owner. @throws {Fault} where it can't be; nothing is written then */
export function givePasscode(keys: string, id: string, grant: PasscodeGrant): Promise<void> {
  return asOwner(keys, () => writePasscode(keys, id, grant))
}

/** Takes a key's passcode away, as the keyring's owner. @returns whether it had one @throws {Fault} */
export function takePasscode(keys: string, id: string): Promise<boolean> {
  return asOwner(keys, async () => {
    const { passcode: there } = await findKey(keys, id)
    if (there) await writePasscode(keys, id, null)
    return there !== undefined
  })
}
