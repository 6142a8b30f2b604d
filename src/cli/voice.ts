import { CommanderError } from 'commander'
import { Fault, printable, UsageFault } from '../host/fault'

/* The command line's one voice: lower case, one line a fault, no final period. */

export const EXIT = { ok: 0, failure: 1, usage: 2, timeLimit: 3 } as const

/** Says a fault on standard error. */
export function complain(program: string, message: string): void {
  process.stderr.write(`${program}: error: ${printable(message)}\n`)
}

/** Says faults on standard error. @returns the exit code of a failure, or of success where there are none */
export function failWith(program: string, faults: readonly Fault[]): number {
  for (const { message } of faults) complain(program, message)
  return faults.length > 0 ? EXIT.failure : EXIT.ok
}

/** Says what is no fault but should be known, on standard error. */
export function warnOf(program: string, message: string): void {
  process.stderr.write(`${program}: warning: ${printable(message)}\n`)
}

/** Says what was found out about a fault, behind it. */
export function noteOf(program: string, message: string): void {
  process.stderr.write(`${program}: note: ${printable(message)}\n`)
}

/** Prints rows as columns of one width each. */
export function printTable(rows: readonly (readonly string[])[]): void {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)))
  for (const row of rows) {
    const cells = row.map((cell, column) => printable(cell).padEnd(widths[column]))
    process.stdout.write(`${cells.join('  ').trimEnd()}\n`)
  }
}

/**
 * Runs a program's main function and turns what it throws into one line and an exit code: 2 for usage, 1 for failure.
 * Where a start-up snapshot is being built, the program runs when that is started, not now.
 * @param main resolves to the exit code
 */
export async function runProgram(program: string, main: () => Promise<number>): Promise<void> {
  // Only src/usb/build.mjs sets it: to load node:v8 costs every start 2 ms.
  const { startupSnapshot } = process.env.KNOCKTURN_SNAPSHOT ? process.getBuiltinModule('node:v8') : {}
  if (startupSnapshot?.isBuildingSnapshot()) startupSnapshot.setDeserializeMainFunction(() => runNow(program, main))
  else await runNow(program, main)
}

async function runNow(program: string, main: () => Promise<number>): Promise<void> {
  // A reader that has gone away (`| head`) is no failure of ours.
  process.stdout.on('error', () => process.exit(EXIT.failure))
  try {
    process.exitCode = await main()
  } catch (error) {
    // Commander has said what it had to say.
    if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? EXIT.ok : EXIT.usage
    else if (error instanceof Fault) {
      complain(program, error.message)
      process.exitCode = error instanceof UsageFault ? EXIT.usage : EXIT.failure
    } else throw error
  }
}
