import { type ChildProcess, spawn } from 'node:child_process'
import { constants } from 'node:os'
import { type Command, Option } from 'commander'
import { knockAllUntilOpen } from '../client'
import { Fault, reason, UsageFault } from '../host/fault'
import { close } from './connect'
import { type DoorOptions, fillFromProfile, findDoor, readPort, tellPass, withDoor } from './door'
import { subcommand } from './options'
import { complainOfSilence } from './silence'
import { EXIT } from './voice'

/** Time for a command to make its connections in. */
const DEFAULT_SECONDS = 5 * 60
/** What is meant for the command. From a terminal, the first two reach it without us. */
const SIGNALS = ['SIGINT', 'SIGQUIT', 'SIGHUP', 'SIGTERM', 'SIGUSR1', 'SIGUSR2'] as const
const OF_TERMINAL: readonly string[] = SIGNALS.slice(0, 2)

/** What parts our words from those of the command. */
const SEPARATOR = '--'
const BEHIND = 'the command and its options expected behind "--"'

interface Options extends DoorOptions {
  p?: number
}

/** Gives knockclient the subcommand `exec`. */
export function addExec(parent: Command): void {
  const description = 'knock, wait until the service answers, and run a command, whose exit code it takes'
  const example = 'exec gate.example -p 22 -- rsync -a photos/ gate.example:photos/'
  const { outputError } = parent.configureOutput()
  withDoor(subcommand(parent, 'exec', description, example), DEFAULT_SECONDS)
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
    .addOption(new Option('-p <port>', "the port to open (default: the profile's first)").argParser(readPort))
    .action(async (host: string, words: string[], _options: Options, command: Command) => {
      checkSeparated(words)
      const first = await fillFromProfile(command, host)
      const port = command.opts<Options>().p ?? first
      if (port === null) throw new UsageFault('-p expected: say which port to open')
      process.exitCode = await exec(host, port, words, command)
    })
}

/** Checks that the command stands behind the separator: in front of it, its options would be taken for ours. @throws {UsageFault} */
function checkSeparated(words: readonly string[]): void {
  const at = process.argv.indexOf(SEPARATOR)
  const behind = at < 0 ? 0 : process.argv.length - at - 1
  if (words.length > behind) throw new UsageFault(`${BEHIND}, got "${words[0].slice(0, 60)}" in front`)
}

async function exec(name: string, port: number, words: readonly string[], command: Command): Promise<number> {
  const options = command.opts<Options>()
  const door = await findDoor(name, port, false, command)
  if (!door) return EXIT.ok
  const { address, sending, sequence } = door
  const going = [{ sending, sequence, watched: port }]
  const ended = await knockAllUntilOpen(going, address, options.wait * 1000, tellPass(door))
  if (ended.shut.length > 0) return complainOfSilence(options, door, ended)
  door.say?.(`${door.host} port ${port} is open`)
  try {
    return await run(words)
  } finally {
    if (options.close) await close(door)
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
