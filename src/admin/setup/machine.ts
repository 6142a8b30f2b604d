import { access, constants, stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import { absence, BACKENDS } from '../../daemon/backends/all'
import { checkVersion } from '../../daemon/nftables/trial'
import { findCommand, run } from '../../system/commands'
import { Fault } from '../../system/fault'
import { mayTry } from '../guard'

/* Whether this machine can be set up at all. */

/** What a set-up runs, whatever the backend. */
const PROGRAMS = ['ss', 'setpriv', 'flock', 'tcpdump', 'install', 'id']
/** Where systemd has been booted, sd_booted(3). */
const BOOTED = '/run/systemd/system'
/** Folders that the daemon's unit does not see (ProtectHome=). */
const HOMES = /^\/(home|root|run\/user)(\/|$)/

/** Whether systemd starts what runs here. */
export const hasSystemd = (): Promise<boolean> =>
  access(BOOTED).then(
    () => true,
    () => false,
  )

/**
 * Looks whether all is there that a set-up needs.
 * @param root the folder of the programs, with bin and dist
 * @throws {Fault} what is missing first
 */
export async function checkMachine(root: string): Promise<void> {
  if (process.platform !== 'linux') throw new Fault('a server requires Linux', { hint: 'run this on the server' })
  await checkRoot()
  for (const program of PROGRAMS) await findCommand(program)
  if (HOMES.test(root) && (await hasSystemd()))
    throw new Fault(`${root}: the daemon's unit sees no home folders`, { hint: 'move Knockturn to /opt/knockturn' })
  for (const path of [process.execPath, `${root}/dist/knockdaemon.cjs`]) await checkForAll(path)
}

/** @throws {Fault} where we are not root, or may not change the firewall */
export async function checkRoot(): Promise<void> {
  if (process.geteuid?.() !== 0 || !(await mayTry()))
    throw new Fault('only root can set up a server, with CAP_NET_ADMIN', { hint: 'run this as root, or with sudo' })
}

/** @throws {Fault} where a file can't be read by every user, as the daemon's */
async function checkForAll(path: string): Promise<void> {
  const isOpen = async (one: string, bits: number) => ((await stat(one)).mode & bits) === bits
  if (!(await isOpen(path, constants.S_IROTH)))
    throw new Fault(`${path}: the daemon's user cannot read it`, { hint: `run "chmod a+r ${path}"` })
  for (let folder = dirname(path); ; folder = dirname(folder)) {
    if (!(await isOpen(folder, constants.S_IXOTH)))
      throw new Fault(`${folder}: the daemon's user cannot look into it, and needs ${path}`, {
        hint: `move it to where every user can read it, such as /opt, or run "chmod a+x ${folder}"`,
      })
    if (folder === dirname(folder)) return
  }
}

/**
 * Whether nftables can be used: nft is there and new enough, and the kernel answers it.
 * @throws {Fault} where neither it nor iptables is there
 */
export async function canUseNftables(): Promise<boolean> {
  const fault = await absence(BACKENDS.nftables)
  const isUsable =
    fault === null &&
    (await Promise.all([checkVersion(), run('nft', ['list', 'tables'])]).then(
      () => true,
      () => false,
    ))
  if (!isUsable && (await absence(BACKENDS['iptables with a guard'])))
    throw (
      fault ??
      new Fault('neither nftables nor iptables can be used here', { hint: 'install nftables 1.0.6 or newer, or iptables' })
    )
  return isUsable
}
