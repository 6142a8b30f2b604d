import { Finding } from '../../daemon/checks/finding'
import type { Check } from '../../system/check'
import { listed } from '../../system/fault'
import { isValid, type ListedKey } from '../key-list'

/* Which keys end soon. */

/** Days before its end from which on a key is named: time enough to bring a new one to somebody. */
const SOON = 14
const DAY = 86_400_000
/** Keys that are named in one line. */
const NAMED = 8

/**
 * Judges when the keys of a server end.
 * @param keys null: they can't be read
 * @param label the server's
 * @param now Unix milliseconds
 */
export function judgeKeyEnds(keys: readonly ListedKey[] | null, label: string, now: number): readonly Check[] {
  const found = new Finding('key ends')
  if (keys === null) found.unknown('"knockturn key list" prints no list', 'run "knockturn key list"')
  const own = keys?.filter(({ server }) => server === label) ?? []
  const valid = own.filter((key) => isValid(key, label, now))
  const soon = valid.flatMap(({ id, expires }) => {
    const days = Math.floor(((expires ?? Number.POSITIVE_INFINITY) - now) / DAY)
    return days < SOON ? [`${id} (${days === 0 ? 'today' : days === 1 ? '1 day' : `${days} days`})`] : []
  })
  if (own.length > 0 && valid.length === 0)
    found.wrong(`all keys (${own.length}) are revoked or expired: nobody new gets in`, 'make one with "knockturn key new"')
  if (soon.length > 0)
    found.felt(
      `these keys expire soon: ${listed(soon, NAMED)}`,
      'make new ones with "knockturn key new", and bring them to the clients before',
    )
  return found.end(valid.length === 1 ? 'the key does not expire soon' : `${valid.length} keys do not expire soon`)
}
