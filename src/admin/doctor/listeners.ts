import { Finding } from '../../daemon/checks/finding'
import { lookForStrangers } from '../../daemon/exposure/look'
import type { Exposure } from '../../daemon/exposure/text'
import { type Guarded, guards } from '../../daemon/guard'
import { formatService } from '../../protocol/service'
import type { Check } from '../../system/check'
import { listed } from '../../system/fault'
import { findListeners, holderOf, type Listener, type Listeners } from '../setup/listeners'

/* What listens here and no guard shuts. */

/** Services that are named in one line. */
const NAMED = 8

/** Checks what listens unguarded. @param guard the ports of the guard */
export async function checkListeners(guard: readonly Guarded[]): Promise<readonly Check[]> {
  const found = new Finding('listeners')
  const listeners = await found.look(findListeners)
  if (listeners === null) return found.end('')
  const unguarded = listeners.found.filter(({ service }) => !guards(guard, service))
  // The rules of others may shut them.
  const exposure = await found.look(() => lookForStrangers(unguarded.map(({ service }) => service)))
  return exposure === null ? found.end('') : judgeListeners(listeners, unguarded, exposure)
}

/**
 * Judges what listens.
 * @param unguarded those of the listeners that the guard does not shut
 * @param exposure which of these strangers reach by all other rules
 */
export function judgeListeners(
  { found: all, unknown }: Listeners,
  unguarded: readonly Listener[],
  exposure: Exposure,
): readonly Check[] {
  const found = new Finding('listeners')
  const named = ({ service }: Listener, lines: readonly string[]) =>
    lines.some((line) => new RegExp(`(^|[ ])${formatService(service)} `).test(line))
  const name = (one: Listener) => `${formatService(one.service)} (${holderOf(one)})`
  const open = unguarded.filter((one) =>
    named(
      one,
      exposure.open.map(({ message }) => message),
    ),
  )
  const doubtful = unguarded.filter((one) => !open.includes(one) && (one.publisher !== null || named(one, exposure.unknown)))
  if (open.length > 0)
    found.felt(
      `open to everyone, without a knock: ${listed(open.map(name), NAMED)}`,
      `where that is not meant, add ${listed(
        open.map(({ service }) => `"${formatService(service)}"`),
        NAMED,
      )} to guard in [firewall], or stop the program; with guard = "all", take it out of public`,
    )
  if (doubtful.length > 0)
    found.unknown(
      `not guarded, and other rules decide who reaches it: ${listed(doubtful.map(name), NAMED)}`,
      'try it from another machine: "nc -vz HOST PORT"',
    )
  for (const line of unknown) found.unknown(line)
  const general = exposure.unknown.filter((line) => !unguarded.some((one) => named(one, [line])))
  for (const line of general) found.unknown(line)
  return found.end(
    all.length === 0
      ? 'nothing listens but on loopback'
      : `${all.length} services listen, all of them guarded or shut by other rules`,
  )
}
