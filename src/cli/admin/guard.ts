import type { Command } from 'commander'
import { subcommand } from '../options'
import { addTry } from './guard-try'

/** Gives knockturn the commands of the guard. */
export function addGuard(parent: Command): void {
  const guard = subcommand(parent, 'guard', 'try the guard', 'guard try')
  addTry(guard)
}
