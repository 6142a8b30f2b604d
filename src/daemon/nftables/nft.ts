import { feed, run } from '../../system/commands'
import { TABLE } from './elements'

/* How nft is asked and told. */

/** Our table as words of a command. */
export const TABLE_WORDS: readonly string[] = TABLE.split(' ')

/** Lines as a script for {@link load}. */
export const scriptOf = (lines: readonly string[]): string => `${lines.join('\n')}\n`

/** Applies a script in one transaction: all of it or nothing, by nft's exit code. @throws {CommandFault} where it is not applied */
export function load(script: string): Promise<void> {
  return feed('nft', ['-f', '-'], script)
}

/** Has nft and the kernel look at a script, and change nothing. @throws {CommandFault} where they would not apply it */
export function check(script: string): Promise<void> {
  return feed('nft', ['-c', '-f', '-'], script)
}

/** The rules of all tables, in JSON, without the elements of sets, of which there may be very many. @throws {Fault} where they can't be read */
export function listRuleset(): Promise<string> {
  return run('nft', ['-j', '-t', 'list', 'ruleset'])
}
