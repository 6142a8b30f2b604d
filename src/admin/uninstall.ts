import { Fault } from '../system/fault'
import { runOwnScript } from './own-script'

/** The script that takes everything away: it works without Node, too. */
const SCRIPT = 'knockturn-uninstall'

/** What would be done to take Knockturn off this machine: a command each line; none: nothing of it is here. @throws {Fault} where that can't be known */
export async function plannedRemovals(): Promise<readonly string[]> {
  const { stdout, exitCode, stderr, shortMessage } = await runOwnScript(SCRIPT, ['--dry-run'], 'pipe')
  if (exitCode !== 0) throw new Fault(`cannot look what is here: ${stderr || shortMessage}`)
  return stdout.split('\n').filter(Boolean)
}

/** Takes everything of Knockturn's off this machine, but its programs. What fails is printed on standard error. @throws {Fault} where something does */
export async function uninstall(): Promise<void> {
  const { exitCode } = await runOwnScript(SCRIPT, [], 'inherit')
  if (exitCode !== 0)
    throw new Fault('not everything could be removed: see above', {
      hint: 'when that is fixed, run "knockturn uninstall" again',
    })
}
