import { join } from 'node:path'
import { hasCommand } from '../system/commands'
import { exists } from '../system/files'

/**
 * Which backend "auto" is: that of the guard that is saved beside the config, which is loaded at boot. So it is chosen once, by the first
 * `knockturn guard save`: nftables where that is installed.
 * @param folder of the config
 */
export async function resolveAuto(folder: string): Promise<'nftables' | 'iptables'> {
  for (const [name, backend] of Object.entries(SAVED_GUARDS)) if (await exists(join(folder, name))) return backend
  return (await hasCommand('nft')) ? 'nftables' : 'iptables'
}

/** Every file that a saved guard may have, and its backend; bin/knockturn-guard loads those that are there. */
export const SAVED_GUARDS = { 'guard.nft': 'nftables', 'guard.iptables': 'iptables', 'guard.ip6tables': 'iptables' } as const

/** What `guard save` writes beside them where the config has fail_open_to; bin/knockturn-fail-open reads it. */
export const SAVED_FAIL_OPEN = ['fail-open.nft', 'fail-open.iptables', 'fail-open.ip6tables'] as const

/** All that `guard save` may have written. */
export const ALL_SAVED: readonly string[] = [...Object.keys(SAVED_GUARDS), ...SAVED_FAIL_OPEN]
