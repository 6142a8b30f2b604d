import type { Command } from 'commander'
import { exposedServices } from '../../admin/exposure'
import { applyChanges, planInstallation, planRemoval, readOurRules } from '../../admin/firewall'
import type { Change } from '../../daemon/backends/backend'
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
  const firewall = subcommand(parent, 'firewall', 'install, show or remove the rules of Knockturn', 'firewall show')
  addInstall(firewall)
  subcommand(firewall, 'remove', 'remove all that install made, and the leases in force', 'firewall remove --print')
    .option('--print', 'print the input for iptables-restore or nft, and change nothing')
    .action(remove)
  subcommand(firewall, 'show', 'show the rules of Knockturn and the leases in force', 'firewall show').action(show)
}

function addInstall(firewall: Command): void {
  subcommand(
    firewall,
    'install',
    'make the rules of Knockturn, with log rules for the pools of all keys',
    'firewall install --print',
  )
    .addOption(configOption())
    .option('--print', 'print the input for iptables-restore or nft, and change nothing')
    .option('--unattended', 'warn instead of refusing to cut off a connection: for booting, when nobody can answer')
    .action(install)
}

async function install({ config, print: isPreview = false, unattended = false }: InstallOptions): Promise<void> {
  const { changes, notes, outcome } = await planInstallation(config, { isPreview, isUnattended: unattended }, warnEach)
  if (isPreview) return printChanges(changes)
  await applyChanges(changes)
  warnEach(notes)
  print(outcome)
  warnEach(await exposedServices(config), 'run "knockdaemon --check" to see them')
}

async function remove({ print: isPreview }: { print?: boolean }): Promise<void> {
  const changes = await planRemoval(warn)
  if (isPreview) return printChanges(changes)
  await applyChanges(changes)
  print('removed: nothing of Knockturn is left in the firewall (a running daemon puts it back: stop it first)')
}

async function show(): Promise<void> {
  const sections = await readOurRules(warn)
  for (const { name, lines } of sections) if (lines.length > 0) print([`# ${name}`, ...lines].join('\n'))
  if (sections.every(({ lines }) => lines.length === 0)) print('# nothing of Knockturn: run "knockturn firewall install"')
}

function printChanges(changes: readonly Change[]): void {
  for (const { command, script } of changes) process.stdout.write(`# ${command}\n${script}`)
}
