import type { ChildProcess } from 'node:child_process'
import { constants } from 'node:os'
import { type Command, Option } from 'commander'
import { knockAllUntilOpen } from '../../client/client'
import { localAddressTo } from '../../client/transport'
import type { Beside } from '../../client/waiting'
import { spawn } from '../../system/child-process'
import { Fault, quoted, reason, UsageFault } from '../../system/fault'
import { subcommand } from '../options'
import { EXIT, noteOf } from '../voice'
import { NAME } from './aim'
import { close, stayingAt } from './connect'
import { type Door, type DoorOptions, fillFromProfile, findDoor, readPort, type Target, tellOf, withDoor } from './door'
import { knockByEither, worthOf } from './either'
import { complainOfSilence } from './timeout'

/** Time for a command to make its connections in. */
const DEFAULT_SECONDS = 5 * 60
/** What is meant for the command. From a terminal, the first two reach it without us. */
const SIGNALS = ['SIGINT', 'SIGQUIT', 'SIGHUP', 'SIGTERM', 'SIGUSR1', 'SIGUSR2'] as const
const OF_TERMINAL: readonly string[] = SIGNALS.slice(0, 2)

/** What parts our words from those of the command. */
const SEPARATOR = '--'
const BEHIND = 'the command and its options expected behind "--"'

interface Options extends DoorOptions {
  port?: number
}

/** Gives knockclient the subcommand `exec`. */
export function addExec(parent: Command): void {
  const description = 'knock, wait until the service answers, and run a command, whose exit code it takes'
  const example = 'exec gate.example -p 22 -- rsync -a photos/ gate.example:photos/'
  const command = subcommand(parent, 'exec', description, example)
  const { outputError } = command.configureOutput()
  withDoor(command, DEFAULT_SECONDS)
    // What is meant for the command is no option of ours.
    .configureOutput({
      outputError: (text, write) => {
        const isTheirs = text.includes('unknown option') && !process.argv.includes(SEPARATOR)
        outputError?.(isTheirs ? `${text.trim()}: ${BEHIND}` : text, write)
      },
    })
    .usage('[options] <host> [-p <port>] -- <command> [args...]')
    .argument('<host>', "the server, or a profile, or the name of a key, which stands for the key's host")
    .argument('<command...>', 'the command and its arguments, behind --')
    .addOption(
      new Option('-p, --port <port>', "the port to open (default: the profile's first, or the key's only one)").argParser(
        readPort,
      ),
    )
    .action(async (host: string, words: string[], _options: Options, command: Command) => {
      checkSeparated(words)
      const target = await fillFromProfile(command, host)
      process.exitCode = await exec(target, command.opts<Options>().port ?? target.service, words, command)
    })
}

/** Checks that the command stands behind the separator: in front of it, its options would be taken for ours. @throws {UsageFault} */
function checkSeparated(words: readonly string[]): void {
  const at = process.argv.indexOf(SEPARATOR)
  const behind = at < 0 ? 0 : process.argv.length - at - 1
  if (words.length > behind) throw new UsageFault(`${BEHIND}, got ${quoted(words[0])} in front`)
}

async function exec(target: Target, asked: number | null, words: readonly string[], command: Command): Promise<number> {
  const options = command.opts<Options>()
  const door = await findDoor(target, asked, false, command)
  if (!door) return EXIT.ok
  const knock = (one: Door, limit: number, beside: Beside) => {
    const { address, port, sending, sequence } = one
    return knockAllUntilOpen([{ sending, sequence, watched: port }], address, limit, tellOf(one), beside)
  }
  const { by, result, note } = await knockByEither(door, door.end - performance.now(), knock, worthOf)
  if (!result.isOpen) return complainOfSilence(options, by, result, note)
  if (note !== null && !options.quiet) noteOf(NAME, note)
  if (!options.close) return run(words)
  const here = stayingAt(by, await localAddressTo(by.address))
  try {
    return await run(words)
  } finally {
    await close(here)
  }
}

/**
 * Runs a command as if it were in our place; without execa, which would cost every start of the client 5 ms and has nothing to do here.
 * @returns its exit code, or 128 and the number of the signal that ended it
 */
function run([program, ...args]: readonly string[]): Promise<number> {
  return new Promise((resolve, reject) => {
    let child: ChildProcess | undefined
    // Before it is there: a signal may come as soon as it has said its first word.
    for (const signal of SIGNALS)
      process.on(signal, () => {
        if (!(OF_TERMINAL.includes(signal) && process.getBuiltinModule('node:tty').isatty(0))) child?.kill(signal)
      })
    child = spawn(program, args, { stdio: 'inherit' })
    child.on('error', (error) =>
      reject(new Fault(`${program}: the command cannot be run: ${reason(error)}: is it installed, and in PATH?`)),
    )
    child.on('exit', (code, signal) => resolve(code ?? 128 + constants.signals[signal as NodeJS.Signals]))
  })
}
