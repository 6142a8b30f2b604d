import { Argument, Command, type HelpConfiguration, Option } from 'commander'
import { KEY_ID, KEY_ID_RULE } from '../protocol/key'
import { quoted, UsageFault } from '../system/fault'
import { refuseWord } from './meant'
import { pathOf, pointer, pointTo } from './pointer'
import { VERSION } from './version'
import { complain } from './voice'

/** A program or subcommand with the manners that all of ours share. */
export function program(name: string, description: string, example: string): Command {
  const command = new Command(name)
    .description(description)
    .version(`${name} ${VERSION}`, '-V, --version', 'print the version and exit')
    .helpOption('-h, --help', 'print the help and exit')
    .configureHelp(IN_OUR_WORDS)
    .showSuggestionAfterError(false)
    .exitOverride()
    .addHelpText('after', `\nExample:\n  ${example}`)
  pointTo(command)
  return withPointer(command)
}

/** What {@link Option} and {@link Argument} share. */
interface Described {
  readonly description: string
  readonly argChoices?: readonly string[]
  readonly defaultValue?: unknown
  readonly defaultValueDescription?: string
}

/** What --help says of something: its choices and its default behind the description, in plain words. */
function describe({ description, argChoices, defaultValue, defaultValueDescription }: Described): string {
  const usual = defaultValueDescription ?? (typeof defaultValue === 'boolean' ? undefined : defaultValue)
  const more = [argChoices && `one of: ${argChoices.join(', ')}`, usual !== undefined && `default: ${usual}`].filter(Boolean)
  return more.length > 0 ? `${description} (${more.join('; ')})` : description
}

/** In the place of commander's own words, some of which are for programmers. */
const IN_OUR_WORDS: HelpConfiguration = {
  optionDescription: describe,
  argumentDescription: describe,
  subcommandTerm: (command) => [command.name(), ...command.registeredArguments.map(placeholder)].join(' '),
  subcommandDescription: (command) =>
    command.name() === 'help' ? 'print the help of a command' : command.summary() || command.description(),
}

function placeholder(argument: Argument): string {
  const name = `${argument.name()}${argument.variadic ? '...' : ''}`
  return argument.required ? `<${name}>` : `[${name}]`
}

/** Has a command's usage faults point to its own help, and a word that is none of its commands refused with what to type. */
function withPointer(command: Command): Command {
  const [name] = pathOf(command).split(' ')
  return command
    .hook('preSubcommand', (_, below) => pointTo(below))
    .configureOutput({ outputError: (text) => complain(name, text.replace(/^error: |\.?\s*$/g, ''), pointer()) })
    .on('command:*', ([word]: string[]) => refuseWord(command, word))
}

/** A subcommand, with the manners of its program, and faults that point to its own help. @param example without the program's name */
export function subcommand(parent: Command, name: string, description: string, example: string): Command {
  let root = parent
  while (root.parent) root = root.parent
  const command = parent.command(name).description(description).allowExcessArguments(false)
  return withPointer(command.addHelpText('after', `\nExample:\n  ${root.name()} ${example}`))
}

/**
 * An option whose text is read by `read`; a text that it does not understand is a usage fault.
 * @param expected what the fault says was expected
 */
export function reading<T>(flags: string, description: string, read: (text: string) => T | null, expected: string): Option {
  const option = new Option(flags, description)
  return option.argParser((text) => {
    const value = read(text)
    if (value === null) throw new UsageFault(`${option.short ?? option.long} expected ${expected}, got ${quoted(text)}`)
    return value
  })
}

/** An option that takes one of some words. */
export function oneOf(flags: string, description: string, words: readonly string[]): Option {
  const option = new Option(flags, description).choices(words)
  return option.argParser((text) => chosen(option.long ?? flags, words, text))
}

/** An argument that is one of some words. */
export function oneOfArgument(flags: string, words: readonly string[]): Argument {
  return new Argument(flags).choices(words).argParser((text) => chosen(flags, words, text))
}

/** @throws {UsageFault} where a text is none of the words: commander's own fault is for programmers */
function chosen(name: string, words: readonly string[], text: string): string {
  if (words.includes(text)) return text
  throw new UsageFault(`${name} expected one of ${words.join(', ')}, got ${quoted(text)}`)
}

/**
 * Has an option understood by its former name, too, which no help shows.
 * @param flags the former ones
 */
export function alsoCalled(command: Command, flags: string, option: Option): void {
  const former = new Option(flags).hideHelp()
  command.addOption(option).addOption(former)
  command.on(`option:${former.name()}`, (text: string) => {
    const value = option.parseArg ? option.parseArg(text, undefined) : text
    command.setOptionValueWithSource(option.attributeName(), value, 'cli')
  })
}

/**
 * Refuses options that are typed where they would do nothing. A profile may have them all the same, for another time.
 * @param names of their attributes
 * @param required what they require
 * @throws {UsageFault}
 */
export function refuseIdle(command: Command, names: readonly string[], required: string): void {
  const isTyped = (option: Option) => command.getOptionValueSource(option.attributeName()) === 'cli'
  const idle = command.options.find((option) => names.includes(option.attributeName()) && isTyped(option))
  if (idle) throw new UsageFault(`${idle.long} requires ${required}`)
}

/** Reads a key's id, or a name that has its form; null for any other text. */
export const readId = (text: string): string | null => (KEY_ID.test(text) ? text : null)

/** Checks a key's id that stands where a command has its argument. @throws {UsageFault} */
export function checkId(id: string): void {
  if (!KEY_ID.test(id)) throw new UsageFault(`<id> expected ${KEY_ID_RULE}, got ${quoted(id)}`)
}

/** Reads a whole number within bounds. */
export function whole(low: number, high: number): (text: string) => number | null {
  return (text) => (/^\d{1,9}$/.test(text) && Number(text) >= low && Number(text) <= high ? Number(text) : null)
}
