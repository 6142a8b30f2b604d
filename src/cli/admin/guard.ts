import type { Command } from 'commander'
import { composeGuard, saveGuard } from '../../admin/guard'
import { subcommand } from '../options'
import { configOption } from './places'
import { print, warn } from './voice'

/** Gives knockturn the commands of the guard. */
export function addGuard(parent: Command): void {
  const guard = subcommand(parent, 'guard', 'save the guard for boot', 'guard save')
  subcommand(guard, 'save', 'write the guard into files that shut the guarded ports at boot, before the network', 'guard save')
    .addOption(configOption())
    .option('--print', 'print the files, and change nothing')
    .action(save)
}

async function save({ config, print: isPreview = false }: { config: string; print?: boolean }): Promise<void> {
  if (!isPreview)
    return print(`saved: ${(await saveGuard(config, warn)).join(' and ')} (knockturn-guard.service loads it at boot)`)
  for (const { path, text } of await composeGuard(config, warn)) process.stdout.write(`# ${path}\n${text}`)
}
