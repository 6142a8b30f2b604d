import { access, constants } from 'node:fs/promises'
import { isAbsolute, join } from 'node:path'
import { execa } from 'execa'
import { errorCode, Fault } from './fault'

/** How long a command may take, in milliseconds, its own wait for the firewall's lock included. */
const TIME_LIMIT = 15_000
/** Most output that is read of a command: `iptables -S` with every lease that may be in force. */
const MAX_OUTPUT = 8 * 1024 * 1024

/** Arguments of a command that a fault shows: enough to know which rule, without a line of its own. */
const SHOWN_ARGS = 6

/** A command that ran and failed; without an exit code it was ended, by its time limit or otherwise. */
export class CommandFault extends Fault {
  constructor(
    message: string,
    readonly exitCode: number | undefined,
  ) {
    super(message)
  }
}

/** Where the system's tools are: an ordinary user's PATH leaves out sbin. */
export function commandPath(): string {
  // An empty or relative element would be the current folder's: never for a program that may be root.
  const own = (process.env.PATH ?? '').split(':').filter(isAbsolute)
  return [...own, '/usr/sbin', '/sbin', '/usr/bin', '/bin'].join(':')
}

/**
 * Runs a command with a list of arguments: never a shell.
 * @returns its standard output
 * @throws {CommandFault} with what the command said, when it fails or takes too long
 * @throws {Fault} when it is missing
 */
export async function run(command: string, args: readonly string[], input = ''): Promise<string> {
  try {
    const { stdout } = await execa(command, args, {
      input,
      timeout: TIME_LIMIT,
      maxBuffer: MAX_OUTPUT,
      // xtables prints dates and reads them back: in one language, and in UTC.
      env: { PATH: commandPath(), LC_ALL: 'C', TZ: 'UTC' },
      extendEnv: false,
    })
    return stdout
  } catch (error) {
    if (errorCode(error) === 'ENOENT') throw missing(command)
    const { stderr, shortMessage, exitCode } = error as { stderr?: string; shortMessage?: string; exitCode?: number }
    const said = stderr?.trim().split('\n')[0] || shortMessage || 'it failed'
    throw new CommandFault(`${command} ${args.slice(0, SHOWN_ARGS).join(' ')}: ${said}`, exitCode)
  }
}

/** The fault of a command that is not installed. */
export function missing(command: string): Fault {
  const instead = INSTEAD[command] ?? ''
  return new Fault(`${command} is missing: install it (Debian: apt-get install ${PACKAGES[command] ?? command})${instead}`)
}

/** @throws {Fault} where a command is not installed */
export async function findCommand(command: string): Promise<void> {
  for (const folder of commandPath().split(':')) {
    const found = await access(join(folder, command), constants.X_OK).then(
      () => true,
      () => false,
    )
    if (found) return
  }
  throw missing(command)
}

/** Debian's packages, where they are not named as the command. */
const PACKAGES: Record<string, string> = {
  ip6tables: 'iptables',
  'iptables-restore': 'iptables',
  'ip6tables-restore': 'iptables',
  flock: 'util-linux',
  prlimit: 'util-linux',
  setpriv: 'util-linux',
  journalctl: 'systemd',
}

/** What to do without it, where that is possible. */
const INSTEAD: Record<string, string> = {
  tcpdump: ', or set source = "file" or "journal" in [taps]',
  journalctl: ', or set source = "nflog" or "file" in [taps]',
}
