import { constants, readdir, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { absence, BACKENDS } from '../../daemon/backends/all'
import { checkVersion } from '../../daemon/nftables/trial'
import { findCommand, run } from '../../system/commands'
import { Fault } from '../../system/fault'
import { exists } from '../../system/files'
import { mayTry } from '../guard'

/* Whether this machine can be set up at all. */

/** What a set-up runs, whatever the backend. */
const PROGRAMS = ['ss', 'setpriv', 'flock', 'tcpdump', 'install', 'id']
/** Where systemd has been booted, sd_booted(3). */
const BOOTED = '/run/systemd/system'
/** Folders that the daemon's unit does not see (ProtectHome=). */
const HOMES = /^\/(home|root|run\/user)(\/|$)/

/** Of a folder's mode: only its owner deletes or renames what is in there (S_ISVTX). */
const STICKY = 0o1000

/** Whether systemd starts what runs here. */
export const hasSystemd = (): Promise<boolean> => exists(BOOTED)

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
  const programs = await Promise.all(
    ['bin', 'dist'].map(async (folder) => (await readdir(join(root, folder))).map((name) => join(root, folder, name))),
  )
  await checkRootsAlone([process.execPath, ...programs.flat()])
}

/**
 * Looks whether programs are root's alone, and each folder in which they lie: units run them as root, at each boot.
 * @throws {Fault} where another user could change one
 */
export async function checkRootsAlone(programs: readonly string[]): Promise<void> {
  const withFolders = programs.flatMap((path) => {
    const paths = [path]
    while (dirname(paths[0]) !== paths[0]) paths.unshift(dirname(paths[0]))
    return paths
  })
  for (const path of new Set(withFolders))
    if (isOthers(await stat(path)))
      throw new Fault(`${path}: another user than root could change it, and root would run what they put there`, {
        hint: `run "chown root ${path} && chmod o-w ${path}", or install Knockturn where only root may write`,
      })
}

/** Whether others than root could change a file, or what is in a folder. Which groups root lets write is root's to decide. */
export function isOthers({ uid, mode }: { readonly uid: number; readonly mode: number }): boolean {
  // Where a folder is like /tmp, nobody can change what is another's.
  return uid !== 0 || ((mode & constants.S_IWOTH) !== 0 && (mode & STICKY) === 0)
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
