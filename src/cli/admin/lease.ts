import type { Command } from 'commander'
import { wholeConfig } from '../../admin/config'
import { type Connection, connectionsThrough, type Door, type Severed, sever } from '../../admin/connections'
import { closeLeases, type Ended, standing, whatIsInForce, without } from '../../admin/leases'
import type { Config } from '../../daemon/config'
import type { StateLease } from '../../daemon/state/state'
import { LEASE_ID } from '../../gate/firewall'
import { formatCidr, parseCidr } from '../../protocol/address'
import { KEY_ID_RULE } from '../../protocol/key'
import { formatService, parseService } from '../../protocol/service'
import { Fault, printable, quoted, UsageFault } from '../../system/fault'
import { readId, reading, subcommand } from '../options'
import { paint } from '../paint'
import { EXIT, jsonOption, printJson, tableLines } from '../voice'
import { configOption } from './places'
import { print, toldEnd, warn, warnEach } from './voice'

/** Lines about what was closed, at most: the rest is counted. */
const MAX_LINES = 50

/** Gives knockturn the commands about leases. */
export function addLease(parent: Command): void {
  const lease = subcommand(parent, 'lease', 'list the leases in force, or close some', 'lease list')
  subcommand(lease, 'list', 'list the leases in force', 'lease list')
    .addOption(jsonOption())
    .addOption(configOption())
    .action(list)
  subcommand(lease, 'close', 'close the leases that fit all that is given', 'lease close --key alice --kill')
    .argument('[lease]', 'id of a lease, or the part in front of the dot for all of its knock')
    .addOption(reading('--key <id>', 'those of a key', readId, KEY_ID_RULE))
    .addOption(
      reading(
        '--address <address>',
        'those that let in an address, or one of a block',
        readBlock,
        'an address, or a block such as 198.51.100.0/24',
      ),
    )
    .option('--kill', 'end the connections that have come in by them, too')
    .addOption(jsonOption())
    .addOption(configOption())
    .action(close)
}

/** Reads an address or a block, in its canonical form; null for any other text. */
function readBlock(text: string): string | null {
  const block = parseCidr(text)
  return block && formatCidr(block)
}

async function list({ config: file, json }: { config: string; json?: boolean }): Promise<void> {
  const now = Date.now()
  const { by, life, leases } = await whatIsInForce(await wholeConfig(file), now)
  if (json) return printJson({ version: 1, by, leases })
  if (life !== 'alive') warn(LIFELESS)
  if (leases.length === 0) return print('no lease is in force')
  const [head, ...rows] = leaseTable(leases, now)
  print([paint('head', head), ...rows].join('\n'))
}

/** Why the firewall is asked in the place of the daemon. */
export const LIFELESS = 'no daemon answers: this is what the firewall has (see "knockturn status")'

/** Says where something was done that a daemon would have done. */
export function tellBy(by: Ended<unknown>['by']): void {
  if (by === 'firewall') warn('no daemon is running: it was done in the firewall itself')
}

/** Leases as lines, under the names of their columns. @param now Unix milliseconds */
export function leaseTable(leases: readonly StateLease[], now: number): string[] {
  const rows = leases.map(({ id, key, address, service, once, until }) => {
    return [id, key, address, service, once ? 'one connection' : '', toldEnd(until, now)]
  })
  return tableLines([['LEASE', 'KEY', 'ADDRESS', 'SERVICE', 'ONCE', 'ENDS'], ...rows])
}

interface CloseOptions {
  readonly key?: string
  readonly address?: string
  readonly kill?: boolean
  readonly json?: boolean
  readonly config: string
}

async function close(id: string | undefined, { key, address, kill = false, json, config: file }: CloseOptions): Promise<void> {
  if (id !== undefined && !LEASE_ID.test(id))
    throw new UsageFault(`<lease> expected the id of a lease, such as 0a1b2c3d, got ${quoted(id)}`, { hint: SEE })
  if (id === undefined && key === undefined && address === undefined)
    throw new UsageFault('no lease named', { hint: `give its id, or --key or --address; ${SEE}` })
  const config = await wholeConfig(file)
  if (kill && config.firewall.backend === 'dry-run')
    throw new Fault('backend "dry-run" opens nothing, so no connection has come in by a lease', { hint: 'leave out --kill' })
  const closed = await closeLeases(config, { id, key, address })
  if (closed.ended.length === 0) throw new Fault('no lease that is in force fits: nothing was closed', { hint: SEE })
  if (!json) tellClosed(closed)
  const doors = closed.ended.map(doorOf)
  const tellInJson = (connections: Severed | null) =>
    json && printJson({ version: 1, by: closed.by, closed: closed.ended, connections })
  const severed = kill
    ? await severBeside(config, closed.ended, doors).catch((error) => {
        // They are closed all the same.
        tellInJson(null)
        throw error
      })
    : null
  if (json) tellInJson(severed)
  else if (severed) tellSevered(severed)
  else await tellGoingOn(doors)
  if (severed && severed.left.length > 0) process.exitCode = EXIT.failure
}

/** Ends what has come in by leases that are closed, beside those that are in force. */
const severBeside = async (config: Config, ended: readonly StateLease[], doors: readonly Door[]): Promise<Severed> =>
  sever(doors, without(await standing(config), ended))

const SEE = '"knockturn lease list" shows what is in force'

/** @throws {Error} where a daemon says what is no service */
function doorOf({ key, address, service }: StateLease): Door {
  const read = parseService(service)
  if (!read) throw new Error(`not a service: ${service}`)
  return { key, address, ...read }
}

function tellClosed({ by, ended }: Ended<StateLease>): void {
  tellBy(by)
  for (const { id, key, address, service } of ended.slice(0, MAX_LINES))
    print(printable(`closed ${id}: ${service} for ${address}, key ${key}`))
  if (ended.length > MAX_LINES) print(`closed ${ended.length - MAX_LINES} more`)
}

function tellSevered({ ended, forwarded, left, spared }: Severed): void {
  print(
    `ended ${counted(ended.length, 'connection')}${forwarded ? `, and forgot ${counted(forwarded, 'flow')} to containers or by UDP` : ''}`,
  )
  warnEach(spared)
  warnEach(left)
}

const counted = (count: number, what: string): string => `${count} ${what}${count === 1 ? '' : 's'}`

/** Closing a lease ends nothing that has begun by it: whoever wants that has to know. */
async function tellGoingOn(doors: readonly Door[]): Promise<void> {
  const going = await connectionsThrough(doors)
  if (going.length === 0) return
  const [first] = going.map(({ protocol, localPort, peer }: Connection) => ({
    text: `${peer} to ${formatService({ protocol, port: localPort })}`,
    // The lease is gone: --kill finds it no more.
    end: `ss -K ${protocol === 'udp' ? '-u' : '-t'} dst ${peer.includes(':') ? `[${peer}]` : peer} sport = :${localPort}`,
  }))
  const count = `${counted(going.length, 'connection')} that came in by it ${going.length === 1 ? 'is' : 'are'} still open`
  print(`${count}, such as from ${first?.text}: --kill would have ended them, and now "${first?.end}" ends those`)
}
