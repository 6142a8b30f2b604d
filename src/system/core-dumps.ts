import { readFileSync } from 'node:fs'
import { spawnSync } from './child-process'
import { commandPath, missing } from './commands'
import { errorCode, inOneLine } from './fault'

/** Milliseconds that prlimit may take. */
const TIME_LIMIT = 5_000

/**
 * Sees to it that no crash writes our memory to a disk, with the keys in it. Node can't do that by itself: it costs a process,
 * but only where the limit is not 0 already. That is started without execa, which a client has no other use for and would load at each start.
 * @param warn told where it can't be done
 */
export function forbidCoreDumps(warn: (message: string) => void): void {
  try {
    // A program that the kernel hands dumps to gets them whatever the limit is, unless that is 1: not even a page.
    const [, limit] = /^Max core file size +(\S+)/m.exec(readFileSync('/proc/self/limits', 'latin1')) ?? []
    const isPiped = readFileSync('/proc/sys/kernel/core_pattern', 'latin1').startsWith('|')
    if (limit === '1' || (limit === '0' && !isPiped)) return
  } catch {
    // Only Linux has them, and prlimit.
    return
  }
  const { error, status, stderr } = spawnSync('prlimit', ['--pid', String(process.pid), '--core=1:1'], {
    env: { PATH: commandPath() },
    stdio: ['ignore', 'ignore', 'pipe'],
    encoding: 'utf8',
    timeout: TIME_LIMIT,
  })
  if (status === 0) return
  const why = errorCode(error) === 'ENOENT' ? missing('prlimit') : (error ?? new Error(stderr.trim() || 'prlimit failed'))
  warn(`a crash may leave the keys in a core dump: ${inOneLine(why)}`)
}
