import type { Command } from 'commander'
import { makeFirst, rebase } from '../../admin/ledger'
import { listed } from '../../system/fault'
import { isoTime } from '../../system/time'
import { subcommand } from '../options'
import { configOption } from './places'
import { print, warn } from './voice'

/** Keys that are named in one line. */
const NAMED = 8

/** Gives knockturn the commands of the ledger. */
export function addLedger(parent: Command): void {
  const ledger = subcommand(
    parent,
    'ledger',
    'make the first ledger, or repair one that was started while the clock was ahead',
    'ledger rebase',
  )
  const description = 'set the base of the ledger to now, if it was started while the clock was ahead; stop the daemon first'
  subcommand(ledger, 'rebase', description, 'ledger rebase')
    .addOption(configOption())
    .action(async ({ config }: { config: string }) => printRebase(await rebase(config, Date.now())))
  subcommand(ledger, 'new', 'make the first ledger, so that the daemon starts without its minute of waiting', 'ledger new')
    .addOption(configOption())
    .action(async ({ config }: { config: string }) => print(`made ${await makeFirst(config)}`))
}

/** Prints what a rebase has changed, and what it could not repair. */
function printRebase({ path, was, is, spent, aside, ahead }: Awaited<ReturnType<typeof rebase>>): void {
  const before = was === null ? 'it had none' : `it was ${isoTime(was * 1000)}`
  print(`${path}: the base is now ${isoTime(is * 1000)} (${before}): nothing sent before the next minute or so opens`)
  print(`spent knocks stay spent (${spent}), and the floors of keys stay\nnext: start the daemon`)
  if (aside !== null) warn(`${path}: the ledger was damaged: its old content is kept as ${aside}`)
  if (ahead.length === 0) return
  const named = ahead.map(({ fingerprint, until }) => `${fingerprint.slice(0, 8)} (until ${isoTime(until)})`)
  warn(`keys that knocked while the clock was ahead open nothing for now: make new keys in their place: ${listed(named, NAMED)}`)
}
