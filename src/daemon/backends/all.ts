import { findCommand } from '../../system/commands'
import type { Fault } from '../../system/fault'
import type { Config } from '../config'
import type { Backend } from './backend'
import { commandBackend } from './command'
import { dryRun } from './dry-run'
import { iptables } from './iptables'
import { iptablesGuard } from './iptables-guard'
import { nftables } from './nftables'

/** The backends, by their names in the config, but for the user's own program; iptables has two ways. */
export const BACKENDS: Readonly<Record<Exclude<Config['firewall']['backend'], 'command'> | 'iptables with a guard', Backend>> = {
  iptables,
  'iptables with a guard': iptablesGuard,
  nftables,
  'dry-run': dryRun,
}

/** The backend of a config. */
export function backendOf({ firewall, ledger }: Pick<Config, 'firewall' | 'ledger'>): Backend {
  if (firewall.backend === 'command') return commandBackend(firewall.command, ledger.path)
  return firewall.backend === 'iptables' && firewall.guard.ports.length > 0 ? iptablesGuard : BACKENDS[firewall.backend]
}

/** That a program of a backend's is not installed; null where all are. */
export async function absence({ commands }: Backend): Promise<Fault | null> {
  for (const command of commands) {
    const fault = await findCommand(command).then(
      () => null,
      (error: Fault) => error,
    )
    if (fault) return fault
  }
  return null
}
