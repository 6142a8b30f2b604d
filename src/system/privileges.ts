import { readFile } from 'node:fs/promises'
import { errorCode, Fault, listed } from './fault'

/** Linux's capabilities, by their numbers (linux/capability.h). */
const CAPABILITIES = (
  'chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap linux_immutable net_bind_service net_broadcast ' +
  'net_admin net_raw ipc_lock ipc_owner sys_module sys_rawio sys_chroot sys_ptrace sys_pacct sys_admin sys_boot sys_nice ' +
  'sys_resource sys_time sys_tty_config mknod lease audit_write audit_control setfcap mac_override mac_admin syslog wake_alarm ' +
  'block_suspend audit_read perfmon bpf checkpoint_restore'
).split(' ')
/** Among what is too much: root's own uid. */
const ROOT = 'uid 0'
/** Bits of a set of capabilities in /proc; those beyond the names that we know count, too. */
const BITS = 64
/** Capabilities that a fault names; of the rest it says how many there are. */
const SHOWN = 3

const SETPRIV =
  'setpriv --reuid knockturn --regid knockturn --clear-groups --no-new-privs' +
  ' --inh-caps=-all,+net_admin --ambient-caps=-all,+net_admin --bounding-set=-all,+net_admin'

/** What a daemon will do: only that decides what it may. */
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

/** What this process lacks for a daemon's work; nothing where there are no capabilities. */
export async function missingPrivileges(work: Work): Promise<readonly string[]> {
  const status = await readStatus()
  return status === null ? [] : judgePrivileges(status, work).missing
}

/** @returns null where there is none: only Linux has it, and only Linux has capabilities */
async function readStatus(): Promise<string | null> {
  return readFile('/proc/self/status', 'latin1').catch((error) => {
    if (errorCode(error) === 'ENOENT') return null
    throw error
  })
}

/**
 * Sees to it that a daemon has the privileges that it needs, and no others.
 * @param allowRoot the administrator's word that others are all right
 * @param command how the daemon was called: what to do next names it
 * @param warn told of those that are all right by that word
 * @throws {Fault}
 */
export async function checkPrivileges(
  work: Work,
  allowRoot: boolean,
  command: string,
  warn: (message: string) => void,
): Promise<void> {
  const status = await readStatus()
  if (status === null) return
  const { missing, excess } = judgePrivileges(status, work)
  const next = `start it by docs/systemd/knockdaemon.service, or as a user of its own with "${SETPRIV} ${command}"`
  if (missing.length > 0)
    throw new Fault(`expected ${list(missing)}, for iptables and tcpdump to inherit, and it is missing: ${next}`)
  if (excess.length === 0) return
  if (!allowRoot)
    throw new Fault(
      `expected a user of its own with no capability but cap_net_admin, got ${list(excess)}: ${next}, or say --allow-root`,
    )
  warn(`runs with more than it needs, ${list(excess)}: ${next}`)
}

function list(capabilities: readonly string[]): string {
  return listed(
    capabilities.map((name) => (name === ROOT ? name : `cap_${name}`)),
    SHOWN,
  )
}
