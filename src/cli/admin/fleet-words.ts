import { init } from '../../admin/fleet/begin'
import { floor } from '../../admin/fleet/floor'
import type { Gateway } from '../../admin/fleet/gateways'
import { type Joined, join } from '../../admin/fleet/join'
import { leave } from '../../admin/fleet/leave'
import { inFleet, type Place } from '../../admin/fleet/place'
import { type FleetStatus, lookAtStatus } from '../../admin/fleet/status'
import { formatOffset } from '../../daemon/fleet/clocks'
import { Unavailable } from '../../daemon/fleet/etcd/etcd'
import { listed, printable } from '../../system/fault'
import { isoTime } from '../../system/time'
import { paint } from '../paint'
import { EXIT, failWith, printJson, tableLines } from '../voice'
import { NAME, print, told, warn } from './voice'

/* What the commands of a fleet print. */

/** Keys, and gateways, that are named in one line. */
const NAMED = 8

/** Makes a fleet, and says so. */
export async function printInit(file: string): Promise<void> {
  tellJoined(await inFleet(file, init), 'made')
  print('what was sent until now, and in the next minute or so, opens nothing')
}

/** Has this gateway join, and says so. */
export async function printJoin(file: string): Promise<void> {
  tellJoined(await inFleet(file, join), 'joined')
}

function tellJoined({ fleet, gateway, path, others }: Joined, what: string): void {
  const beside = others.length > 0 ? `, beside ${listed(others, NAMED)}` : ''
  print(printable(`${what} fleet ${fleet} as gateway "${gateway}"${beside}; remembered in ${path}`))
  print('next: knockdaemon --check && systemctl restart knockdaemon')
}

/** Takes a gateway out, and says so. @param name null: this one */
export async function printLeave(file: string, name: string | null): Promise<void> {
  const { gateway, path, isDouble, others } = await inFleet(file, (place) => leave(place, name))
  if (isDouble) {
    print(printable(`this machine is no longer gateway "${gateway}"; another machine runs by that name, and stays`))
    print(`deleted ${path}: set another name as "gateway" in [ledger], and run "knockturn fleet join"`)
    return
  }
  const left = others.length > 0 ? `; there are left: ${listed(others, NAMED)}` : '; it was the last one'
  print(printable(`gateway "${gateway}" has left the fleet${left}`))
  print('leases that it has opened go on to their end')
  if (path !== null)
    print(`deleted ${path}: the daemon does not start until the config is without etcd, or this gateway has joined again`)
}

/** Sets the base to now, and says what that has changed and what it can't repair. */
export async function printFloor(file: string): Promise<void> {
  const { was, is, agreeing, ahead } = await inFleet(file, floor)
  const before = was === null ? 'etcd had none' : `it was ${isoTime(was * 1000)}`
  print(`the base of the fleet is now ${isoTime(is * 1000)} (${before}): nothing sent before the next minute or so opens`)
  print('spent knocks stay spent, and the floors of keys stay')
  if (agreeing.length === 0) warn("no other gateway speaks: the base was set by this machine's clock alone")
  if (ahead.length === 0) return
  const named = ahead.map(({ fingerprint, until }) => `${fingerprint.slice(0, 8)} (until ${isoTime(until)})`)
  warn(`keys that knocked while a clock was ahead open nothing for now: make new keys in their place: ${listed(named, NAMED)}`)
}

/** Shows how the fleet stands. */
export async function printStatus(file: string, isJson: boolean): Promise<void> {
  const { status, place } = await inFleet(file, async (place) => ({ status: await lookAtStatus(place), place }))
  const now = Date.now()
  if (isJson) printJson(documentOf(status, place, now))
  else {
    print(linesOf(status, place, now).join('\n'))
    failWith(NAME, status.faults)
  }
  if (status.faults.length > 0) process.exitCode = EXIT.failure
}

/** A fleet's status as JSON has it, as docs/man/knockturn.1 describes it. */
export function documentOf(
  { memory, shared, differences, members, faults }: FleetStatus,
  { file, config, fleet }: Pick<Place, 'file' | 'config' | 'fleet'>,
  now: number,
): object {
  const base = shared?.base?.base
  return {
    ...{ version: 1, at: isoTime(now), well: faults.length === 0 },
    faults: faults.map(({ message, hint }) => ({ message, hint: hint ?? null })),
    ...{ file, server: config.server, gateway: fleet.gateway, prefix: fleet.prefix },
    joined: memory?.fleet ?? null,
    base: base ? { fleet: base.fleet, server: base.server, epoch: base.epoch, since: isoTime(base.seconds * 1_000) } : null,
    gateways: shared?.gateways.map(gatewayDocument) ?? null,
    differences,
    ...{ leases: shared?.leases ?? null, locks: shared?.locks ?? null, revoked: shared?.revoked ?? null },
    members: members.map(({ endpoint, status }) =>
      status instanceof Unavailable
        ? { endpoint, trouble: status.message, etcd: null, leader: null, size: null, inUse: null, quota: null, alarms: [] }
        : {
            ...{ endpoint, trouble: null, etcd: status.version, leader: status.hasLeader },
            ...{ size: status.size, inUse: status.sizeInUse, quota: status.quota, alarms: status.alarms },
          },
    ),
  }
}

function gatewayDocument({ name, said, speaks, offset }: Gateway): object {
  return {
    ...{ name, speaks, clock: offset, synchronised: said?.synchronised ?? null, restored: said?.restored ?? null },
    ...{ program: said?.program ?? null, server: said?.server ?? null, skew: said?.skew ?? null, epoch: said?.epoch ?? null },
    ...{ said: said && isoTime(said.wall), lastTap: said?.lastTap == null ? null : isoTime(said.lastTap) },
    keys: said ? { count: said.keys.count, digest: said.keys.digest } : null,
    ...{ leases: said?.leases ?? null, locks: said?.locks ?? null },
  }
}

/** A fleet's status in words. */
export function linesOf(
  { memory, shared, members }: FleetStatus,
  { config, fleet }: Pick<Place, 'config' | 'fleet'>,
  now: number,
): string[] {
  const base = shared?.base?.base
  const own = memory ? `gateway "${memory.gateway}"` : `gateway "${fleet.gateway}", which has not joined`
  return [
    line(
      'fleet',
      base
        ? printable(`${base.fleet}, of ${base.server}, since ${told(isoTime(base.seconds * 1_000), now)}`)
        : paint('warn', shared && !shared.base ? 'none' : 'not known'),
    ),
    line('here', printable(`${own}, ${config.server}, below ${fleet.prefix}`)),
    line(
      'shared',
      shared ? `${shared.leases} leases, ${shared.locks} locks, ${shared.revoked} revoked keys` : paint('warn', 'not known'),
    ),
    '',
    ...gatewayTable(shared?.gateways ?? [], now),
    '',
    ...memberTable(members),
  ]
}

const line = (name: string, text: string): string => `${paint('head', name.padEnd(8))}${text}`

function gatewayTable(gateways: readonly Gateway[], now: number): string[] {
  const rows = gateways.map(({ name, said, speaks, offset }) => [
    name,
    speaks ? (said?.restored ? 'etcd restored' : 'speaks') : 'silent',
    offset === null ? '' : `${formatOffset(offset)}${said?.synchronised === false ? ', not kept' : ''}`,
    said ? `${said.keys.count} (${said.keys.digest.slice(0, 8)})` : '',
    said ? `${said.leases}` : '',
    said ? `${said.locks}` : '',
    said?.lastTap == null ? 'none yet' : told(isoTime(said.lastTap), now),
    said?.program ?? '',
  ])
  return table(['GATEWAY', '', 'CLOCK', 'KEYS', 'LEASES', 'LOCKS', 'LAST TAP', 'VERSION'], rows)
}

function memberTable(members: FleetStatus['members']): string[] {
  const rows = members.map(({ endpoint, status }) =>
    status instanceof Unavailable
      ? [endpoint, '', status.message, '', '']
      : [
          endpoint,
          status.version,
          status.hasLeader ? 'has a leader' : 'no leader',
          `${(status.size / 2 ** 20).toFixed(0)} MiB, ${Math.round((100 * status.size) / status.quota)} % of its quota`,
          status.alarms.join(', '),
        ],
  )
  return table(['ETCD', 'VERSION', '', 'SIZE', 'ALARMS'], rows)
}

function table(names: readonly string[], rows: readonly (readonly string[])[]): string[] {
  const [head = '', ...lines] = tableLines([names, ...rows])
  return [paint('head', head), ...lines]
}
