import { once } from 'node:events'
import { text } from 'node:stream/consumers'
import { spawn } from '../../system/child-process'

/**
 * What this program prints with other arguments, in a process of its own: who works in the keyring may begin again as its owner (see asOwner).
 * Its warnings and errors are printed already.
 */
export async function printedByItself(args: readonly string[]): Promise<{ code: number; printed: string }> {
  const argv = [...process.execArgv, process.argv[1] ?? '', ...args]
  const child = spawn(process.execPath, argv, { stdio: ['ignore', 'pipe', 'inherit'] })
  const [printed, [code]] = await Promise.all([text(child.stdout), once(child, 'close')])
  return { code: code ?? 1, printed }
}
