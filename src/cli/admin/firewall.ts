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
  const firewall = subcommand(parent, 'firewall', 'put the chains and the log rules in place, or take them away', 'firewall show')
  addInstall(firewall)
  subcommand(firewall, 'remove', 'take away all that install made, leases that are in force too', 'firewall remove --print')
    .addOption(configOption().hideHelp())
    .option('--print', 'print what would be fed to iptables-restore, and change nothing')
    .action(remove)
  subcommand(firewall, 'show', 'show our chains and the leases that are in force', 'firewall show')
    // Needed by install only; the three may be called alike.
    .addOption(configOption().hideHelp())
    .action(show)
}

function addInstall(firewall: Command): void {
  subcommand(
    firewall,
    'install',
    'make our chains, the log rules for the pools of all keys, and two jumps from INPUT',
    'firewall install --print',
  )
    .addOption(configOption())
    .option('--print', 'print what would be fed to iptables-restore, and change nothing')
    .option('--unattended', 'where it would refuse to cut off a connection, warn and go on: for a boot, where nobody can answer')
    .action(install)
}

async function install({ config, print: isPreview = false, unattended = false }: InstallOptions): Promise<void> {
  const { changes, isMarked } = await planInstallation({ config, isPreview, isUnattended: unattended }, warnEach)
  if (isPreview) return printChanges(changes)
  await applyChanges(changes)
  if (!isMarked) warn(NO_CONNLABEL)
  print('installed: INPUT jumps to KNOCKTURN; "knockturn firewall show" shows it')
  warnEach(await exposedServices(config), 'see "knockdaemon --check"')
}

async function remove({ print: isPreview }: { print?: boolean }): Promise<void> {
  const changes = await planRemoval(warn)
  if (isPreview) return printChanges(changes)
  await applyChanges(changes)
  print('removed: nothing of ours is left in the firewall (a daemon that still runs will put it back: stop it first)')
}

async function show(): Promise<void> {
  for (const { family, lines } of await readOurChains(warn))
    print([`# ${family}`, ...(lines.length > 0 ? lines : ['# nothing of ours: run "knockturn firewall install"'])].join('\n'))
}

function printChanges(changes: readonly Change[]): void {
  for (const { family, script } of changes) process.stdout.write(`# ${family}-restore --noflush\n${script}`)
}
