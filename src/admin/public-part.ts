import { bytesToHex } from '@noble/hashes/utils.js'
import { endOf } from '../gate/server-key'
import { describeGrant, describePasscode } from '../keys/grant-table'
import { describeHint, type KeyFile } from '../keys/key-file'
import { formatPool } from '../protocol/pool'
import { isoTime } from '../system/time'

/** All of a key but its secrets, as `--json` prints it. */
export function publicPart({ id, key, created, expires, revoked, host, grant, passcode, hint }: KeyFile) {
  const time = (at: number | null) => (at === null ? null : isoTime(at))
  return {
    id,
    fingerprint: bytesToHex(key.fingerprint),
    server: key.server,
    period: key.period,
    pool: formatPool(key.pool),
    created: time(created),
    expires: time(expires),
    revoked: time(revoked),
    host,
    grant: grant && describeGrant(grant),
    ...(hint ? { hint: describeHint(hint) } : {}),
    ...(passcode ? { passcode: describePasscode(passcode) } : {}),
  }
}

/** What the daemon makes of a key. */
type KeyState = 'valid' | 'revoked' | 'expired' | "another server's"

/**
 * What the daemon makes of a key.
 * @param label the server's; undefined where it is not known
 * @param now Unix milliseconds
 */
export function stateOf({ revoked, expires, key }: KeyFile, label: string | undefined, now: number): KeyState {
  // The daemon refuses it, whatever else it is.
  if (label !== undefined && key.server !== label) return "another server's"
  return endOf({ revoked, expires }, now) ?? 'valid'
}
