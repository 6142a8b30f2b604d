import { findCommand } from '../../system/commands'
import type { Fault } from '../../system/fault'
import type { Config } from '../config'
import type { Backend } from './backend'
import { dryRun } from './dry-run'
import { iptables } from './iptables'
import { iptablesGuard } from './iptables-guard'
import { nftables } from './nftables'

/** The backends, by their names in the config; iptables has two ways. */
export const BACKENDS: Readonly<Record<Config['firewall']['backend'] | 'iptables with a guard', Backend>> = {
  iptables,
  'iptables with a guard': iptablesGuard,
  nftables,
  'dry-run': dryRun,
}

/** The backend of a config. */
export const backendOf = ({ firewall }: Pick<Config, 'firewall'>): Backend =>
  firewall.backend === 'iptables' && firewall.guard.ports.length > 0 ? iptablesGuard : BACKENDS[firewall.backend]

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
