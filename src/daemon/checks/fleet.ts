import { X509Certificate } from 'node:crypto'
import type { Check } from '../../system/check'
import { readText } from '../../system/files'
import { isoTime } from '../../system/time'
import { networkObstacle } from '../command/network'
import type { FleetConfig } from '../fleet/config'
import { readLogin } from '../fleet/etcd/login'
import { MAX_PEM, readTrust } from '../fleet/etcd/tls'
import { joinedMemory } from '../fleet/memory'
import { Finding } from './finding'

/** Milliseconds before its end from which on a certificate is named: time enough to renew it. */
const SOON = 14 * 86_400_000

/**
 * Looks at all that a gateway needs to ask etcd, but for etcd itself.
 * @param ledger the ledger's path
 * @param now Unix milliseconds
 */
export async function checkFleetFiles(fleet: FleetConfig, ledger: string, now: number): Promise<readonly Check[]> {
  const found = new Finding('fleet files')
  const { tls, login, gateway, endpoints } = fleet
  if (endpoints.some((endpoint) => endpoint.startsWith('https:'))) {
    await found.attempt(() => readTrust(tls))
    // What can't be read, or is none, is said by now.
    if (found.isWell) for (const path of [tls.ca, tls.cert]) if (path !== null) await checkEnd(path, now, found)
  }
  if (login !== null) await found.attempt(() => readLogin(login))
  const obstacle = await networkObstacle()
  if (obstacle !== null) found.wrong(`the unit of the daemon forbids it the network (${obstacle}): etcd cannot be asked`, DROP_IN)
  const memory = await found.attempt(() => joinedMemory(ledger, gateway))
  return found.end(`gateway "${gateway}" has joined fleet ${memory?.fleet}, and can read all that it needs to ask etcd`)
}

/** Until when a certificate is valid, the first of its file. */
async function checkEnd(path: string, now: number, found: Finding): Promise<void> {
  const { validTo } = new X509Certificate(await readText(path, MAX_PEM))
  const end = Date.parse(validTo)
  if (end <= now) found.wrong(`${path}: this certificate has expired at ${isoTime(end)}: etcd cannot be asked`, RENEW)
  else if (end - now < SOON) found.felt(`${path}: this certificate expires soon, at ${isoTime(end)}`, RENEW)
}

const RENEW = 'put a new one in its place: the daemon reads it again where the old one does not work'
const DROP_IN = 'add docs/systemd/knockdaemon-fleet.conf to the unit, with the addresses of etcd'
