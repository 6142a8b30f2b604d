import type { Command } from 'commander'
import { plannedRemovals, uninstall } from '../../admin/uninstall'
import { askLine, canAsk } from '../../system/ask-line'
import { Fault, UsageFault } from '../../system/fault'
import { subcommand } from '../options'
import { print } from './voice'

interface Options {
  readonly yes?: boolean
  readonly dryRun?: boolean
}

/** Gives knockturn the command that takes it off this machine. */
export function addUninstall(parent: Command): void {
  subcommand(
    parent,
    'uninstall',
    'take daemon, rules, keys, config, ledger and units off this machine: all but the programs',
    'uninstall --dry-run',
  )
    .option('--yes', 'do not ask')
    .option('--dry-run', 'print what would be done, and change nothing')
    .action(takeOff)
}

async function takeOff({ yes = false, dryRun: isPreview = false }: Options): Promise<void> {
  if (!yes && !isPreview && !canAsk(process.stdout))
    throw new UsageFault('there is no terminal to ask on', { hint: 'add --yes, or --dry-run to see it first' })
  const steps = await plannedRemovals()
  if (steps.length === 0) return print('nothing of Knockturn is set up here')
  if (isPreview || !yes) print(steps.join('\n'))
  if (isPreview) return
  if (process.getuid?.() !== 0) throw new Fault('only root may do this', { hint: 'run it as root, or with --dry-run' })
  if (!yes) {
    const answer = await askLine('This deletes all keys, and opens the guarded ports. Type "yes" to go on: ', process.stdout)
    if (answer !== 'yes') throw new Fault('nothing was changed')
  }
  await uninstall()
  print('uninstalled: the guarded ports are open now, as the rest of the firewall lets them be')
  print('the programs are still here: run "apt purge knockturn", or "npm uninstall -g knockturn"')
}
