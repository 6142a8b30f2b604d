import type { Check } from '../../daemon/checks/check'
import { Finding } from '../../daemon/checks/finding'
import { listed } from '../../system/fault'
import { askOwnProgram } from '../own-script'

/* Which keys end soon. */

/** Days before its end from which on a key is named: time enough to bring a new one to somebody. */
const SOON = 14
const DAY = 86_400_000
/** Keys that are named in one line. */
const NAMED = 8

/** What matters here of a key. Its end is ISO 8601. */
export interface KeyEnd {
  readonly id: string
  readonly expires: string | null
  readonly isRevoked: boolean
}

/** Checks when the keys of a config end. @param file the config's path @param label the server's, as keys have it */
export async function checkKeyEnds(file: string, label: string): Promise<readonly Check[]> {
  const { stdout } = await askOwnProgram('knockturn', ['key', 'list', '--json', '--config', file])
  const keys = readKeyList(stdout, label)
  const unread: Check = {
    name: 'key ends',
    verdict: 'unknown',
    evidence: '"knockturn key list" gives no list',
    remedy: 'run "knockturn key list"',
  }
  return keys === null ? [unread] : judgeKeyEnds(keys, Date.now())
}

/** Reads what `knockturn key list --json` prints of the keys of a server; null where that is no list. */
export function readKeyList(text: string, label: string): KeyEnd[] | null {
  try {
    const list = JSON.parse(text) as readonly Record<string, unknown>[]
    const own = list.filter(({ server }) => server === label)
    return own.map(({ id, expires, revoked }) => ({
      id: String(id),
      expires: typeof expires === 'string' ? expires : null,
      isRevoked: revoked !== null,
    }))
  } catch {
    return null
  }
}

/** Judges the ends of keys. @param now Unix milliseconds */
export function judgeKeyEnds(keys: readonly KeyEnd[], now: number): readonly Check[] {
  const found = new Finding('key ends')
  const lasting = keys.filter(({ isRevoked, expires }) => !isRevoked && (expires === null || Date.parse(expires) > now))
  const soon = lasting.flatMap(({ id, expires }) => {
    const days = expires === null ? Number.POSITIVE_INFINITY : Math.floor((Date.parse(expires) - now) / DAY)
    return days < SOON ? [`${id} (${days === 0 ? 'today' : days === 1 ? '1 day' : `${days} days`})`] : []
  })
  if (keys.length > 0 && lasting.length === 0)
    found.wrong(`all keys (${keys.length}) are revoked or expired: nobody new gets in`, 'make one with "knockturn key new"')
  if (soon.length > 0)
    found.felt(
      `these keys expire soon: ${listed(soon, NAMED)}`,
      'make new ones with "knockturn key new", and bring them to the clients before',
    )
  return found.end(lasting.length === 1 ? 'the key does not expire soon' : `${lasting.length} keys do not expire soon`)
}
