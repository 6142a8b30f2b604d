import { once } from 'node:events'
import { dirname } from 'node:path'
import { text } from 'node:stream/consumers'
import type { Command } from 'commander'
import { composeGuard, mayTry, printedFiles, writeGuard } from '../../admin/guard'
import { spawn } from '../../system/child-process'
import { Fault } from '../../system/fault'
import { subcommand } from '../options'
import { addTry } from './guard-try'
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
  if (!(await mayTry())) throw new Fault('the kernel has to try the guard, and this user may not', { hint: 'run this as root' })
  const { code, printed } = await printedByItself(config)
  if (code !== 0) {
    process.exitCode = code
    return
  }
  const folder = dirname(config)
  const files = printedFiles(printed, folder)
  await writeGuard(folder, files)
  print(`saved: ${files.map(({ path }) => path).join(' and ')} (knockturn-guard.service loads the guard at boot)`)
}

/**
 * What `guard save --print` prints, in a process of its own: who reads the keyring may begin again as its owner (see asOwner), and only we may
 * write beside the config. Its warnings and errors are printed already.
 */
async function printedByItself(config: string): Promise<{ code: number; printed: string }> {
  const argv = [...process.execArgv, process.argv[1] ?? '', 'guard', 'save', '--print', '--config', config]
  const child = spawn(process.execPath, argv, { stdio: ['ignore', 'pipe', 'inherit'] })
  const [printed, [code]] = await Promise.all([text(child.stdout), once(child, 'close')])
  return { code: code ?? 1, printed }
}
