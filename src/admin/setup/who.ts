import { hostname } from 'node:os'
import ipaddr from 'ipaddr.js'
import { KEY_ID } from '../../protocol/key'
import { run } from '../../system/commands'
import { Fault } from '../../system/fault'
import { ownSession } from './session'

/* What this host, and whoever sets it up, might be called. */

/** The administrator, where nobody has a name of their own. */
const ADMIN = 'admin'

/**
 * The name or address at which clients most likely reach this host: an address that this session has come to, if it is one of the whole Internet;
 * else a whole name; else any address that this session has come to; null: nothing is known.
 */
export async function hostHere(): Promise<string | null> {
  const address = (await ownSession())?.local
  const isGlobal = address !== undefined && ipaddr.parse(address).range() === 'unicast'
  return isGlobal ? address : ((await fullName()) ?? address ?? null)
}

/** This host's name with its domain; null where it has none that others would know. */
async function fullName(): Promise<string | null> {
  const name = await run('hostname', ['-f']).catch((error) => {
    if (error instanceof Fault) return hostname()
    throw error
  })
  return isFullName(name.trim()) ? name.trim() : null
}

/** Whether others may know a host by this name: it has a domain, and none that is for one network. */
function isFullName(name: string): boolean {
  return /^(?=.{1,253}$)[a-z\d]([a-z\d-]*[a-z\d])?(\.[a-z\d]([a-z\d-]*[a-z\d])?)*\.[a-z][a-z\d-]*[a-z\d]$/i.test(name)
    ? !/\.(local|localdomain|lan|home|internal|intranet|invalid|test)$/i.test(name)
    : false
}

/** Who sets this up, as a key may be called. */
export function userHere(): string {
  const { SUDO_USER, USER, LOGNAME } = process.env
  return [SUDO_USER, USER, LOGNAME].find((name) => name !== undefined && name !== 'root' && KEY_ID.test(name)) ?? ADMIN
}
