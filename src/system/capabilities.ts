import { readFile } from 'node:fs/promises'
import { errorCode } from './fault'

/** Linux's capabilities, by their numbers (linux/capability.h). */
const CAPABILITIES = (
  'chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap linux_immutable net_bind_service net_broadcast ' +
  'net_admin net_raw ipc_lock ipc_owner sys_module sys_rawio sys_chroot sys_ptrace sys_pacct sys_admin sys_boot sys_nice ' +
  'sys_resource sys_time sys_tty_config mknod lease audit_write audit_control setfcap mac_override mac_admin syslog wake_alarm ' +
  'block_suspend audit_read perfmon bpf checkpoint_restore'
).split(' ')
/** Among what is too much: root's own uid. */
export const ROOT = 'uid 0'
/** Bits of a set of capabilities in /proc; those beyond the names that we know count, too. */
const BITS = 64

/** What a process will do: only that decides what it may. */
export interface Work {
  /** Changes the firewall. */
  readonly firewall: boolean
  /** Starts tcpdump on the firewall's log group. */
  readonly capture: boolean
}

/** Capabilities that are needed and not there, and those that are there and not needed. */
export interface Privileges {
  readonly missing: readonly string[]
  readonly excess: readonly string[]
}

/**
 * Compares what a process may do with what its work needs.
 * @param status its /proc/PID/status
 */
export function judgePrivileges(status: string, { firewall, capture }: Work): Privileges {
  const field = (name: string) => new RegExp(`^${name}:\\s*(.*)$`, 'm').exec(status)?.[1] ?? ''
  const set = (name: string) => {
    const bits = BigInt(`0x${field(name) || '0'}`)
    const names = Array.from({ length: BITS }, (_, bit) => CAPABILITIES[bit] ?? String(bit))
    return names.filter((_, bit) => (bits >> BigInt(bit)) & 1n)
  }
  const isRoot = field('Uid').split(/\s+/)[1] === '0'
  // What the programs that we start are given: as root all that is not out of bounds, else only what is ambient.
  const passed = isRoot ? set('CapBnd') : set('CapAmb')
  const effective = set('CapEff')
  const needed = firewall || capture ? ['net_admin'] : []
  // As root, tcpdump insists on changing its user, to root that is.
  if (isRoot && capture) needed.push('setgid', 'setuid')
  const held = new Set([...effective, ...set('CapPrm'), ...passed])
  return {
    missing: needed.filter((name) => !effective.includes(name) || !passed.includes(name)),
    // Whoever takes root's uid over has root's files, whatever else it may not do.
    excess: [
      ...(isRoot && needed.length > 0 ? [ROOT] : []),
      ...[...held].filter((name) => !needed.includes(name) && name !== 'net_admin'),
    ],
  }
}

/**
 * Compares what this process may do with what its work needs.
 * @returns nothing missing and nothing in excess where there are no capabilities: only Linux has them
 * @throws {Error} where the kernel does not tell
 */
export async function ownPrivileges(work: Work): Promise<Privileges> {
  const status = await readFile('/proc/self/status', 'latin1').catch((error) => {
    if (errorCode(error) === 'ENOENT') return null
    throw error
  })
  return status === null ? { missing: [], excess: [] } : judgePrivileges(status, work)
}
