import { once } from 'node:events'
import { ownPrivileges } from './capabilities'
import { spawn } from './child-process'
import { Fault, reason } from './fault'

/** How a Node says that it changes its user for nobody: where its libuv, such as that of Debian 13, might use io_uring (CVE-2024-22017). */
export const CHANGES_NO_USER = 'ERR_INVALID_STATE'

/**
 * Has the whole command begin once more as another user, with what this one may do to the firewall and nothing else, and ends with its exit
 * code: for a Node that can't change its user itself. Nothing may have been done yet.
 * @throws {Fault} where it can't be begun
 */
export async function beginAgainAs({ uid, gid }: { readonly uid: number; readonly gid: number }): Promise<never> {
  const { missing } = await ownPrivileges({ firewall: true, capture: false })
  const capabilities = missing.length === 0 ? ['--inh-caps=+net_admin', '--ambient-caps=+net_admin'] : []
  const user = ['--reuid', `${uid}`, '--regid', `${gid}`, '--clear-groups', '--no-new-privs', ...capabilities]
  const child = spawn('setpriv', [...user, process.execPath, ...process.execArgv, ...process.argv.slice(1)], { stdio: 'inherit' })
  try {
    const [code] = await once(child, 'close')
    process.exit(code ?? 1)
  } catch (error) {
    throw new Fault(`cannot continue as user ${uid}, neither by this Node nor by setpriv: ${reason(error)}`)
  }
}
