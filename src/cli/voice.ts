import { CommanderError, Option } from 'commander'
import { Fault, printable, TimeFault, UsageFault } from '../system/fault'
import { tell } from '../system/tell'
import { pointer } from './pointer'

/* The command line's one voice: lower case, one line for a fault and one for what to do, no final period. */

export const EXIT = { ok: 0, failure: 1, usage: 2, timeLimit: 3 } as const

/** Prints a fault on standard error, and below it what to do: here and below, or where {@link tell} prints instead. */
export function complain(program: string, message: string, hint?: string): void {
  tell(`${program}: error: ${printable(message)}\n`)
  if (hint !== undefined) hintAt(hint)
}

/** Prints faults on standard error. @returns the exit code of a failure, or of success where there are none */
export function failWith(program: string, faults: readonly Fault[]): number {
  for (const { message, hint } of faults) complain(program, message, hint)
  return faults.length > 0 ? EXIT.failure : EXIT.ok
}

/** Prints on standard error what is no fault but should be known. */
export function warnOf(program: string, message: string): void {
  tell(`${program}: warning: ${printable(message)}\n`)
}

/** Prints what to do about a fault, below it. */
export function hintAt(message: string): void {
  tell(`hint: ${printable(message)}\n`)
}

/** Prints what else is known about a fault, below that. */
export function noteOf(program: string, message: string): void {
  tell(`${program}: note: ${printable(message)}\n`)
}

/** Prints what is under way, with the time since it began. */
export function tellAt(milliseconds: number, message: string): void {
  tell(`${String(Math.round(milliseconds)).padStart(6)} ms  ${printable(message)}\n`)
}

/** Prints a document of JSON, over several lines, without what plays tricks on a terminal. */
export function printJson(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value, null, 2).split('\n').map(printable).join('\n')}\n`)
}

/** The option for a document of JSON in the place of words. */
export const jsonOption = (description = 'print JSON'): Option => new Option('--json', description)

/** Prints rows as columns of one width each. */
export function printTable(rows: readonly (readonly string[])[]): void {
  for (const line of tableLines(rows)) process.stdout.write(`${line}\n`)
}

/** Rows as lines, with columns of one width each; none of none. */
export function tableLines(rows: readonly (readonly string[])[]): string[] {
  const shown = rows.map((row) => row.map(printable))
  const widths = (shown[0] ?? []).map((_, column) => shown.reduce((most, row) => Math.max(most, row[column].length), 0))
  return shown.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column]))
      .join('  ')
      .trimEnd(),
  )
}

/**
 * Runs a program's main function and turns what it throws into a message and an exit code: 2 for usage, 3 for time that has run out, 1 for other failure.
 * Where a start-up snapshot is being built, the program runs when that is started, not now.
 * @param main resolves to the exit code
 */
export async function runProgram(program: string, main: () => Promise<number>): Promise<void> {
  // Only src/usb/build.mjs sets it: to load node:v8 costs every start 2 ms.
  const { startupSnapshot } = process.env.KNOCKTURN_SNAPSHOT ? process.getBuiltinModule('node:v8') : {}
  if (startupSnapshot?.isBuildingSnapshot()) {
    startupSnapshot.setDeserializeMainFunction(() => runNow(program, main))
    // Where the builder's Node lies is nobody's business: a home folder has a name. At its start Node sets both anew.
    process.execPath = ''
    process.argv[0] = ''
  } else await runNow(program, main)
}

async function runNow(program: string, main: () => Promise<number>): Promise<void> {
  // As bin/launch.cjs, which the executable has not: Node would open its inspector to every user of the machine.
  process.on('SIGUSR1', () => {})
  // Node prints its warnings (a deprecation, a timer of less than 0) in a form of its own: they are for developers, who see them in the tests.
  process.removeAllListeners('warning')
  // A reader that has gone away (`| head`) is no failure of ours.
  process.stdout.on('error', () => process.exit(EXIT.failure))
  try {
    process.exitCode = await main()
  } catch (error) {
    // Commander has printed its message.
    if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? EXIT.ok : EXIT.usage
    else if (error instanceof Fault) process.exitCode = failBy(program, error)
    else throw error
  }
}

/** Prints a fault that ends a command. @returns the exit code */
export function failBy(program: string, fault: Fault): number {
  complain(program, fault.message, fault.hint ?? (fault instanceof UsageFault ? pointer() : undefined))
  return codeOf(fault)
}

function codeOf(fault: Fault): number {
  if (fault instanceof UsageFault) return EXIT.usage
  return fault instanceof TimeFault ? EXIT.timeLimit : EXIT.failure
}
