import type { Command } from 'commander'
import { exposedServices } from '../../admin/exposure'
import { applyChanges, type Change, planInstallation, planRemoval, readOurChains } from '../../admin/firewall'
import { NO_CONNLABEL } from '../../daemon/firewall/trial'
import { subcommand } from '../options'
import { configOption } from './places'
import { print, warn, warnEach } from './voice'

interface InstallOptions {
  config: string
  print?: boolean
  unattended?: boolean
}

/** Gives knockturn the commands of the firewall. */
export function addFirewall(parent: Command): void {
  const firewall = subcommand(parent, 'firewall', 'install, show or remove the chains and the log rules', 'firewall show')
  addInstall(firewall)
  subcommand(firewall, 'remove', 'remove all that install made, and the leases in force', 'firewall remove --print')
    .option('--print', 'print the input for iptables-restore, and change nothing')
    .action(remove)
  subcommand(firewall, 'show', 'show the chains of Knockturn and the leases in force', 'firewall show').action(show)
}

function addInstall(firewall: Command): void {
  subcommand(
    firewall,
    'install',
    'make the chains of Knockturn, the log rules for the pools of all keys, and two jumps from INPUT',
    'firewall install --print',
  )
    .addOption(configOption())
    .option('--print', 'print the input for iptables-restore, and change nothing')
    .option('--unattended', 'warn instead of refusing to cut off a connection: for booting, when nobody can answer')
    .action(install)
}

async function install({ config, print: isPreview = false, unattended = false }: InstallOptions): Promise<void> {
  const { changes, isMarked } = await planInstallation({ config, isPreview, isUnattended: unattended }, warnEach)
  if (isPreview) return printChanges(changes)
  await applyChanges(changes)
  if (!isMarked) warn(NO_CONNLABEL)
  print('installed: INPUT jumps to KNOCKTURN (see "knockturn firewall show")')
  warnEach(await exposedServices(config), 'run "knockdaemon --check" to see them')
}

async function remove({ print: isPreview }: { print?: boolean }): Promise<void> {
  const changes = await planRemoval(warn)
  if (isPreview) return printChanges(changes)
  await applyChanges(changes)
  print('removed: nothing of Knockturn is left in the firewall (a running daemon puts it back: stop it first)')
}

async function show(): Promise<void> {
  for (const { family, lines } of await readOurChains(warn))
    print(
      [`# ${family}`, ...(lines.length > 0 ? lines : ['# no chains of Knockturn: run "knockturn firewall install"'])].join('\n'),
    )
}

function printChanges(changes: readonly Change[]): void {
  for (const { family, script } of changes) process.stdout.write(`# ${family}-restore --noflush\n${script}`)
}
