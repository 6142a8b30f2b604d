import { ownPrivileges, ROOT, type Work } from '../system/capabilities'
import { Fault, listed } from '../system/fault'

/** Capabilities that a fault names; of the rest it says how many there are. */
const SHOWN = 3

/** What starts a daemon with just these, in front of its command. */
export const SETPRIV =
  'setpriv --reuid knockturn --regid knockturn --clear-groups --no-new-privs' +
  ' --inh-caps=-all,+net_admin --ambient-caps=-all,+net_admin --bounding-set=-all,+net_admin'

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
  const { missing, excess } = await ownPrivileges(work)
  const next = `start it by docs/systemd/knockdaemon.service, or with "${SETPRIV} ${command}"`
  if (missing.length > 0)
    throw new Fault(`missing privileges: requires ${list(missing)}, in a form that iptables and tcpdump inherit`, { hint: next })
  if (excess.length === 0) return
  if (!allowRoot)
    throw new Fault(`must not run with unneeded privileges (${list(excess)}): requires its own user with only cap_net_admin`, {
      hint: `${next}, or add --allow-root`,
    })
  warn(`running with unneeded privileges (${list(excess)}): ${next}`)
}

function list(capabilities: readonly string[]): string {
  return listed(
    capabilities.map((name) => (name === ROOT ? name : `cap_${name}`)),
    SHOWN,
  )
}
