import { isIP } from 'node:net'
import { isDeepStrictEqual } from 'node:util'
import { formatKeyFile, hintOf, type KeyFile } from '../../keys/key-file'
import { KEY_ID } from '../../protocol/key'
import { formatService } from '../../protocol/service'
import { Fault, quoted, UsageFault } from '../../system/fault'
import type { Given } from '../profiles'

/* What becomes of a key that is added: decisions, without a look at anything. */

/** A name of a host, as it stands in ssh_config and in a shell, unquoted; never one that either takes for an option or a pattern. */
const HOST = /^[A-Za-z0-9_]([A-Za-z0-9_.-]{0,252}[A-Za-z0-9_])?$/
/** Most services that one knock of a profile asks for (-p). */
const MAX_DOORS = 16

/** What is in a keyring under a key's name. */
export type There = { readonly path: string } & (
  | { readonly kind: 'plain'; readonly key: KeyFile }
  | { readonly kind: 'sealed'; readonly bytes: Uint8Array }
  | { readonly kind: 'unreadable'; readonly fault: Fault }
)

/** Where a key is kept that another one has replaced. */
export const oldPath = ({ path }: There): string => `${path}.old`

/** What is to be done with a key's or a profile's place. */
export type Step = 'new' | 'kept' | 'replaced'

/**
 * Where to knock with a key.
 * @param server as its user has named it
 * @throws {UsageFault} where nothing says so, or it is no host
 */
export function hostFor(key: KeyFile, server: string | undefined): string {
  const host = server ?? key.host
  if (host === null) throw new UsageFault(`the key ${key.id} names no host`, { hint: 'name the server with -r' })
  if (isIP(host) || HOST.test(host)) return host
  const hint = server === undefined ? 'name the server with -r, or make the key again with "knockturn key new --host"' : undefined
  throw new UsageFault(`expected a host name or an address, without port or brackets, got ${quoted(host)}`, { hint })
}

/** The name of a key's profile: its host; where that can't be one, the first part of it, or the key's own name. */
export function profileNameOf({ id, host }: { readonly id: string; readonly host: string }): string {
  const [label] = host.split('.')
  return [host, isIP(host) ? '' : label].find((name) => KEY_ID.test(name)) ?? id
}

/**
 * The profile that opens what a key may open, and waits for it where a connection can show it.
 * @param keyName the key, as a profile names it
 */
export function profileOf(key: KeyFile, host: string, keyName: string): Given {
  const services = hintOf(key)?.services ?? []
  const isShort = services.length <= MAX_DOORS
  // Port 0 opens all of them by one knock, which no connection shows.
  const doors = isShort ? services.map(formatService).join(',') : '0'
  const isShown = services.length === 0 || (isShort && services.some(({ protocol }) => protocol === 'tcp'))
  return { host, key: keyName, ...(doors ? { services: doors } : {}), ...(isShown ? { wait: true } : {}) }
}

/** A key as it is to be kept. */
export interface Kept {
  readonly key: KeyFile
  /** The age file that it has come in; null: none. */
  readonly sealed: Uint8Array | null
  /** Whether it stays in that. */
  readonly staysSealed: boolean
}

/**
 * What is to be done with a key in the place of its name: nothing that is there is lost.
 * @param replaces whether what is there is to be replaced
 * @param other a name that is free
 * @throws {Fault} where another key is there
 */
export function stepForKey({ key, sealed, staysSealed }: Kept, there: There | null, replaces: boolean, other: string): Step {
  if (there === null) return 'new'
  const asOther = `add this one under another name: --as ${other}`
  const { path } = there
  // Whoever replaces it means another key of the same server.
  if (there.kind === 'plain' && there.key.key.server !== key.key.server)
    throw new Fault(`${path}: a key of another server, ${quoted(there.key.key.server)}, has this name`, { hint: asOther })
  const isThere = there.kind === 'plain' && isSame(there.key, key)
  if (isThere && !staysSealed) return 'kept'
  if (there.kind === 'sealed' && sealed !== null && Buffer.compare(there.bytes, sealed) === 0) return 'kept'
  if (replaces) return 'replaced'
  const hint = `replace it with --replace, which keeps it as ${oldPath(there)}; or ${asOther}`
  if (there.kind === 'unreadable') throw new Fault(there.fault.message, { hint: there.fault.hint ?? hint })
  if (isThere) throw new Fault(`${path}: the key is there without a passphrase`, { hint })
  const kind = there.kind === 'plain' ? 'another key of this server' : 'a key under a passphrase'
  throw new Fault(`${path}: ${kind} has this name`, { hint })
}

/** Whether two files say the same; when they were made is no matter. */
function isSame(one: KeyFile, other: KeyFile): boolean {
  return formatKeyFile({ ...one, created: 0 }) === formatKeyFile({ ...other, created: 0 })
}

/**
 * What is to be done with a profile. One that knocks at the same host with the same key is kept, whatever else it says: that is its user's.
 * @param path of the config, for faults
 * @param replaces whether another one is to be replaced
 * @throws {Fault} where another one has this name
 */
export function stepForProfile(path: string, name: string, given: Given, there: Given | undefined, replaces: boolean): Step {
  if (there === undefined) return 'new'
  if (isDeepStrictEqual({ ...there }, { ...given })) return 'kept'
  if (replaces) return 'replaced'
  if (there.host === given.host && there.key === given.key) return 'kept'
  throw new Fault(`${path}: another profile is called ${quoted(name)}`, {
    hint: 'replace it with --replace, or name this one with --profile',
  })
}
