import type { Command } from 'commander'
import { wholeConfig } from '../../admin/config'
import { removeLocks, whatIsInForce } from '../../admin/leases'
import type { StateLock } from '../../daemon/state/state'
import { canonicalAddress } from '../../protocol/address'
import { Fault, printable, quoted, UsageFault } from '../../system/fault'
import { subcommand } from '../options'
import { paint } from '../paint'
import { jsonOption, printJson, tableLines } from '../voice'
import { LIFELESS, tellBy } from './lease'
import { configOption } from './places'
import { print, toldEnd, warn } from './voice'

/** Gives knockturn the commands about locks. */
export function addLock(parent: Command): void {
  const lock = subcommand(parent, 'lock', 'list the addresses that are locked out, or let one in again', 'lock list')
  subcommand(lock, 'list', 'list the locks in force: addresses whose knocks are ignored', 'lock list')
    .addOption(jsonOption())
    .addOption(configOption())
    .action(list)
  subcommand(lock, 'remove', 'remove all locks on an address', 'lock remove 198.51.100.7')
    .argument('<address>', 'the address that is locked out')
    .addOption(jsonOption())
    .addOption(configOption())
    .action(remove)
}

interface Options {
  readonly json?: boolean
  readonly config: string
}

async function list({ config: file, json }: Options): Promise<void> {
  const now = Date.now()
  const { by, life, locks } = await whatIsInForce(await wholeConfig(file), now)
  if (json) return printJson({ version: 1, by, locks })
  if (life !== 'alive') warn(LIFELESS)
  if (locks.length === 0) return print('no address is locked out')
  const [head, ...rows] = lockTable(locks, now)
  print([paint('head', head), ...rows].join('\n'))
}

/** Locks as lines, under the names of their columns. @param now Unix milliseconds */
export function lockTable(locks: readonly StateLock[], now: number): string[] {
  return tableLines([['ADDRESS', 'KEY', 'ENDS'], ...locks.map(({ address, key, until }) => [address, key, toldEnd(until, now)])])
}

async function remove(text: string, { json, config: file }: Options): Promise<void> {
  const address = canonicalAddress(text)
  if (!address) throw new UsageFault(`<address> expected an address, got ${quoted(text)}`, { hint: SEE })
  const { by, ended } = await removeLocks(await wholeConfig(file), address)
  if (ended.length === 0) throw new Fault(`${text} is not locked out: nothing was removed`, { hint: SEE })
  if (json) return printJson({ version: 1, by, removed: ended })
  tellBy(by)
  for (const { key } of ended) print(printable(`removed the lock of ${key} on ${address}`))
}

const SEE = '"knockturn lock list" shows what is in force'
