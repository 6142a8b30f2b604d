import { parsePool } from '../protocol/pool'
import { parseService, type Service } from '../protocol/service'

/* A keyring as `knockturn key list --json` prints it: for a process that must not begin again as the keyring's owner (see asOwner). */

/** A key of it, as far as it is nobody's secret. */
export interface ListedKey {
  readonly id: string
  /** The label of its server. */
  readonly server: string
  readonly host: string | null
  /** Unix milliseconds; null: never. */
  readonly expires: number | null
  readonly isRevoked: boolean
  readonly services: readonly Service[]
  readonly key: { readonly pool: Uint16Array }
  readonly passcode?: unknown
}

/** Reads what `knockturn key list --json` has printed; null where that is no list of keys. */
export function readKeyList(text: string): ListedKey[] | null {
  try {
    return (JSON.parse(text) as Record<string, unknown>[]).map(
      ({ id, server, host, pool, expires, revoked, passcode, grant }) => ({
        id: String(id),
        server: String(server),
        host: typeof host === 'string' ? host : null,
        expires: typeof expires === 'string' ? Date.parse(expires) : null,
        isRevoked: revoked !== null,
        services: ((grant as { services?: string[] } | null)?.services ?? []).flatMap((service) => parseService(service) ?? []),
        key: { pool: parsePool(String(pool)) },
        ...(passcode ? { passcode } : {}),
      }),
    )
  } catch {
    return null
  }
}

/** Whether a key may open anything. @param label of the server: the daemon refuses another's keys @param now Unix milliseconds */
export function isValid({ server, expires, isRevoked }: ListedKey, label: string, now: number): boolean {
  return server === label && !isRevoked && (expires === null || expires > now)
}
