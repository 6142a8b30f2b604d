import { type Command, Help, type Option } from 'commander'
import type { OPTIONS } from './option-rules'

/* The help of knockclient: what most users need on one screen, and all of it where that is asked for. */

/** The options of the short help, which come first in every other, too; those that each command has stand behind them. */
const EVERYDAY: readonly (keyof typeof OPTIONS)[] = ['server', 'port', 'time', 'key', 'wait', 'once', 'close', 'last']
const GENERAL = ['version', 'help', 'helpAll']
/** What is needed once, an option or a command, or not by whoever has just used it. */
const RARE = ['version', 'help', 'completion']

/** Has a program and its subcommands show their everyday options first, and `--help` of the program no others. */
export function withShortHelp(program: Command): Command {
  let isAll = false
  const whole = new Help()
  const usual = program.configureHelp()
  const isShort = (command: Command) => command === program && !isAll
  return program
    .option('--help-all', 'print the help with all options and exit')
    .on('option:help-all', () => {
      isAll = true
      program.help()
    })
    .configureHelp({
      ...usual,
      visibleOptions: (command) => {
        const all = whole.visibleOptions(command).toSorted((a, b) => rankOf(a) - rankOf(b))
        return isShort(command) ? all.filter((option) => rankOf(option) !== OTHERS && !RARE.includes(option.name())) : all
      },
      subcommandTerm: (command) =>
        command.parent === program && !isAll ? command.name() : (usual.subcommandTerm?.(command) ?? command.name()),
      visibleArguments: (command) => (isShort(command) ? [] : whole.visibleArguments(command)),
      visibleCommands: (command) =>
        whole.visibleCommands(command).filter((one) => !isShort(command) || !RARE.includes(one.name())),
    })
}

/** Where the options stand that are neither everyday nor general. */
const OTHERS = EVERYDAY.length

function rankOf(option: Option): number {
  const name = option.attributeName()
  if (GENERAL.includes(name)) return OTHERS + 1 + GENERAL.indexOf(name)
  const rank = (EVERYDAY as readonly string[]).indexOf(name)
  return rank < 0 ? OTHERS : rank
}
