import type { ChildProcess } from 'node:child_process'
import { constants } from 'node:os'
import { spawn } from '../system/child-process'
import { Fault, reason } from '../system/fault'

/** What is meant for the command. From a terminal, the first two reach it without us. */
const SIGNALS = ['SIGINT', 'SIGQUIT', 'SIGHUP', 'SIGTERM', 'SIGUSR1', 'SIGUSR2'] as const
const OF_TERMINAL: readonly string[] = SIGNALS.slice(0, 2)

/**
 * Runs a command as if it were in our place; without execa, which would cost every start of the client 5 ms and has nothing to do here.
 * @returns its exit code, or 128 and the number of the signal that ended it
 * @throws {Fault} where it can't be run
 */
export function runCommand([program, ...args]: readonly string[]): Promise<number> {
  return new Promise((resolve, reject) => {
    let child: ChildProcess | undefined
    // Before it is there: a signal may come as soon as it has said its first word.
    for (const signal of SIGNALS)
      process.on(signal, () => {
        if (!(OF_TERMINAL.includes(signal) && process.getBuiltinModule('node:tty').isatty(0))) child?.kill(signal)
      })
    child = spawn(program, args, { stdio: 'inherit' })
    child.on('error', (error) =>
      reject(new Fault(`${program}: cannot be run: ${reason(error)}`, { hint: 'check that it is installed, and in PATH' })),
    )
    child.on('exit', (code, signal) => resolve(code ?? 128 + constants.signals[signal as NodeJS.Signals]))
  })
}
