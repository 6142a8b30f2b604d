import { join } from 'node:path'
import { execa } from 'execa'
import { commandPath } from '../system/commands'

/** The folder of the programs, with bin and dist: that of the bundle that runs, which is in its dist. */
export const programFolder = (): string => join(__dirname, '..')

/** What a script has come to. */
export interface ScriptResult {
  /** Undefined where it could not be started, or was ended by a signal. */
  readonly exitCode: number | undefined
  /** Both are empty where they were not piped. */
  readonly stdout: string
  readonly stderr: string
  /** What to say of a failure of which the script itself has said nothing; undefined where it has succeeded. */
  readonly shortMessage: string | undefined
}

/**
 * Runs one of our scripts (bin): for as long as it takes, and to its end where we are ended, because half of its work is of no use to anybody.
 * @param name such as `knockturn-trial`
 * @param output where both its outputs go
 */
export async function runOwnScript(name: string, args: readonly string[], output: 'pipe' | 'inherit'): Promise<ScriptResult> {
  const { exitCode, stdout, stderr, shortMessage } = await execa(join(programFolder(), 'bin', name), args, {
    stdin: 'ignore',
    stdout: output,
    stderr: output,
    reject: false,
    cleanup: false,
    env: { PATH: commandPath(), LC_ALL: 'C' },
    extendEnv: false,
  })
  return { exitCode, stdout: String(stdout ?? ''), stderr: String(stderr ?? ''), shortMessage }
}

/** The first line that a script has said of its failure, or what there is to say where it has said nothing. */
export const saidOf = ({ stderr, shortMessage }: ScriptResult): string =>
  stderr.split('\n').find((line) => line.trim() !== '') ?? shortMessage ?? 'it said nothing'

/** Most that a program of ours may say, in bytes: a list of 100,000 keys, at some 600 bytes each. */
const MAX_SAID = 64 * 1024 * 1024
/** Milliseconds that it may take: --check runs dozens of other programs, each of which has its own limit. */
const SAYING_TIME = 120_000

/**
 * Has a program of ours say something, as a process of its own by this very Node: it may begin again as the keyring's owner (see asOwner), which this one
 * must not.
 * @param name such as `knockdaemon`
 */
export async function askOwnProgram(name: string, args: readonly string[]): Promise<ScriptResult> {
  const { exitCode, stdout, stderr, shortMessage } = await execa(
    process.execPath,
    [...process.execArgv, join(programFolder(), 'bin', name), ...args],
    {
      stdin: 'ignore',
      reject: false,
      stripFinalNewline: false,
      timeout: SAYING_TIME,
      maxBuffer: MAX_SAID,
      env: { PATH: commandPath() },
      extendEnv: false,
    },
  )
  return { exitCode, stdout, stderr, shortMessage }
}
