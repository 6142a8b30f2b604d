import { dirname } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Config } from '../../daemon/config'
import type { FleetConfig } from '../../daemon/fleet/config'
import { type Etcd, type Trouble, Unavailable } from '../../daemon/fleet/etcd/etcd'
import { Fault } from '../../system/fault'
import { asOwner } from '../../system/files'
import { wholeConfig } from '../config'

/** A gateway from which its fleet is looked at, or changed. */
export interface Place {
  /** The config's path. */
  readonly file: string
  readonly config: Config
  readonly fleet: FleetConfig
  readonly etcd: Etcd
  /** Unix milliseconds. */
  readonly now: () => number
  /** Waits for so many milliseconds, or until the signal ends it. Never rejects. */
  readonly wait: (milliseconds: number, signal: AbortSignal) => Promise<void>
}

const NO_FLEET = 'set etcd = ["https://…:2379"] in [ledger], if this server is to be one of several: see docs/fleet.md'

/**
 * Does something with the fleet of a config, as the ledger's owner: the daemon's user, who may read its login and key.
 * @param file the daemon's config
 * @throws {Fault} where the config is faulty or names no etcd, or etcd can't be asked
 */
export async function inFleet<T>(file: string, work: (place: Place) => Promise<T>): Promise<T> {
  const config = await wholeConfig(file)
  const { fleet, path } = config.ledger
  if (!fleet) throw new Fault(`${file}: no etcd is set, so this server is in no fleet`, { hint: NO_FLEET })
  const { openEtcd } = await import('../../daemon/fleet/etcd/client')
  return asOwner(dirname(path), async () => {
    const etcd = await openEtcd(fleet)
    try {
      return await work({ file, config, fleet, etcd, now: Date.now, wait })
    } catch (error) {
      throw toldBy(error)
    } finally {
      etcd.close()
    }
  })
}

const wait: Place['wait'] = (milliseconds, signal) => sleep(milliseconds, undefined, { signal }).catch(() => {})

/** Why etcd can't be asked, with what to do about it. */
export const etcdFault = ({ message, trouble }: Unavailable): Fault =>
  new Fault(`etcd cannot be asked: ${message}`, { hint: HINTS[trouble] })

/** An error as an administrator is told of it. */
export const toldBy = (error: unknown): unknown => (error instanceof Unavailable ? etcdFault(error) : error)

const HINTS: Readonly<Record<Trouble, string>> = {
  unreachable: 'look whether etcd runs ("systemctl status etcd" on its machines), and whether this machine reaches its port',
  timeout: 'look whether a majority of its members runs, and how quick their disks are: "etcdctl endpoint health --cluster"',
  'no-quorum': 'start its other members: a majority has to run, and to reach each other ("etcdctl endpoint status --cluster")',
  tls: 'look at ca, cert and key in [ledger], when they expire, and at what etcd logs: see docs/fleet.md, "Set it up"',
  login: 'look at the file of "login" in [ledger], and at the role of its user: "etcdctl user get NAME --detail"',
  full: 'make room in etcd, and disarm its alarm: see docs/fleet.md, "Look after it"',
  strange: 'look whether it is an etcd of version 3.4 or later at that URL, with its JSON gateway on',
}
