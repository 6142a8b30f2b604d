import type { Command } from 'commander'
import { rebase } from '../../admin/ledger'
import { listed } from '../../system/fault'
import { isoTime } from '../../system/time'
import { subcommand } from '../options'
import { configOption } from './places'
import { print, warn } from './voice'

/** Keys that are named in one line. */
const NAMED = 8

/** Gives knockturn the commands of the ledger. */
export function addLedger(parent: Command): void {
  const ledger = subcommand(parent, 'ledger', 'put right what the ledger took for the time', 'ledger rebase')
  const description = 'have a ledger that was begun by a clock that was ahead begin now; no daemon may run'
  subcommand(ledger, 'rebase', description, 'ledger rebase')
    .addOption(configOption())
    .action(async ({ config }: { config: string }) => sayRebase(await rebase(config, Date.now())))
}

/** Says what a rebase has come to, and what it could not help. */
function sayRebase({ path, was, is, spent, aside, ahead }: Awaited<ReturnType<typeof rebase>>): void {
  const before = was === null ? 'had no base' : `had the base ${isoTime(was * 1000)}`
  print(`${path}: ${before}, and has ${isoTime(is * 1000)} now: nothing that was sent before the next minute or so opens`)
  print(`what is spent stays so (${spent} knocks), and so do the floors of keys; next: start the daemon`)
  if (aside !== null) warn(`${path}: the ledger was damaged, and what it held is kept as ${aside}`)
  if (ahead.length === 0) return
  const named = ahead.map(({ fingerprint, until }) => `${fingerprint.slice(0, 8)} before ${isoTime(until)}`)
  warn(
    `keys that have knocked while the clock was ahead open nothing till then, and need new ones in their place: ${listed(named, NAMED)}`,
  )
}
