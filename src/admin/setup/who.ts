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
 * Names and addresses at which clients may reach this host, the best first: an address that this session has come to, if it is one of the whole
 * Internet; else a whole name; else any address that this session has come to.
 */
export async function hostsHere(): Promise<string[]> {
  const address = (await ownSession())?.local
  const name = await fullName()
  const isGlobal = address !== undefined && ipaddr.parse(address).range() === 'unicast'
  return [...(isGlobal ? [address] : []), ...(name === null ? [] : [name]), ...(address === undefined ? [] : [address])]
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
export function isFullName(name: string): boolean {
  return /^(?=.{1,253}$)[a-z\d]([a-z\d-]*[a-z\d])?(\.[a-z\d]([a-z\d-]*[a-z\d])?)*\.[a-z][a-z\d-]*[a-z\d]$/i.test(name)
    ? !/\.(local|localdomain|lan|home|internal|intranet|invalid|test)$/i.test(name)
    : false
}

/** Who sets this up, as a key may be called, the best first. */
export function usersHere({ SUDO_USER, USER, LOGNAME } = process.env as Record<string, string | undefined>): string[] {
  const names = [SUDO_USER, USER, LOGNAME].flatMap((name) => (name !== undefined && name !== 'root' ? [name] : []))
  return [...names.filter((name) => KEY_ID.test(name)), ADMIN]
}
