import type { Option } from 'commander'
import { placeOf } from '../../client/place'
import type { Outgoing } from '../../client/sending'
import { parseTimeSource } from '../../client/time-source'
import type { WaitResult } from '../../client/wait-result'
import type { KeyFile } from '../../keys/key-file'
import { reading } from '../options'
import { complain, EXIT, hintAt, noteOf, warnOf } from '../voice'
import { type AimOptions, NAME } from './aim'
import { outcomesOf } from './outcome'
import type { Ready } from './ready'

/* What is said where not all has opened, whichever command has knocked. */

export interface WaitOptions extends AimOptions {
  wait?: number
  timeSource?: URL
}

/** The option that names whom to ask for the time. */
export function timeSourceOption(): Option {
  const description = 'server to check the clock against when --wait runs out'
  return reading('--time-source <url>', description, parseTimeSource, 'ntp://HOST or https://HOST')
}

/**
 * Reports how the ports have ended where not all have opened, and behind it what can be found out about the reason: on standard error alone.
 * @param by the knocks that were in vain
 * @param also what else is known; null: nothing
 * @returns the exit code
 */
export async function reportUnopened(
  { wait, quiet, timeSource, ipv6 = false }: WaitOptions,
  key: KeyFile,
  { host, address, outgoing: [{ sending, sequence }] }: Ready<Outgoing>,
  result: WaitResult,
  also: string | null,
): Promise<number> {
  complain(NAME, `${placeOf(host, address)} ${outcomesOf(result.outcomes, wait ?? 0)}`)
  const code = result.isFinal ? EXIT.failure : EXIT.timeLimit
  if (quiet) return code
  const { diagnose } = await import('../../client/diagnosis')
  const found = await diagnose({ host, address, key, sequence, isOnly6: ipv6 }, result, sending, timeSource)
  // First what was seen, then what is not known, and last, where the eye is, what to do.
  const notes = [...found.map(({ seen }) => seen), also, ...found.map(({ unknown }) => unknown)]
  for (const note of notes) if (note) noteOf(NAME, note)
  for (const hint of new Set(found.map(({ hint }) => hint))) if (hint) hintAt(hint)
  return code
}

/**
 * Says what the touches of a knock have come back with that nobody waits for: a server that hears it is silent.
 * @param ways what to try in the place of touching ports by TCP
 */
export async function warnOfTouches({ quiet }: AimOptions, touched: ReadonlySet<string>, ways?: string): Promise<void> {
  if (quiet || touched.size === 0) return
  const { OTHER_WAYS, ofTouches } = await import('../../client/diagnosis')
  for (const { seen, hint } of ofTouches(touched, ways ?? OTHER_WAYS)) {
    if (seen) warnOf(NAME, seen)
    if (hint) hintAt(hint)
  }
}
