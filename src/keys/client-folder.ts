import { homedir } from 'node:os'
import { posix, win32 } from 'node:path'

/* Where a client keeps its files. */

/** The environment, as far as it says where. */
type Environment = Readonly<Record<string, string | undefined>>

/**
 * The folder of keyring and config. On macOS it is the same as on Linux: ssh and age keep their files in the home folder, too, and a path that
 * is the same on both machines can be written in one instruction.
 * @param home the user's home folder
 */
export function configFolder(platform: NodeJS.Platform, env: Environment, home: string): string {
  if (env.XDG_CONFIG_HOME) return pathsOf(platform).join(env.XDG_CONFIG_HOME, 'knockturn')
  if (platform === 'win32') return win32.join(env.APPDATA || win32.join(home, 'AppData', 'Roaming'), 'knockturn')
  return posix.join(home, '.config', 'knockturn')
}

/** The folder of what is kept from one run to the next; on Windows, of this machine alone. @param home the user's home folder */
export function stateFolder(platform: NodeJS.Platform, env: Environment, home: string): string {
  if (env.XDG_STATE_HOME) return pathsOf(platform).join(env.XDG_STATE_HOME, 'knockturn')
  if (platform === 'win32') return win32.join(env.LOCALAPPDATA || win32.join(home, 'AppData', 'Local'), 'knockturn')
  return posix.join(home, '.local', 'state', 'knockturn')
}

const pathsOf = (platform: NodeJS.Platform) => (platform === 'win32' ? win32 : posix)

/** This user's {@link configFolder}. */
export const ourConfigFolder = (): string => configFolder(process.platform, process.env, homedir())

/** This user's {@link stateFolder}. */
export const ourStateFolder = (): string => stateFolder(process.platform, process.env, homedir())
