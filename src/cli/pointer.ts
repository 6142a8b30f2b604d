import type { Command } from 'commander'

/* Where a usage fault points to: the help of the command whose words are being read, or that runs. */

let current: Command | undefined

/** From now on, usage faults point to the help of this command. */
export function pointTo(command: Command): void {
  current = command
}

/** What to do about a usage fault that has no hint of its own. */
export function pointer(): string | undefined {
  return current && `see "${pathOf(current)} --help"`
}

/** The name of a command, behind those of its parents. */
export function pathOf(command: Command): string {
  return command.parent ? `${pathOf(command.parent)} ${command.name()}` : command.name()
}
