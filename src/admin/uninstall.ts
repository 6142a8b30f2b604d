import { execa } from 'execa'
import { commandPath } from '../system/commands'
import { Fault } from '../system/fault'
import { ownScript } from './own-script'

/** The script that takes everything away: it works without Node, too. */
const SCRIPT = 'knockturn-uninstall'

/** What would be done to take Knockturn off this machine: a command each line; none: nothing of it is here. @throws {Fault} where that can't be known */
export async function plannedRemovals(): Promise<readonly string[]> {
  const { stdout, exitCode, stderr, shortMessage } = await begin(['--dry-run'], 'pipe')
  if (exitCode !== 0) throw new Fault(`cannot look what is here: ${String(stderr || shortMessage)}`)
  return String(stdout).split('\n').filter(Boolean)
}

/** Takes everything of Knockturn's off this machine, but its programs. What fails is printed on standard error. @throws {Fault} where something does */
export async function uninstall(): Promise<void> {
  const { exitCode } = await begin([], 'inherit')
  if (exitCode !== 0)
    throw new Fault('not everything could be removed: see above', {
      hint: 'when that is put right, run "knockturn uninstall" again',
    })
}

async function begin(args: readonly string[], output: 'inherit' | 'pipe') {
  return execa(await ownScript(SCRIPT), args, {
    stdin: 'ignore',
    stdout: output,
    stderr: output,
    reject: false,
    // Half an uninstallation is of no use to anybody: it goes on where we are ended.
    cleanup: false,
    env: { PATH: commandPath(), LC_ALL: 'C' },
    extendEnv: false,
  })
}
