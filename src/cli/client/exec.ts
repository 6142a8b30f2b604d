import { type Command, Option } from 'commander'
import { knockAllUntilOpen, type Told } from '../../client/client'
import { knockByEither, worthOf } from '../../client/either'
import { runCommand } from '../../client/run-command'
import type { Outgoing } from '../../client/sending'
import { localAddressTo } from '../../client/transport'
import type { Beside } from '../../client/wait-result'
import { quoted, UsageFault } from '../../system/fault'
import { subcommand } from '../options'
import { EXIT, hintAt, noteOf } from '../voice'
import { NAME } from './aim'
import { close, type DoorOptions, fillFromProfile, findDoor, HOST, readPort, type Target, tellPass, withDoor } from './door'
import { openingOf } from './outcome'
import type { Ready } from './ready'
import { reportUnopened } from './unopened'

/** Time for a command to make its connections in. */
const DEFAULT_SECONDS = 5 * 60
/** What parts our words from those of the command. */
const SEPARATOR = '--'
const BEHIND = 'put the command and its options after "--"'

interface Options extends DoorOptions {
  port?: number
}

/** Gives knockclient the subcommand `exec`. */
export function addExec(parent: Command): void {
  const description = 'knock, wait until the service answers, and run a command, which gives the exit code'
  const example = 'exec gate.example -p 22 -- rsync -a photos/ gate.example:photos/'
  const command = subcommand(parent, 'exec', description, example).summary('knock, wait for the service and run a command')
  const { outputError } = command.configureOutput()
  withDoor(command, DEFAULT_SECONDS, 'close the port when the command ends')
    // What is meant for the command is no option of ours.
    .configureOutput({
      outputError: (text, write) => {
        outputError?.(text, write)
        if (text.includes('unknown option') && !process.argv.includes(SEPARATOR)) hintAt(BEHIND)
      },
    })
    .usage('[options] <host> [-p <port>] -- <command> [args...]')
    .argument('<host>', HOST)
    .argument('<command...>', 'command and its arguments, after --')
    .addOption(
      new Option('-p, --port <port>', "port to open (default: the profile's first, or the key's only one)").argParser(readPort),
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
  if (words.length > behind) throw new UsageFault(`${quoted(words[0])} comes before "--", or there is no "--"`, { hint: BEHIND })
}

async function exec(target: Target, asked: number | null, words: readonly string[], command: Command): Promise<number> {
  const options = command.opts<Options>()
  const door = await findDoor(target, asked, false, command)
  if (!door) return EXIT.ok
  const { key, ready } = door
  const knock = (one: Ready<Outgoing>, limit: number, beside: Beside) =>
    knockAllUntilOpen(one.outgoing, one.address, limit, tellOf(one), beside)
  const { by, result, note } = await knockByEither(ready, ready.end - performance.now(), knock, worthOf)
  if (!result.isOpen) return reportUnopened(options, key, by, result, note)
  if (note !== null && !options.quiet) noteOf(NAME, note)
  if (!options.close) return runCommand(words)
  const sending = { ...by.outgoing[0].sending, from: await localAddressTo(by.address) }
  try {
    return await runCommand(words)
  } finally {
    await close(sending, by.address, by.say)
  }
}

/** Reports that a pass has been sent, and that the port is open. */
function tellOf(ready: Ready<Outgoing>): Told {
  return { pass: tellPass(ready), opened: (port, opening) => ready.say?.(`${ready.host} ${openingOf(port, opening)}`) }
}
