import { guardOfNow } from '../daemon/bridges'
import { beginTry, endTry, readTried, TABLE, type Tried } from '../daemon/nftables/tried'
import { findCommand } from '../system/commands'
import { Fault } from '../system/fault'
import { wholeConfig } from './config'

/**
 * Counts what the guard of a config would drop, and drops nothing. It needs nft, whatever the backend.
 * @param file the daemon's config
 * @param signal ends it
 * @param began told when it counts
 * @returns what was counted, the most first
 * @throws {Fault} where the config guards nothing, another one counts, or the kernel can't
 */
export async function tryGuard(file: string, signal: AbortSignal, began: () => void): Promise<Tried[]> {
  const { firewall } = await wholeConfig(file)
  if (firewall.guard.ports.length === 0)
    throw new Fault(`${file}: nothing is guarded`, { hint: 'set guard = ["22/tcp"] or guard = "all" in [firewall]' })
  await findCommand('nft')
  if (!(await beginTry(guardOfNow(firewall.guard))))
    throw new Fault(`table ${TABLE} is there: another "guard try" is counting, or was killed`, {
      hint: `wait for its end; or, where none runs, run "nft delete table ${TABLE}"`,
    })
  try {
    began()
    await new Promise<void>((resolve) => {
      if (signal.aborted) resolve()
      signal.addEventListener('abort', () => resolve(), { once: true })
    })
    return (await readTried()).sort((a, b) => b.packets - a.packets)
  } finally {
    await endTry()
  }
}
