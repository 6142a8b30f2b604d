import { dirname } from 'node:path'
import type { Command } from 'commander'
import { composeGuard, mayTry, printedFiles, writeGuard } from '../../admin/guard'
import { Fault } from '../../system/fault'
import { subcommand } from '../options'
import { addTry } from './guard-try'
import { printedByItself } from './itself'
import { configOption } from './places'
import { print, warn } from './voice'

/** Gives knockturn the commands of the guard. */
export function addGuard(parent: Command): void {
  const guard = subcommand(parent, 'guard', 'save the guard for boot, or try it', 'guard save')
  subcommand(guard, 'save', 'write the guard into files that shut the guarded ports at boot, before the network', 'guard save')
    .addOption(configOption())
    .option('--print', 'print the files, and change nothing')
    .action(save)
  addTry(guard)
}

async function save({ config, print: isPreview = false }: { config: string; print?: boolean }): Promise<void> {
  if (isPreview) {
    for (const { path, text } of await composeGuard(config, warn)) process.stdout.write(`# ${path}\n${text}`)
    return
  }
  // Only we may write beside the config, and who reads the keyring may have to be its owner.
  if (!(await mayTry())) throw new Fault('the kernel has to try the guard, and this user may not', { hint: 'run this as root' })
  const { code, printed } = await printedByItself(['guard', 'save', '--print', '--config', config])
  if (code !== 0) {
    process.exitCode = code
    return
  }
  const folder = dirname(config)
  const files = printedFiles(printed, folder)
  await writeGuard(folder, files)
  print(`saved: ${files.map(({ path }) => path).join(' and ')} (knockturn-guard.service loads the guard at boot)`)
}
