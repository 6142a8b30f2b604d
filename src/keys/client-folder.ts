import { homedir } from 'node:os'
import { join as joinHere } from 'node:path'

/* Where a client keeps its files. */

/** What says where: the system, its environment, the user's home folder, and how paths are put together there. */
type System = readonly [
  platform: NodeJS.Platform,
  env: Readonly<Record<string, string | undefined>>,
  home: string,
  join: (...names: string[]) => string,
]

/**
 * The folder of keyring and config. On macOS it is the same as on Linux: ssh and age keep their files in the home folder, too, and a path that
 * is the same on both machines can be written in one instruction.
 */
export function configFolder(...[platform, env, home, join]: System): string {
  if (env.XDG_CONFIG_HOME) return join(env.XDG_CONFIG_HOME, 'knockturn')
  if (platform === 'win32') return join(env.APPDATA || join(home, 'AppData', 'Roaming'), 'knockturn')
  return join(home, '.config', 'knockturn')
}

/** The folder of what is kept from one run to the next; on Windows, of this machine alone. */
export function stateFolder(...[platform, env, home, join]: System): string {
  if (env.XDG_STATE_HOME) return join(env.XDG_STATE_HOME, 'knockturn')
  if (platform === 'win32') return join(env.LOCALAPPDATA || join(home, 'AppData', 'Local'), 'knockturn')
  return join(home, '.local', 'state', 'knockturn')
}

const ours = (): System => [process.platform, process.env, homedir(), joinHere]

/** This user's {@link configFolder}. */
export const ourConfigFolder = (): string => configFolder(...ours())

/** This user's {@link stateFolder}. */
export const ourStateFolder = (): string => stateFolder(...ours())
