import { Command, Option } from 'commander'
import { version } from '../../package.json'
import { UsageFault } from '../host/fault'
import { complain } from './voice'

/** A program or subcommand with the manners that all of ours share. */
export function program(name: string, description: string, example: string): Command {
  return new Command(name)
    .description(description)
    .version(version, '--version', 'print the version and exit')
    .helpOption('-h, --help', 'print this help and exit')
    .showSuggestionAfterError(false)
    .configureOutput({ outputError: (text) => complain(name, `${text.replace(/^error: |\.?\s*$/g, '')}: see "${name} --help"`) })
    .exitOverride()
    .addHelpText('after', `\nExample:\n  ${example}`)
}

/** A subcommand, with the manners of its program. @param example without the program's name */
export function subcommand(parent: Command, name: string, description: string, example: string): Command {
  let root = parent
  while (root.parent) root = root.parent
  return parent.command(name).description(description).addHelpText('after', `\nExample:\n  ${root.name()} ${example}`)
}

/**
 * An option whose text is read by `read`; a text that it does not understand is a usage fault.
 * @param expected what the fault says was expected
 */
export function reading<T>(flags: string, description: string, read: (text: string) => T | null, expected: string): Option {
  const option = new Option(flags, description)
  return option.argParser((text) => {
    const value = read(text)
    if (value === null) throw new UsageFault(`${option.long ?? option.short} expected ${expected}, got "${text.slice(0, 60)}"`)
    return value
  })
}

/**
 * Refuses options that are typed where they have nothing to say. From a profile they may come all the same: they are for another time.
 * @param names of their attributes
 * @param company what they go with
 * @throws {UsageFault}
 */
export function refuseIdle(command: Command, names: readonly string[], company: string): void {
  const isTyped = (option: Option) => command.getOptionValueSource(option.attributeName()) === 'cli'
  const idle = command.options.find((option) => names.includes(option.attributeName()) && isTyped(option))
  if (idle) throw new UsageFault(`${idle.long} goes with ${company}`)
}

/** Reads a whole number within bounds. */
export function whole(low: number, high: number): (text: string) => number | null {
  return (text) => (/^\d{1,9}$/.test(text) && Number(text) >= low && Number(text) <= high ? Number(text) : null)
}
