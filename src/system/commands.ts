import type { ChildProcess } from 'node:child_process'
import { access, constants } from 'node:fs/promises'
import { isAbsolute, join } from 'node:path'
import type { Readable } from 'node:stream'
import { execa } from 'execa'
import { spawn } from './child-process'
import { errorCode, Fault, reason } from './fault'

/** How long a command may take, in milliseconds, its own wait for the firewall's lock included. */
const TIME_LIMIT = 15_000
/** Most of what a command complains of that is kept. */
const MAX_COMPLAINT = 4_096
/** Most output that is read of a command: `iptables -S` with every lease that may be in force. */
const MAX_OUTPUT = 8 * 1024 * 1024

/** Arguments of a command that a fault shows: enough to know which rule, without a line of its own. */
const SHOWN_ARGS = 6

/**
 * Where commands run that have no relative paths: anybody may be there. The folder that we were called in may be one that our user may not enter, such
 * as /root when root has us begin again as another.
 */
export const WHEREVER = '/'

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
 * @param more environment variables that it needs beside those that every command has
 * @returns its standard output
 * @throws {CommandFault} with what the command said, when it fails or takes too long
 * @throws {Fault} when it is missing
 */
export async function run(command: string, args: readonly string[], more: NodeJS.ProcessEnv = {}): Promise<string> {
  try {
    const { stdout } = await execa(command, args, {
      stdin: 'ignore',
      timeout: TIME_LIMIT,
      maxBuffer: MAX_OUTPUT,
      env: { ...surroundings(), ...more },
      extendEnv: false,
      cwd: WHEREVER,
    })
    return stdout
  } catch (error) {
    if (errorCode(error) === 'ENOENT') throw missing(command)
    const { stderr, shortMessage, exitCode } = error as { stderr?: string; shortMessage?: string; exitCode?: number }
    throw failed(command, args, stderr || shortMessage, exitCode)
  }
}

/**
 * Gives a command its input, on standard input, where no other user sees it. Its output is not read. It begins in the tick of the call, and
 * goes by node:child_process: execa takes 1.6 ms a process, which would be a third of the time from the last tap to the open door.
 * @throws as {@link run}
 */
export async function feed(command: string, args: readonly string[], input: string): Promise<void> {
  const child = spawn(command, args, { env: surroundings(), stdio: ['pipe', 'ignore', 'pipe'], timeout: TIME_LIMIT })
  // It may end without having read all of it, and says why.
  child.stdin.on('error', () => {})
  child.stdin.end(input)
  await end(child, command, args)
}

/**
 * Runs a command that has much to say: its output is handed over as it comes, and not kept.
 * @param take told each piece of its standard output; what it throws ends the command, and is thrown
 * @param timeLimit in milliseconds
 * @throws as {@link run}
 */
export async function stream(
  command: string,
  args: readonly string[],
  take: (chunk: string) => void,
  timeLimit = TIME_LIMIT,
): Promise<void> {
  const child = spawn(command, args, { env: surroundings(), stdio: ['ignore', 'pipe', 'pipe'], timeout: timeLimit })
  await new Promise<void>((resolve, reject) => {
    child.stdout.setEncoding('utf8').on('data', (chunk) => {
      try {
        take(chunk)
      } catch (error) {
        child.stdout.destroy()
        child.kill()
        reject(error)
      }
    })
    end(child, command, args).then(resolve, reject)
  })
}

/** Resolves when a child has ended well, and rejects with what it said when it has not. */
function end(child: Spawned, command: string, args: readonly string[]): Promise<void> {
  return new Promise((resolve, reject) => {
    let complaint = ''
    child.stderr.setEncoding('utf8').on('data', (text) => {
      if (complaint.length < MAX_COMPLAINT) complaint += text
    })
    child.on('error', (error) =>
      reject(errorCode(error) === 'ENOENT' ? missing(command) : failed(command, args, reason(error), undefined)),
    )
    child.on('close', (code, signal) => {
      if (code === 0) resolve()
      else reject(failed(command, args, complaint || `it was ended by ${signal}`, code ?? undefined))
    })
  })
}

/** A child whose complaints are heard. */
type Spawned = ChildProcess & { readonly stderr: Readable }

/** xtables prints dates and reads them back: in one language, and in UTC. */
function surroundings(): NodeJS.ProcessEnv {
  return { PATH: commandPath(), LC_ALL: 'C', TZ: 'UTC' }
}

function failed(command: string, args: readonly string[], said = '', exitCode: number | undefined): CommandFault {
  // iptables breaks its lines behind a colon; and a file that it warns of is one that it can do without.
  const [line] = said
    .replace(/^Warning: cannot open .*$/gm, '')
    .trim()
    .replace(/:\s*\n\s*/, ': ')
    .split('\n')
  return new CommandFault(`${command} ${args.slice(0, SHOWN_ARGS).join(' ')}: ${line || 'it failed'}`, exitCode)
}

/** The fault of a command that is not installed. */
export function missing(command: string): Fault {
  const instead = INSTEAD[command] ?? ''
  const hint = `install it (Debian: apt-get install ${PACKAGES[command] ?? command})${instead}`
  return new Fault(`${command} is not installed`, { hint })
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

/** Whether a command is installed. */
export const hasCommand = (command: string): Promise<boolean> =>
  findCommand(command).then(
    () => true,
    () => false,
  )

/** Debian's packages, where they are not named as the command. */
const PACKAGES: Record<string, string> = {
  nft: 'nftables',
  ip6tables: 'iptables',
  'iptables-restore': 'iptables',
  'ip6tables-restore': 'iptables',
  flock: 'util-linux',
  prlimit: 'util-linux',
  setpriv: 'util-linux',
  ss: 'iproute2',
  useradd: 'passwd',
  id: 'coreutils',
  install: 'coreutils',
  timeout: 'coreutils',
  journalctl: 'systemd',
  'systemd-notify': 'systemd',
}

/** What to do without it, where that is possible. */
const INSTEAD: Record<string, string> = {
  iptables: ', or set backend = "nftables" in [firewall]',
  nft: ', or set backend = "iptables" in [firewall]',
  tcpdump: ', or set source = "file" or "journal" in [taps]',
  journalctl: ', or set source = "nflog" or "file" in [taps]',
}
